//! What shards hand to the writer.

use crate::wire::{ChannelKey, PublicKeys};
use crate::work::{BlockFacts, Booking, Candidate, PinnedSplit, Terms};

/// One entry of a shard's ring. Entries of one shard become durable in the order they were pushed.
#[derive(Debug)]
pub enum Entry {
    /// A session begins: durable before its CONFIG leaves, so that no `prime_id` that left is ever given again. With the key of
    /// its channel, since early frames of its gateway's next session come under it, proved or not (protocol section 2); new terms
    /// of a session that is proved come without. In a box, so that no copy of it stays behind in the ring.
    Session(Box<SessionRow>, Option<Box<ChannelKey>>),
    /// Something became of a session.
    Mark(SessionMark),
    /// The shard numbered a username. Comes before the first share that names it.
    Miner {
        /// As the shard numbers them: dense, from 0. One that it gave before means another from here on.
        local: u32,
        miner: Box<MinerRow>,
    },
    /// A hash met the network target.
    Candidate(Box<CandidateRow>),
    /// A split is dictated: durable before it leaves, so that work that pays it counts after a restart too.
    Split(Box<SplitRow>),
    /// An accepted share.
    Share(ShareEntry),
    /// A share that counts if its parent, which no node of ours has seen, turns out to be as it says.
    Waiting(Box<WaitingEntry>),
}

impl Entry {
    /// Terms without a channel key of their own.
    #[must_use]
    pub fn session(row: SessionRow) -> Self {
        Self::Session(Box::new(row), None)
    }
}

/// A share that waits for its parent. It stands in no window until it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingEntry {
    pub share: ShareEntry,
    pub facts: BlockFacts,
}

/// A split as it is dictated to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitRow {
    pub prime_id: u32,
    /// 1 to 255.
    pub coinbaser_id: u8,
    /// Satoshi.
    pub value: u64,
    pub parent: [u8; 32],
    pub split: PinnedSplit,
    /// Seconds since 1970.
    pub time_s: u64,
}

/// An accepted share, as its shard knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareEntry {
    pub prime_id: u32,
    /// The first 8 bytes of the header's hash, little-endian: what duplicates are known by.
    pub hash64: u64,
    /// Internal byte order.
    pub parent: [u8; 32],
    /// The share counts as `2^pot` work.
    pub pot: u8,
    /// The number of the username on this shard.
    pub miner: u32,
    /// When it was judged, ms since 1970.
    pub time_ms: u64,
    /// When it was pushed, by [`super::monotonic_ns`].
    pub enqueued_ns: u64,
}

/// A session and the terms that its CONFIG names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The gateway's long-term keys.
    pub gateway: PublicKeys,
    pub terms: Terms,
    /// Ms since 1970.
    pub opened_ms: u64,
    /// What the HELLO that began it is known by ([`hello_name`]); none in rows of before this was written.
    pub hello: Option<HelloName>,
}

/// The first bytes of the session key in a HELLO. A gateway makes one anew for each and signs it, so nobody else can have two
/// HELLOs of it that are called the same.
pub type HelloName = [u8; 8];

/// What a HELLO with this Ed25519 session key is known by.
#[must_use]
pub fn hello_name(session_ed25519: &[u8; 32]) -> HelloName {
    session_ed25519[..8].try_into().expect("8 of 32 bytes")
}

impl SessionRow {
    #[must_use]
    pub fn new(gateway: &PublicKeys, terms: &Terms, opened_ms: u64) -> Self {
        Self {
            gateway: *gateway,
            terms: terms.clone(),
            opened_ms,
            hello: None,
        }
    }

    /// Begun by a HELLO with this Ed25519 session key.
    #[must_use]
    pub fn begun_by(self, session_ed25519: &[u8; 32]) -> Self {
        Self {
            hello: Some(hello_name(session_ed25519)),
            ..self
        }
    }
}

/// What became of a session.
#[derive(Debug, Clone)]
pub struct SessionMark {
    pub prime_id: u32,
    pub mark: Mark,
    /// Ms since 1970.
    pub time_ms: u64,
}

/// The marks of a session; without the first its work counts only once its gateway proves another.
#[derive(Debug, Clone)]
pub enum Mark {
    /// Its first frame under its own key came: it is the gateway's, not a replay.
    Proven {
        /// That of [`Entry::Session`], where it could not be kept by then.
        key: Box<ChannelKey>,
        /// The session whose key is not needed any more.
        replaces: Option<u32>,
        /// Sessions before it that nobody had proved, of a former process too ([`super::Unproved`]): they are the gateway's now.
        adopts: Vec<u32>,
    },
    /// The same of such sessions before this one is proved: a frame has come under a key that only the gateway has.
    Adopted { adopts: Vec<u32> },
    /// It ended. `has_work`: a share of its gateway was ever accepted; keys of others give their places up for such.
    Ended { has_work: bool },
    /// Nobody can work under it any more, and no share was made under it: nobody proved it, and nobody can, or its shard has
    /// forgotten its terms. Nothing of it is kept, but where audits or the books ask for it (`lasting.rs`); its id is not given again.
    Abandoned,
}

/// Whom a username means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinerRow {
    /// The payee: an output script.
    pub script: Box<[u8]>,
    /// What follows the first dot of the username; may be empty.
    pub worker: Box<[u8]>,
}

/// A candidate and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateRow {
    pub candidate: Candidate,
    /// The gateway's long-term Ed25519 key; zeros where it is not known.
    pub gateway: [u8; 32],
    /// Ms since 1970.
    pub time_ms: u64,
    /// Whether a share announced it. Else the chain has it, and nobody here has said so.
    pub announced: bool,
    /// When its share's frame was complete, by [`super::monotonic_ns`]. Not on disk: none of a former process.
    pub complete_ns: Option<u64>,
}

impl CandidateRow {
    /// Of a share.
    #[must_use]
    pub fn new(candidate: Candidate, gateway: [u8; 32], time_ms: u64) -> Self {
        Self {
            candidate,
            gateway,
            time_ms,
            announced: true,
            complete_ns: None,
        }
    }

    /// The same, of a frame that was complete at `complete_ns`.
    #[must_use]
    pub fn of_frame(self, complete_ns: u64) -> Self {
        Self {
            complete_ns: Some(complete_ns),
            ..self
        }
    }

    /// Whether it is booked without the operator: what no share announced may be anybody's.
    #[must_use]
    pub fn books_itself(&self) -> bool {
        self.announced && !self.keeps_to_no_split()
    }

    /// The operator alone may book it, since its coinbase is not one that was dictated.
    #[must_use]
    pub fn keeps_to_no_split(&self) -> bool {
        matches!(self.candidate.booking, Booking::ByHand { .. })
    }
}

/// Up to where the chain was looked through for blocks of ours that no share announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    /// As hashed.
    pub hash: [u8; 32],
    pub height: u32,
}
