//! Coinbases as a gateway builds them, of every class and in both places of the extranonce (protocol sections 4, 5).

use millrace::wire::{
    CoinbaseDraft, CutCoinbase, EXTRANONCE_LEN, ExtranoncePlace, QUICKDIFF, SUBSIDY_ONLY_ID, commitment_script,
};

use crate::sha256d;
use crate::template::{self, Template};

mod payouts;
#[cfg(test)]
mod tests;

use self::payouts::output_len;
pub use self::payouts::{NO_PAYOUTS, Payout, Payouts};

/// Bytes that the gateway gives a coinbase of a class, by coinbase id: it reckons up to 5 too few for what it pays
/// anyway.
const CLASS_BYTES: [usize; 6] = [0, 500, 755, 6_500, 16_000, 2_250];

/// What the gateway reckons for all but payouts, the scripts of the input and of the leftover; and how much more where
/// the extranonce stands in an output.
const FIXED_BYTES: usize = 119;
const EXTRANONCE_OUTPUT_BYTES: usize = 10;

/// With less room than this the gateway looks for no further payout.
const PAYOUT_BYTES_LEAST: usize = 30;

/// In class 2, bytes of `coinb1` up to which payouts stand in it; and those of what stands around the scriptSig there: version,
/// input, length, sequence number. The gateway forgets that outputs are counted.
const PAYOUTS_IN_COINB1: usize = 150;
const BESIDE_SIG_BYTES: usize = 46;

/// Bytes of a scriptSig, by consensus.
const SCRIPT_SIG_MAX: usize = 100;

/// A tag of this length, secondary part included, leaves no room for the extranonce in the scriptSig.
const LONG_TAG: usize = 80;

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

/// A coinbase as a share's sections carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    pub cut: CutCoinbase,
    /// Whether it pays anybody of a split.
    pub pays: bool,
}

impl Recipe<'_> {
    pub fn build(&self) -> Coinbase {
        let tag = self.tag();
        let draft = self.draft(&tag);
        let sig_len = draft.pushes().len();
        let payouts = self.fitting_after(sig_len);
        let is_subsidy_only = self.coinbase_id == SUBSIDY_ONLY_ID;
        let value = if is_subsidy_only {
            template::subsidy(self.template.height)
        } else {
            self.template.value
        };
        let leftover = match value - payouts.iter().map(|payout| payout.value).sum::<u64>() {
            0 => (0, &DEAD_SCRIPT[..]),
            rest => (rest, &*self.terms.script),
        };
        let commitment = commitment_script(&self.template.commitment);
        let paid = payouts.iter().map(|payout| (payout.value, payout.script));
        let outputs: Vec<_> = paid
            .chain([leftover])
            .chain((!is_subsidy_only).then_some((0, &commitment[..])))
            .collect();
        let draft = CoinbaseDraft {
            place: self.place(sig_len, &payouts),
            outputs: &outputs,
            ..draft
        };
        Coinbase {
            cut: draft.write().cut(),
            pays: !payouts.is_empty(),
        }
    }

    /// The payouts that the class has room for.
    pub fn fitting(&self) -> Vec<Payout<'_>> {
        self.fitting_after(self.draft(&self.tag()).pushes().len())
    }

    /// All but the outputs.
    fn draft<'a>(&self, tag: &'a [u8]) -> CoinbaseDraft<'a> {
        CoinbaseDraft {
            height: self.template.height,
            tag,
            unique_id: self.unique_id,
            prime_id: self.terms.prime_id,
            prefix: self.prefix(),
            place: ExtranoncePlace::Push,
            outputs: &[],
        }
    }

    /// `payouts`: those that fit.
    fn place(&self, sig_len: usize, payouts: &[Payout<'_>]) -> ExtranoncePlace {
        if self.extranonce_in_sig(sig_len) {
            return ExtranoncePlace::Push;
        }
        if self.coinbase_id != 2 {
            return ExtranoncePlace::Output(0);
        }
        let mut coinb1_len = BESIDE_SIG_BYTES + sig_len;
        let in_coinb1 = payouts.iter().take_while(|payout| {
            coinb1_len += output_len(payout.script);
            coinb1_len <= PAYOUTS_IN_COINB1
        });
        ExtranoncePlace::Output(in_coinb1.count())
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
            QUICKDIFF[0]
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
        sha256d::hash(&self.cut.rebuild(pot, quickdiff, extranonce))
    }
}
