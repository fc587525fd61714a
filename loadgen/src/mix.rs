//! Shares that must be refused, each with the reason that must come back, and how to make it.
//!
//! A dev chain has no case for two reasons: 20 needs a target below the top word of a hash, and 30 a bound of the pool,
//! which no amount of shares meets that a gateway's miners send.

use millrace::wire::{Flags, Reason, SUBSIDY_ONLY_ID};

use crate::coinbase::Payout;
use crate::draft::{Draft, DraftJob};
use crate::rng::Rng;

/// One way to be refused.
#[derive(Debug, Clone, Copy)]
pub struct Bad {
    pub reason: Reason,
    pub how: How,
}

/// Where the wrong is.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// In a field of an otherwise good share, whose sections the pool has.
    Field(Break),
    /// In a section: the share brings a job of its own, in the slot that the next template takes.
    Section(Break),
    /// In the id of the section that it brings, when its own has come before.
    OtherSection,
    /// In the coinbase's outputs: it pays somebody who is in no split.
    Payout,
    /// In the coinbase's outputs, which were those of a split.
    Split(Tamper),
    /// In the split that the job names: one that was never dictated.
    SplitId,
    /// In the parent: one that four others have followed.
    StaleParent,
    /// In the hash: it is above the target.
    HighHash,
    /// In that it was accepted before.
    Again,
}

type Break = fn(&mut Draft, &mut Rng);

/// What is done to the payouts of a split, of which there is one at least; false where it does not make them wrong.
type Tamper = fn(&mut [Payout<'_>], &mut Rng) -> bool;

/// A script that is in no split.
pub const STRANGER: [u8; 22] = {
    let mut script = [0x5a; 22];
    script[0] = 0x00;
    script[1] = 20;
    script
};

/// Every way there is, by reason.
pub const TABLE: [Bad; 46] = [
    field(Reason::BadJobId, |draft, rng| draft.job_id = 8 | rng.byte()),
    field(Reason::BadCoinbaseId, |draft, rng| {
        draft.coinbase_id = 6 + rng.byte() % 249;
        draft.flags = Flags::default();
    }),
    field(Reason::BadCoinbaseId, |draft, _| {
        draft.coinbase_id = SUBSIDY_ONLY_ID;
        draft.flags = Flags::default();
    }),
    field(Reason::BadCoinbaseId, |draft, rng| {
        draft.coinbase_id = rng.byte() % 6;
        draft.flags = Flags(Flags::SUBSIDY_ONLY);
    }),
    field(Reason::BadExtranonce, |draft, rng| {
        draft.extranonce.truncate(rng.below(12) as usize)
    }),
    field(Reason::BadExtranonce, |draft, rng| {
        draft.extranonce.resize(13 + rng.below(243) as usize, 0)
    }),
    field(Reason::BadTarget, |draft, rng| draft.pot = 64 | rng.byte()),
    field(Reason::BadUsername, |draft, _| draft.username = b"satoshi.rig".to_vec()),
    field(Reason::BadUsername, |draft, _| draft.username.clear()),
    field(Reason::BadUsername, |draft, _| draft.username.insert(0, b'x')),
    field(Reason::BadUsername, |draft, rng| {
        draft.username = vec![0x80 | rng.byte(); 384]
    }),
    section(Reason::BadMerkleCount, |draft, _| {
        job(draft, |job| job.branches.push([7; 32]))
    }),
    section(Reason::BadMerkleCount, |draft, _| {
        job(draft, |job| job.branches = vec![[7; 32]; 25])
    }),
    section(Reason::BadMerkleCount, |draft, _| {
        job(draft, |job| job.tx_count = job.tx_count * 2 + 1)
    }),
    section(Reason::CoinbaseTooLarge, |draft, _| {
        coinbase(draft, |_, coinb2| coinb2.resize(16_384 + 513, 0))
    }),
    section(Reason::CoinbaseMissing, |draft, _| draft.coinbase = None),
    section(Reason::TargetMismatch, |draft, _| {
        job(draft, |job| job.target_index += 1)
    }),
    section(Reason::TargetMismatch, |draft, rng| {
        job(draft, |job| job.target_index = 512 | rng.next() as u16)
    }),
    Bad {
        reason: Reason::HighHash,
        how: How::HighHash,
    },
    Bad {
        reason: Reason::CoinbaseIdMismatch,
        how: How::OtherSection,
    },
    field(Reason::BadNtime, |draft, rng| {
        draft.ntime -= 7_800 + rng.below(100_000) as u32
    }),
    field(Reason::BadNtime, |draft, rng| {
        draft.ntime += 7_800 + rng.below(100_000) as u32
    }),
    field(Reason::BadVersion, |draft, _| draft.version ^= 0x6000_0000),
    field(Reason::BadVersion, |draft, _| draft.version = 1),
    field(Reason::BadVersion, |draft, _| draft.version |= 0x8000_0000),
    Bad {
        reason: Reason::StaleBlock,
        how: How::StaleParent,
    },
    section(Reason::BadCoinbase, |draft, _| {
        coinbase(draft, |_, coinb2| coinb2.push(0))
    }),
    section(Reason::BadCoinbase, |draft, _| {
        coinbase(draft, |_, coinb2| flip(coinb2, 1))
    }),
    section(Reason::BadCoinbase, |draft, _| {
        coinbase(draft, |coinb1, _| coinb1[0] = 2)
    }),
    section(Reason::BadCoinbase, |draft, rng| {
        coinbase(draft, |coinb1, _| coinb1[5 + rng.below(32) as usize] = 1);
    }),
    section(Reason::BadCoinbase, |draft, _| job(draft, |job| job.height += 1)),
    section(Reason::BadCoinbase, |draft, _| job(draft, |job| job.value += 1)),
    section(Reason::BadCoinbase, |draft, _| job(draft, |job| job.value = u64::MAX)),
    // The extranonce lies over one byte that was proved and leaves one of its own uncovered.
    section(Reason::BadCoinbase, |draft, _| {
        coinbase(draft, |coinb1, coinb2| coinb2.insert(0, coinb1.pop().unwrap_or(0)));
    }),
    section(Reason::BadCoinbase, second_prime_push),
    section(Reason::BadCoinbaseOutputs, |draft, _| {
        // The last byte of the leftover's script, before the commitment and the lock time.
        coinbase(draft, |_, coinb2| flip(coinb2, 4 + 47 + 1));
    }),
    Bad {
        reason: Reason::BadCoinbaseOutputs,
        how: How::Payout,
    },
    split(|payouts, rng| {
        // What it is short of goes to the pool.
        let payout = any(payouts, rng);
        let tampered = payout.value > 1;
        payout.value -= if tampered { 1 + rng.below(payout.value / 2) } else { 0 };
        tampered
    }),
    split(|payouts, rng| {
        any(payouts, rng).script = &STRANGER;
        true
    }),
    split(|payouts, rng| {
        let Some(others) = payouts.len().checked_sub(1).filter(|others| *others > 0) else {
            return false;
        };
        let at = rng.below(others as u64) as usize;
        payouts.swap(at, at + 1);
        true
    }),
    Bad {
        reason: Reason::BadCoinbaserId,
        how: How::SplitId,
    },
    section(Reason::MissingPoolTag, |draft, _| {
        coinbase(draft, |coinb1, _| {
            let tag_at = if coinb1[46] == 0x4c { 48 } else { 47 };
            coinb1[tag_at] ^= 0x20;
        });
    }),
    section(Reason::MissingPoolTag, |draft, _| foreign_prime_id(draft, 0x80)),
    section(Reason::MissingPoolTag, |draft, _| foreign_prime_id(draft, 0x55)),
    Bad {
        reason: Reason::DuplicateWork,
        how: How::Again,
    },
    Bad {
        reason: Reason::DuplicateWork,
        how: How::Again,
    },
];

/// Which share of all is bad, and how the next one is. All gateways of a thread take from the same table, so that
/// every reason comes up however few shares each of them sends.
#[derive(Debug, Clone)]
pub struct Mix {
    /// Of a share, 0 to 1.
    fraction: f64,
    owed: f64,
    turn: usize,
}

/// Bad shares owed at most: nobody could send them while no job is there.
const OWED_MAX: f64 = 16.0;

impl Mix {
    pub fn new(percent: f64) -> Self {
        Self {
            fraction: percent / 100.0,
            owed: 0.0,
            turn: 0,
        }
    }

    /// A share is to be made: how, if it shall be bad.
    pub fn next(&mut self) -> Option<Bad> {
        self.owed = (self.owed + self.fraction).min(OWED_MAX);
        (self.owed >= 1.0).then(|| TABLE[self.turn])
    }

    /// It was made, the bad way that [`Self::next`] said.
    pub fn made(&mut self) {
        self.owed -= 1.0;
        self.pass();
    }

    /// It could not be made now; the way after it comes next.
    pub fn pass(&mut self) {
        self.turn = (self.turn + 1) % TABLE.len();
    }
}

const fn field(reason: Reason, with: Break) -> Bad {
    Bad {
        reason,
        how: How::Field(with),
    }
}

const fn section(reason: Reason, with: Break) -> Bad {
    Bad {
        reason,
        how: How::Section(with),
    }
}

const fn split(tamper: Tamper) -> Bad {
    Bad {
        reason: Reason::BadCoinbaseOutputs,
        how: How::Split(tamper),
    }
}

fn any<'p, 's>(payouts: &'p mut [Payout<'s>], rng: &mut Rng) -> &'p mut Payout<'s> {
    let at = rng.below(payouts.len() as u64) as usize;
    &mut payouts[at]
}

fn job(draft: &mut Draft, with: impl FnOnce(&mut DraftJob)) {
    if let Some(job) = &mut draft.job {
        with(job);
    }
}

fn coinbase(draft: &mut Draft, with: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
    if let Some(section) = &mut draft.coinbase {
        with(&mut section.coinb1, &mut section.coinb2);
    }
}

/// Changes the byte that stands `from_end` from the end, from 1.
fn flip(bytes: &mut [u8], from_end: usize) {
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
}

fn foreign_prime_id(draft: &mut Draft, mask: u8) {
    let Some(at) = draft.job.as_ref().map(|job| usize::from(job.target_index) + 6) else {
        return;
    };
    coinbase(draft, |coinb1, _| coinb1[at] ^= mask);
}

fn second_prime_push(draft: &mut Draft, _: &mut Rng) {
    let Some(at) = draft.job.as_ref().map(|job| usize::from(job.target_index)) else {
        return;
    };
    coinbase(draft, |coinb1, _| {
        let push: Vec<u8> = coinb1[at - 1..at + 7].to_vec();
        coinb1.splice(at + 7..at + 7, push);
        coinb1[41] += 8;
    });
}
