//! Work as a gateway makes it, every part of which a test can bend; and the pool's side of one session.

use sha2::{Digest, Sha256};

pub use crate::wire::ExtranoncePlace as Place;
use crate::wire::{
    CoinbaseDraft, CoinbaseSection, CutCoinbase, Flags, JobSection, Reason, SUBSIDY_ONLY_ID, Share, commitment_script,
};
use crate::work::{Chain, Context, GatewayMemory, Jobs, Judged, MinDiff, Miners, OwnTemplate, Terms, judge};

pub const NOW_S: u64 = 1_750_000_000;
pub const PRIME_ID: u32 = 0x0403_0201;
pub const TAG: &[u8] = b"millrace";
pub const USERNAME: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig";
/// The least pot in the terms of [`Pool::new`], and the pot of a good share.
pub const LEAST_POT: u8 = 2;
pub const POT: u8 = 3;
const HEIGHT: u32 = 840_000;
const VALUE: u64 = 312_500_000 + 1_000_000;

/// The pool's script, P2WPKH.
pub fn script() -> Vec<u8> {
    [&[0x00, 0x14][..], &[0x77; 20]].concat()
}

pub fn terms(prime_id: u32, pot: u8) -> Terms {
    Terms::new(prime_id, &script(), TAG, MinDiff::from_pot(pot).expect("a pot"))
}

/// One session of one gateway, as the pool keeps it.
pub struct Pool {
    pub chain: Chain,
    pub miners: Miners,
    pub memory: GatewayMemory,
    pub jobs: Jobs,
    pub may_wait: bool,
    /// Of our node.
    pub own_template: Option<OwnTemplate>,
    /// The clock that splits are kept by.
    pub steady_s: u64,
}

impl Pool {
    /// Nothing is a block here.
    pub fn new() -> Self {
        Self::at_difficulty(u64::MAX)
    }

    /// Every hash but one in 65,536 is a block here.
    pub fn of_blocks() -> Self {
        Self::at_difficulty(1)
    }

    fn at_difficulty(network: u64) -> Self {
        let mut memory = GatewayMemory::new();
        memory.learn_terms(terms(PRIME_ID, LEAST_POT), NOW_S);
        Self {
            chain: Chain::dev(network),
            miners: Miners::new([5; 16], None),
            memory,
            jobs: Jobs::new(),
            may_wait: true,
            own_template: None,
            steady_s: NOW_S,
        }
    }

    pub fn judge(&mut self, draft: &Draft) -> Judged {
        let context = Context {
            chain: &self.chain,
            now_s: NOW_S,
            steady_s: self.steady_s,
            miners: &self.miners,
            may_wait: self.may_wait,
            allows_without_payouts: true,
            own_template: self.own_template,
        };
        judge(&draft.share(), &mut self.jobs, &mut self.memory, &context)
    }

    pub fn verdict(&mut self, draft: &Draft) -> Result<(), Reason> {
        self.judge(draft).verdict.map(|_| ()).map_err(|refusal| refusal.reason)
    }

    /// The gateway reconnects: its slots are empty, its memory is not.
    pub fn reconnect(&mut self) {
        self.jobs = Jobs::new();
    }
}

/// What a coinbase is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub height: u32,
    /// The content of the tag push.
    pub tag: Vec<u8>,
    pub prime_id: u32,
    /// Satoshi and script, the leftover last.
    pub payments: Vec<(u64, Vec<u8>)>,
    pub place: Place,
    pub prefix: [u8; 2],
    pub commitment: bool,
}

impl Recipe {
    pub fn good() -> Self {
        Self {
            height: HEIGHT,
            tag: [TAG, &[0]].concat(),
            prime_id: PRIME_ID,
            payments: vec![(VALUE, script())],
            place: Place::Push,
            prefix: [0xab, 0xcd],
            commitment: true,
        }
    }
}

/// A share, the job and the coinbase it is work on.
#[derive(Debug, Clone)]
pub struct Draft {
    pub job_id: u8,
    pub coinbase_id: u8,
    pub flags: u8,
    pub pot: u8,
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
    pub extranonce: Vec<u8>,
    pub username: Vec<u8>,

    pub parent: [u8; 32],
    pub target_index: u16,
    pub nbits: u32,
    pub height: u32,
    pub value: u64,
    pub coinbaser_id: u8,
    pub tx_count: u32,
    pub branches: Vec<[u8; 32]>,
    pub sends_job: bool,

    /// The id that stands in the coinbase section.
    pub section_id: u8,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
    pub sends_coinbase: bool,
}

impl Draft {
    /// Good in every part; [`Self::mined`] makes it work.
    pub fn good() -> Self {
        let mut draft = Self {
            job_id: 1,
            coinbase_id: 0,
            flags: 0,
            pot: POT,
            ntime: u32::try_from(NOW_S).expect("before 2106"),
            nonce: 0,
            version: 0x2000_0000,
            extranonce: (1..=12).collect(),
            username: USERNAME.as_bytes().to_vec(),
            parent: [0x99; 32],
            target_index: 0,
            nbits: 0x1d00_ffff,
            height: HEIGHT,
            value: VALUE,
            coinbaser_id: 0,
            tx_count: 5,
            branches: vec![[0x21; 32], [0x22; 32], [0x23; 32]],
            sends_job: true,
            section_id: 0,
            coinb1: Vec::new(),
            coinb2: Vec::new(),
            sends_coinbase: true,
        };
        draft.cook(&Recipe::good());
        draft
    }

    /// Subsidy-only work.
    pub fn subsidy_only() -> Self {
        let mut draft = Self::good().of_class(SUBSIDY_ONLY_ID);
        draft.flags = Flags::SUBSIDY_ONLY;
        draft.cook(&Recipe {
            payments: vec![(Chain::subsidy(HEIGHT), script())],
            commitment: false,
            ..Recipe::good()
        });
        draft
    }

    pub fn of_class(mut self, coinbase_id: u8) -> Self {
        self.coinbase_id = coinbase_id;
        self.section_id = coinbase_id;
        self
    }

    /// Without the sections, as shares behind the first are.
    pub fn bare(mut self) -> Self {
        self.sends_job = false;
        self.sends_coinbase = false;
        self
    }

    /// Builds the coinbase anew.
    pub fn cook(&mut self, recipe: &Recipe) {
        let commitment = commitment_script(&[0x5a; 32]);
        let payments = recipe.payments.iter().map(|(value, script)| (*value, &script[..]));
        let outputs: Vec<_> = payments
            .chain(recipe.commitment.then_some((0, &commitment[..])))
            .collect();
        let draft = CoinbaseDraft {
            height: recipe.height,
            tag: &recipe.tag,
            unique_id: 0x1234,
            prime_id: recipe.prime_id,
            prefix: recipe.prefix,
            place: recipe.place,
            outputs: &outputs,
        };
        CutCoinbase {
            target_index: self.target_index,
            coinb1: self.coinb1,
            coinb2: self.coinb2,
        } = draft.write().cut();
    }

    /// The same with the first nonce whose hash meets the target of its pot.
    pub fn mined(self) -> Self {
        self.searched(true)
    }

    /// The same with the first nonce whose hash does not.
    pub fn unmined(self) -> Self {
        self.searched(false)
    }

    fn searched(mut self, meets: bool) -> Self {
        let target = 0xffff_0000_u64 >> self.pot.min(63);
        while (u64::from(self.top_of_hash()) < target) != meets {
            self.nonce += 1;
        }
        self
    }

    /// The most significant 32 bits of the hash.
    pub fn top_of_hash(&self) -> u32 {
        let (_, hash, _) = self.rebuild();
        u32::from_le_bytes([hash[28], hash[29], hash[30], hash[31]])
    }

    /// Header, its hash, and the coinbase transaction, as protocol section 5 has them.
    pub fn rebuild(&self) -> ([u8; 80], [u8; 32], Vec<u8>) {
        let cut = CutCoinbase {
            target_index: self.target_index,
            coinb1: self.coinb1.clone(),
            coinb2: self.coinb2.clone(),
        };
        let tx = cut.rebuild(self.pot, Flags(self.flags).quickdiff(), &self.extranonce);
        let mut root = sha256d(&tx);
        if self.flags & Flags::SUBSIDY_ONLY == 0 {
            for branch in &self.branches {
                root = sha256d(&[root, *branch].concat());
            }
        }
        let mut header = self.version.to_le_bytes().to_vec();
        header.extend_from_slice(&self.parent);
        header.extend_from_slice(&root);
        header.extend_from_slice(&self.ntime.to_le_bytes());
        header.extend_from_slice(&self.nbits.to_le_bytes());
        header.extend_from_slice(&self.nonce.to_le_bytes());
        let hash = sha256d(&header);
        (header.try_into().expect("80 bytes"), hash, tx)
    }

    pub fn share(&self) -> Share<'_> {
        Share {
            job_id: self.job_id,
            coinbase_id: self.coinbase_id,
            flags: Flags(self.flags),
            target_pot: self.pot,
            ntime: self.ntime,
            nonce: self.nonce,
            version: self.version,
            extranonce: &self.extranonce,
            username: &self.username,
            reserved: [0; 4],
            job: self.sends_job.then_some(JobSection {
                prev_block_hash: &self.parent,
                target_index: self.target_index,
                nbits: self.nbits,
                coinbaser_id: self.coinbaser_id,
                height: self.height,
                coinbase_value: self.value,
                tx_count: self.tx_count,
                weight: 4_000,
                size: 1_000,
                sigops: 4,
                branches: &self.branches,
            }),
            coinbase: self.sends_coinbase.then_some(CoinbaseSection {
                coinbase_id: self.section_id,
                coinb1: &self.coinb1,
                coinb2: &self.coinb2,
            }),
            padding: &[0],
        }
    }
}

fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// The next share on what was sent.
pub fn next(draft: &Draft) -> Draft {
    Draft {
        nonce: draft.nonce + 1,
        ..draft.clone().bare()
    }
    .mined()
}
