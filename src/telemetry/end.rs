//! Why a connection ended: before it was a session, or after.

use super::table::Labelled;

/// The reasons that a connection ends for; [`Self::explanation`] says each in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    // The connection itself.
    PeerClosed,
    ReadError,
    WriteError,
    // Before there is a session.
    GuardRefused,
    ProxyHeader,
    Garbage,
    HelloTooLong,
    HelloDeadline,
    /// Its HELLO had not come, and a newcomer needed the room.
    Crowded,
    HelloUnsealable,
    HelloRetired,
    HelloMalformed,
    HelloSignature,
    HelloReplayed,
    WeakKey,
    // What the gateway sent.
    BadHeader,
    UnexpectedCommand,
    FrameTooLong,
    BadMac,
    TooManyEarlyFrames,
    BadMessage,
    ShareFlood,
    RefusedShares,
    // What it did not do.
    FrameDeadline,
    Silent,
    UnsentOutput,
    // The pool's own doing.
    Displaced,
    Unproved,
    /// It never had a share accepted, and a newcomer needed its place.
    Idle,
    GatewayMemory,
    ForgottenDuplicates,
    MemoryLimit,
    ShardFull,
    DeniedAddress,
    DeniedAgent,
    DeniedVersion,
    NoRandomness,
    NoPrimeId,
    Drained,
    // Stays last: the assertion below counts by it.
    PoolFailed,
}

const _: () = assert!(
    EndReason::PoolFailed as usize + 1 == EndReason::ALL.len(),
    "a reason is missing in ALL"
);

impl EndReason {
    pub const ALL: [Self; 40] = [
        Self::PeerClosed,
        Self::ReadError,
        Self::WriteError,
        Self::GuardRefused,
        Self::ProxyHeader,
        Self::Garbage,
        Self::HelloTooLong,
        Self::HelloDeadline,
        Self::Crowded,
        Self::HelloUnsealable,
        Self::HelloRetired,
        Self::HelloMalformed,
        Self::HelloSignature,
        Self::HelloReplayed,
        Self::WeakKey,
        Self::BadHeader,
        Self::UnexpectedCommand,
        Self::FrameTooLong,
        Self::BadMac,
        Self::TooManyEarlyFrames,
        Self::BadMessage,
        Self::ShareFlood,
        Self::RefusedShares,
        Self::FrameDeadline,
        Self::Silent,
        Self::UnsentOutput,
        Self::Displaced,
        Self::Unproved,
        Self::Idle,
        Self::GatewayMemory,
        Self::ForgottenDuplicates,
        Self::MemoryLimit,
        Self::ShardFull,
        Self::DeniedAddress,
        Self::DeniedAgent,
        Self::DeniedVersion,
        Self::NoRandomness,
        Self::NoPrimeId,
        Self::Drained,
        Self::PoolFailed,
    ];

    /// For metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::ReadError => "read_error",
            Self::WriteError => "write_error",
            Self::GuardRefused => "guard_refused",
            Self::ProxyHeader => "proxy_header",
            Self::Garbage => "garbage",
            Self::HelloTooLong => "hello_too_long",
            Self::HelloDeadline => "hello_deadline",
            Self::Crowded => "crowded",
            Self::HelloUnsealable => "hello_unsealable",
            Self::HelloRetired => "hello_retired",
            Self::HelloMalformed => "hello_malformed",
            Self::HelloSignature => "hello_signature",
            Self::HelloReplayed => "hello_replayed",
            Self::WeakKey => "weak_key",
            Self::BadHeader => "bad_header",
            Self::UnexpectedCommand => "unexpected_command",
            Self::FrameTooLong => "frame_too_long",
            Self::BadMac => "bad_mac",
            Self::TooManyEarlyFrames => "too_many_early_frames",
            Self::BadMessage => "bad_message",
            Self::ShareFlood => "share_flood",
            Self::RefusedShares => "refused_shares",
            Self::FrameDeadline => "frame_deadline",
            Self::Silent => "silent",
            Self::UnsentOutput => "unsent_output",
            Self::Displaced => "displaced",
            Self::Unproved => "unproved",
            Self::Idle => "idle",
            Self::GatewayMemory => "gateway_memory",
            Self::ForgottenDuplicates => "forgotten_duplicates",
            Self::MemoryLimit => "memory_limit",
            Self::ShardFull => "shard_full",
            Self::DeniedAddress => "denied_address",
            Self::DeniedAgent => "denied_agent",
            Self::DeniedVersion => "denied_version",
            Self::NoRandomness => "no_randomness",
            Self::NoPrimeId => "no_prime_id",
            Self::Drained => "drained",
            Self::PoolFailed => "pool_failed",
        }
    }

    /// The INFO line that says so in the gateway's own log, below the bytes that INFO carries.
    ///
    /// None where there is no session yet to send it in, where nobody would read it, and where the gateway has been
    /// told already.
    #[must_use]
    pub fn line_for_gateway(self) -> Option<&'static str> {
        match self {
            Self::BadHeader | Self::UnexpectedCommand => {
                Some("the pool read what is no frame of a gateway and closes; if it happens again, update the gateway")
            }
            Self::FrameTooLong => {
                Some("a frame is longer than the pool takes and the session closes; update the gateway")
            }
            Self::BadMac => {
                Some("a frame does not open with this session's key and the session closes; reconnecting mends it")
            }
            Self::TooManyEarlyFrames => {
                Some("too many shares came that were meant for an earlier session; reconnecting mends it")
            }
            Self::BadMessage => Some("the pool cannot read a message of this gateway and closes; update the gateway"),
            Self::ShareFlood => Some(
                "far more shares came than a gateway at this difficulty finds and the session closes; check the gateway",
            ),
            Self::RefusedShares => {
                Some("too many shares of this session were refused and it closes; look at the reasons in this log")
            }
            Self::MemoryLimit => {
                Some("the pool is short of memory and closes this session; mine elsewhere for a while")
            }
            Self::Idle => Some(
                "the pool has no room left and no share of this session was accepted yet, so another gateway takes its place",
            ),
            Self::FrameDeadline => {
                Some("a frame was not complete within 30 s and the session closes; check the network")
            }
            Self::Silent => Some("the pool heard nothing for 150 s and closes; check the gateway's node and network"),
            Self::Displaced => Some("a newer connection of this gateway took the place of this one"),
            Self::GatewayMemory => {
                Some("the pool's memory for gateways ran out and this one took much of it; reconnecting begins anew")
            }
            Self::ForgottenDuplicates => {
                Some("the chain came back to a block that this session's work is too old for; reconnecting mends it")
            }
            Self::DeniedAddress => Some("this pool takes no gateway from this network address; ask its operator"),
            Self::DeniedAgent => Some("this pool does not take this gateway's program; ask its operator which it does"),
            Self::DeniedVersion => Some("this pool takes only newer versions of the gateway; update it"),
            Self::PoolFailed => {
                Some("the pool cannot store shares and stops; mine elsewhere until its operator has mended it")
            }
            Self::PeerClosed
            | Self::ReadError
            | Self::WriteError
            | Self::GuardRefused
            | Self::ProxyHeader
            | Self::Garbage
            | Self::HelloTooLong
            | Self::HelloDeadline
            | Self::Crowded
            | Self::HelloUnsealable
            | Self::HelloRetired
            | Self::HelloMalformed
            | Self::HelloSignature
            | Self::HelloReplayed
            | Self::Unproved
            | Self::WeakKey
            | Self::UnsentOutput
            | Self::ShardFull
            | Self::NoRandomness
            | Self::NoPrimeId
            | Self::Drained => None,
        }
    }

    /// What happened, and what the pool's operator can do about it.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::PeerClosed => "the gateway closed the connection",
            Self::ReadError => "the connection broke while it was read; the network, or the gateway's process ended",
            Self::WriteError => {
                "the connection broke while it was written; the network, or the gateway's process ended"
            }
            Self::GuardRefused => "a guard turned the connection away; `millrace_guard_refused_total` says which",
            Self::ProxyHeader => "no PROXY header, version 2, from an address in `guards.proxies`; look at the proxy",
            Self::Garbage => "what came first is no frame of a gateway; a scan, or something else aimed at this port",
            Self::HelloTooLong => "HELLO is longer than that of any gateway; a scan, or an unknown gateway",
            Self::Crowded => {
                "its HELLO had not come when a newcomer found no room for its handshake; a scan, or an attack"
            }
            Self::HelloDeadline => "HELLO was not complete within 10 s; a scan, or packets that get lost",
            Self::HelloUnsealable => "HELLO is sealed to another key; give the gateway this pool's `pool_pubkey`",
            Self::HelloRetired => {
                "HELLO is sealed to a key that was retired; its gateway needs the newest one (`millrace keys show`)"
            }
            Self::HelloMalformed => "HELLO opens, but is none; an unknown gateway",
            Self::HelloSignature => "HELLO is not signed by the key that it names; an unknown gateway, or a forgery",
            Self::WeakKey => "no secret can be agreed with the key in HELLO; an unknown gateway, or an attack",
            Self::BadHeader => "a header that no gateway sends; bytes were lost or added, or an unknown gateway",
            Self::UnexpectedCommand => "a command that no gateway sends so; bytes were lost, or an unknown gateway",
            Self::FrameTooLong => "a frame above the limit; an unknown gateway, or an attack",
            Self::BadMac => "a frame under another key than the session's; bytes were lost, or somebody changes them",
            Self::TooManyEarlyFrames => "more early frames than the pool passes over; the gateway reconnects by itself",
            Self::BadMessage => "a frame opens, but holds no message of the protocol; an unknown gateway",
            Self::ShareFlood => {
                "far more shares than a gateway at the session's difficulty finds, and no slower when it was not read"
            }
            Self::RefusedShares => "more shares were refused than any honest gateway's; a broken gateway, or an attack",
            Self::FrameDeadline => {
                "a frame, or 64 KiB of a large one, was not complete within 30 s; a network that stalls, or an attack"
            }
            Self::Silent => "the gateway said nothing for 150 s; it lost its network, or its node is stuck",
            Self::UnsentOutput => "the gateway did not take what the pool sent; it is stuck, or its network too slow",
            Self::Displaced => "a newer session of the same gateway sent its first frame",
            Self::GatewayMemory => "memory for gateways ran out, and this one's parents and shares took more than most",
            Self::ForgottenDuplicates => {
                "a node came back to an old block, on which the session's work may be a duplicate; it needs a new session"
            }
            Self::DeniedAddress => "the policy denies the address; `millrace policy show` says by which rule",
            Self::DeniedAgent => "the policy denies the gateway's program; `millrace policy show` says by which rule",
            Self::DeniedVersion => "the policy wants a newer gateway; `millrace policy show` says which",
            Self::HelloReplayed => {
                "a HELLO that was used before: somebody sends what was recorded of a gateway; it harms nobody"
            }
            Self::Unproved => {
                "more connections of one gateway than it needs waited for its first message; the oldest went"
            }
            Self::Idle => {
                "no share of it was accepted, and a newcomer found no room; look who holds so many, or raise the limit"
            }
            Self::MemoryLimit => {
                "the process is at `guards.memory_limit_bytes`; raise it, or look at what takes memory"
            }
            Self::ShardFull => "the shard is at one of its bounds; `millrace_bound_hits_total` says which",
            Self::NoRandomness => "the system gave no randomness for a session key; look at the host",
            Self::NoPrimeId => "the ledger has no unused prime id left; begin a new ledger",
            Self::Drained => "the pool was told to stop",
            Self::PoolFailed => "the ledger failed and nothing can be accepted; the log says why",
        }
    }
}

impl Labelled for EndReason {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        self.label()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::table::tests::check_keys;

    #[test]
    fn reasons_are_dense_and_labels_differ() {
        check_keys::<EndReason>();
    }

    #[test]
    fn each_reason_is_explained_in_its_own_words() {
        let explanations: BTreeSet<_> = EndReason::ALL.iter().map(|reason| reason.explanation()).collect();
        assert_eq!(explanations.len(), EndReason::ALL.len());
    }

    #[test]
    fn a_line_for_the_gateway_fits_its_log() {
        for reason in EndReason::ALL {
            if let Some(line) = reason.line_for_gateway() {
                assert!(
                    line.len() < 256 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                    "{line}"
                );
            }
        }
        assert!(EndReason::PoolFailed.line_for_gateway().is_some());
        assert!(
            EndReason::Garbage.line_for_gateway().is_none(),
            "there is no channel to say it in"
        );
    }
}
