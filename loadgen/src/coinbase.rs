//! Coinbases as a gateway builds them, of every class and in both places of the extranonce (protocol sections 4, 5).

use millrace::wire::{EXTRANONCE_LEN, SUBSIDY_ONLY_ID};

use crate::sha256d;
use crate::template::{self, Template};

mod payouts;
#[cfg(test)]
mod tests;

pub use self::payouts::{NO_PAYOUTS, Payout, Payouts, push_output};
use self::payouts::{length, output_len};

/// Bytes that the gateway gives a coinbase of a class, by coinbase id: it reckons up to 5 too few for what it pays
/// anyway.
const CLASS_BYTES: [usize; 6] = [0, 500, 755, 6_500, 16_000, 2_250];

/// What the gateway reckons for all but payouts, the scripts of the input and of the leftover; and how much more where
/// the extranonce stands in an output.
const FIXED_BYTES: usize = 119;
const EXTRANONCE_OUTPUT_BYTES: usize = 10;

/// With less room than this the gateway looks for no further payout.
const PAYOUT_BYTES_LEAST: usize = 30;

/// In class 2, bytes of `coinb1` up to which payouts stand in it.
const PAYOUTS_IN_COINB1: usize = 150;

/// Bytes of a scriptSig, by consensus.
const SCRIPT_SIG_MAX: usize = 100;

/// A tag of this length, secondary part included, leaves no room for the extranonce in the scriptSig.
const LONG_TAG: usize = 80;

/// What stands before the extranonce in a quick change of difficulty, and where it stood there already.
const QUICKDIFF: [u8; 2] = [0x44, 0x51];
const QUICKDIFF_AGAIN: [u8; 2] = [0xbb, 0xae];

/// The output where nothing is left for the pool.
const DEAD_SCRIPT: [u8; 3] = [0x6a, 0x01, 0x00];

/// What one CONFIG said, as far as coinbases show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub prime_id: u32,
    pub script: Box<[u8]>,
    pub tag: Box<[u8]>,
    /// The least pot of a share.
    pub min_pot: u8,
}

/// The tag that a gateway's operator adds to the pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secondary {
    None,
    Short,
    /// As long as to move the extranonce into an output.
    Long,
}

/// All that one coinbase is made of.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// 0 to 5, or [`SUBSIDY_ONLY_ID`].
    pub coinbase_id: u8,
    pub template: &'a Template,
    pub terms: &'a Terms,
    pub secondary: Secondary,
    pub unique_id: u16,
    /// Without payouts classes 1 to 5 are copies of class 0.
    pub payouts: &'a Payouts,
}

/// A coinbase around its extranonce, its pot byte `FF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    /// Where the pot byte stands.
    pub target_index: u16,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
    /// Whether it pays anybody of a split.
    pub pays: bool,
}

impl Recipe<'_> {
    pub fn build(&self) -> Coinbase {
        let (mut sig, target_at) = self.script_sig_start();
        let in_sig = self.extranonce_in_sig(sig.len());
        let payouts = self.fitting_after(sig.len());
        let sig_len = sig.len() + if in_sig { 15 } else { 0 };
        if in_sig {
            sig.push(14);
            sig.extend_from_slice(&self.prefix());
        }

        let mut coinb1 = vec![1, 0, 0, 0, 1];
        coinb1.extend_from_slice(&[0; 32]);
        coinb1.extend_from_slice(&[0xff; 4]);
        coinb1.push(length(sig_len));
        let target_index = u16::try_from(coinb1.len() + target_at).expect("a scriptSig is short");
        coinb1.extend_from_slice(&sig);

        let subsidy_only = self.coinbase_id == SUBSIDY_ONLY_ID;
        let count = payouts.len() + 1 + usize::from(!in_sig) + usize::from(!subsidy_only);
        let mut coinb2 = Vec::new();
        let mut later = &payouts[..];
        let start = if in_sig { &mut coinb2 } else { &mut coinb1 };
        start.extend_from_slice(&[0xff; 4]);
        let start_len = start.len();
        push_count(start, count);
        if !in_sig {
            if self.coinbase_id == 2 {
                let mut room = PAYOUTS_IN_COINB1.saturating_sub(start_len);
                while let [payout, others @ ..] = later
                    && output_len(payout.script) <= room
                {
                    room -= output_len(payout.script);
                    push_output(&mut coinb1, payout.value, payout.script);
                    later = others;
                }
            }
            coinb1.extend_from_slice(&[0; 8]);
            coinb1.extend_from_slice(&[16, 0x6a, 14]);
            coinb1.extend_from_slice(&self.prefix());
        }
        for payout in later {
            push_output(&mut coinb2, payout.value, payout.script);
        }
        let value = if subsidy_only {
            template::subsidy(self.template.height)
        } else {
            self.template.value
        };
        match value - payouts.iter().map(|payout| payout.value).sum::<u64>() {
            0 => push_output(&mut coinb2, 0, &DEAD_SCRIPT),
            rest => push_output(&mut coinb2, rest, &self.terms.script),
        }
        if !subsidy_only {
            let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
            script.extend_from_slice(&self.template.commitment);
            push_output(&mut coinb2, 0, &script);
        }
        coinb2.extend_from_slice(&[0; 4]);
        Coinbase {
            target_index,
            coinb1,
            coinb2,
            pays: !payouts.is_empty(),
        }
    }

    /// The payouts that the class has room for.
    pub fn fitting(&self) -> Vec<Payout<'_>> {
        self.fitting_after(self.script_sig_start().0.len())
    }

    /// Height, tag and the 7-byte push; and where in them the pot stands.
    fn script_sig_start(&self) -> (Vec<u8>, usize) {
        let mut sig = Vec::with_capacity(SCRIPT_SIG_MAX);
        push_height(&mut sig, self.template.height);
        let tag = self.tag();
        if tag.len() > 75 {
            sig.push(0x4c);
        }
        sig.push(length(tag.len()));
        sig.extend_from_slice(&tag);
        sig.push(7);
        let target_at = sig.len();
        sig.push(0xff);
        sig.extend_from_slice(&self.unique_id.to_le_bytes());
        sig.extend_from_slice(&self.terms.prime_id.to_le_bytes());
        (sig, target_at)
    }

    /// `primary [0F secondary] 00`.
    fn tag(&self) -> Vec<u8> {
        let mut tag = self.terms.tag.to_vec();
        let room = LONG_TAG.saturating_sub(tag.len() + 2);
        let secondary: &[u8] = match self.secondary {
            Secondary::None => &[],
            Secondary::Short => b"solo",
            Secondary::Long => &[b's'; LONG_TAG][..room],
        };
        // An operator's own tag gives way to a long one of the pool.
        if !secondary.is_empty() && tag.len() + secondary.len() + 2 <= LONG_TAG {
            tag.push(0x0f);
            tag.extend_from_slice(secondary);
        }
        tag.push(0);
        tag
    }

    /// The two bytes before the extranonce; in some jobs those of a quick change of difficulty, from the start.
    fn prefix(&self) -> [u8; 2] {
        if self.unique_id % 8 == 5 {
            QUICKDIFF
        } else {
            self.unique_id.to_be_bytes()
        }
    }

    fn extranonce_in_sig(&self, sig_len: usize) -> bool {
        let behind_payouts = self.coinbase_id == 2 && !self.payouts.is_empty();
        !behind_payouts && sig_len + 15 <= SCRIPT_SIG_MAX
    }

    /// As the gateway does it: what does not fit is passed over. `sig_len`: without the extranonce.
    fn fitting_after(&self, sig_len: usize) -> Vec<Payout<'_>> {
        let class = CLASS_BYTES.get(usize::from(self.coinbase_id)).filter(|max| **max > 0);
        let Some(max) = class.filter(|_| !self.payouts.is_empty()) else {
            return Vec::new();
        };
        let in_output = !self.extranonce_in_sig(sig_len);
        let fixed =
            FIXED_BYTES + self.terms.script.len() + sig_len + if in_output { EXTRANONCE_OUTPUT_BYTES } else { 0 };
        let mut room = self.template.coinbase_room().min(*max).saturating_sub(fixed);
        let mut fitting = Vec::new();
        for payout in self.payouts.iter() {
            if room < PAYOUT_BYTES_LEAST {
                break;
            }
            let len = output_len(payout.script);
            if len <= room {
                room -= len;
                fitting.push(payout);
            }
        }
        fitting
    }
}

impl Coinbase {
    /// The first leaf of the merkle tree, rebuilt as a pool does it.
    pub fn leaf(&self, pot: u8, quickdiff: bool, extranonce: &[u8; EXTRANONCE_LEN]) -> [u8; 32] {
        sha256d::hash(&self.transaction(pot, quickdiff, extranonce))
    }

    /// The whole transaction, without a witness.
    pub fn transaction(&self, pot: u8, quickdiff: bool, extranonce: &[u8; EXTRANONCE_LEN]) -> Vec<u8> {
        let mut tx = Vec::with_capacity(self.coinb1.len() + EXTRANONCE_LEN + self.coinb2.len());
        tx.extend_from_slice(&self.coinb1);
        tx[usize::from(self.target_index)] = pot;
        if quickdiff {
            let at = tx.len() - 2;
            let prefix = if tx[at..] == QUICKDIFF {
                QUICKDIFF_AGAIN
            } else {
                QUICKDIFF
            };
            tx[at..].copy_from_slice(&prefix);
        }
        tx.extend_from_slice(extranonce);
        tx.extend_from_slice(&self.coinb2);
        tx
    }
}

/// The height in as few bytes as keep its sign.
fn push_height(sig: &mut Vec<u8>, height: u32) {
    let bits = (u32::BITS - height.leading_zeros()) as usize;
    let len = (bits + 1).div_ceil(8);
    sig.push(length(len));
    sig.extend_from_slice(&u64::from(height).to_le_bytes()[..len]);
}

fn push_count(tx: &mut Vec<u8>, count: usize) {
    match u8::try_from(count) {
        Ok(count @ ..0xfd) => tx.push(count),
        _ => {
            tx.push(0xfd);
            tx.extend_from_slice(
                &u16::try_from(count)
                    .expect("a split has at most 512 outputs")
                    .to_le_bytes(),
            );
        }
    }
}
