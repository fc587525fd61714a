//! Coinbases as a gateway builds them, of every class and in both places of the extranonce (protocol sections 4, 5).

use millrace::wire::{EXTRANONCE_LEN, SUBSIDY_ONLY_ID};
use millrace::work::Chain;

use crate::sha256d;
use crate::template::Template;

/// Bytes that a coinbase of a class may have, by coinbase id.
const CLASS_MAX: [usize; 6] = [254, 503, 760, 6_505, 16_005, 2_255];

/// Bytes of a scriptSig, by consensus.
const SCRIPT_SIG_MAX: usize = 100;

/// Bytes of `coinb1`.
const COINB1_MAX: usize = 512;

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

/// Whom a block pays beside the pool, as dictated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Satoshi.
    pub value: u64,
    pub script: Box<[u8]>,
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
    pub payouts: &'a [Payout],
}

/// A coinbase around its extranonce, its pot byte `FF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    /// Where the pot byte stands.
    pub target_index: u16,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
}

impl Recipe<'_> {
    pub fn build(&self) -> Coinbase {
        let (mut sig, target_at) = self.script_sig_start();
        let payouts = self.fitting_payouts(sig.len());
        let behind_payouts = self.coinbase_id == 2 && !payouts.is_empty();
        let in_sig = !behind_payouts && sig.len() + 15 <= SCRIPT_SIG_MAX;
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
        let mut later = payouts;
        {
            let start = if in_sig { &mut coinb2 } else { &mut coinb1 };
            start.extend_from_slice(&[0xff; 4]);
            push_count(start, count);
        }
        if !in_sig {
            if behind_payouts {
                // The extranonce's output needs 8 + 1 + 4 bytes more.
                let mut at = 0;
                while at < later.len() && coinb1.len() + output_len(&later[at].script) + 13 <= COINB1_MAX {
                    push_output(&mut coinb1, later[at].value, &later[at].script);
                    at += 1;
                }
                later = &later[at..];
            }
            coinb1.extend_from_slice(&[0; 8]);
            coinb1.extend_from_slice(&[16, 0x6a, 14]);
            coinb1.extend_from_slice(&self.prefix());
        }
        for payout in later {
            push_output(&mut coinb2, payout.value, &payout.script);
        }
        let value = if subsidy_only {
            Chain::subsidy(self.template.height)
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
        }
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

    /// The payouts from the front that the class has room for.
    fn fitting_payouts(&self, sig_len: usize) -> &[Payout] {
        let Some(max) = CLASS_MAX
            .get(usize::from(self.coinbase_id))
            .filter(|_| self.coinbase_id != 0)
        else {
            return &[];
        };
        // Everything else at its longest: transaction, extranonce in an output, leftover, commitment.
        let other = 4 + 1 + 41 + sig_len + 3 + 25 + output_len(&self.terms.script) + 47 + 4;
        let mut room = max.saturating_sub(other);
        let count = self
            .payouts
            .iter()
            .take_while(|payout| {
                let len = output_len(&payout.script);
                let fits = len <= room;
                room = room.saturating_sub(len);
                fits
            })
            .count();
        &self.payouts[..count]
    }
}

impl Coinbase {
    /// The first leaf of the merkle tree, rebuilt as a pool does it.
    pub fn leaf(&self, pot: u8, quickdiff: bool, extranonce: &[u8; EXTRANONCE_LEN]) -> [u8; 32] {
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
        sha256d::hash(&tx)
    }
}

/// The height in as few bytes as keep its sign.
fn push_height(sig: &mut Vec<u8>, height: u32) {
    let bits = (u32::BITS - height.leading_zeros()) as usize;
    let len = (bits + 1).div_ceil(8);
    sig.push(length(len));
    sig.extend_from_slice(&u64::from(height).to_le_bytes()[..len]);
}

pub fn push_output(tx: &mut Vec<u8>, value: u64, script: &[u8]) {
    tx.extend_from_slice(&value.to_le_bytes());
    tx.push(length(script.len()));
    tx.extend_from_slice(script);
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

fn output_len(script: &[u8]) -> usize {
    8 + 1 + script.len()
}

/// A length that one byte says; scripts here have at most 100 bytes.
fn length(len: usize) -> u8 {
    u8::try_from(len).expect("scripts are short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Templates;
    use bitcoin::Transaction;
    use bitcoin::consensus::deserialize;

    fn payouts(count: u64) -> Vec<Payout> {
        (1..=count)
            .map(|n| Payout {
                value: n * 1_000,
                script: [&[0x00, 0x20][..], &[n as u8; 32]].concat().into(),
            })
            .collect()
    }

    fn terms(tag: usize) -> Terms {
        Terms {
            prime_id: 0x0403_0201,
            script: [0x51; 64].into(),
            tag: vec![b't'; tag].into(),
            min_pot: 0,
        }
    }

    fn build(coinbase_id: u8, secondary: Secondary, tag: usize, payouts: &[Payout]) -> (Coinbase, Transaction, u64) {
        let template = Templates::new(1, 3..=3).template(1, 0);
        let coinbase = Recipe {
            coinbase_id,
            template: &template,
            terms: &terms(tag),
            secondary,
            unique_id: 0x0605,
            payouts,
        }
        .build();
        let bytes = [&coinbase.coinb1[..], &[0xee; 12], &coinbase.coinb2].concat();
        (coinbase, deserialize(&bytes).expect("a transaction"), template.value)
    }

    #[test]
    fn every_class_pays_the_whole_value_in_its_size() {
        for tag in [0, 8, 40, 69, 70, 75, 83] {
            for secondary in [Secondary::None, Secondary::Short, Secondary::Long] {
                for count in [0, 1, 9, 60, 300] {
                    for (coinbase_id, max) in CLASS_MAX.into_iter().enumerate() {
                        let payouts = payouts(count);
                        let (coinbase, tx, value) = build(coinbase_id as u8, secondary, tag, &payouts);
                        let sum: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
                        assert_eq!(sum, value);
                        assert!(coinbase.coinb1.len() <= COINB1_MAX);
                        assert!(tx.input[0].script_sig.len() <= SCRIPT_SIG_MAX);
                        assert_eq!(coinbase.coinb1[usize::from(coinbase.target_index)], 0xff);
                        let paid = tx
                            .output
                            .iter()
                            .filter(|output| output.script_pubkey.is_p2wsh())
                            .count();
                        let len = coinbase.coinb1.len() + EXTRANONCE_LEN + coinbase.coinb2.len();
                        assert!(paid == 0 || len <= max, "{len} in class {coinbase_id}");
                        assert!(coinbase_id < 2 || count == 0 || paid > 0);
                        assert!(coinbase_id < 3 || count < 10 || paid >= 9);
                    }
                }
            }
        }
    }

    #[test]
    fn without_payouts_the_classes_are_copies() {
        let (zero, ..) = build(0, Secondary::Short, 8, &[]);
        for coinbase_id in 1..6 {
            assert_eq!(build(coinbase_id, Secondary::Short, 8, &[]).0, zero);
        }
    }

    #[test]
    fn the_extranonce_moves_to_an_output_where_the_tag_is_long_and_in_class_2_with_a_split() {
        let place = |coinbase_id, secondary, count| {
            let (_, tx, _) = build(coinbase_id, secondary, 8, &payouts(count));
            tx.output
                .iter()
                .position(|output| output.script_pubkey.as_bytes().starts_with(&[0x6a, 14]))
        };
        assert_eq!(place(0, Secondary::None, 0), None);
        assert_eq!(place(0, Secondary::Long, 0), Some(0));
        assert_eq!(place(3, Secondary::None, 5), None);
        assert_eq!(place(3, Secondary::Long, 5), Some(0));
        assert_eq!(place(2, Secondary::None, 5), Some(5));
    }

    #[test]
    fn nothing_left_makes_a_dead_output() {
        let template = Templates::new(1, 0..=0).template(1, 0);
        let all = [Payout {
            value: template.value,
            script: [0x00; 22].into(),
        }];
        let coinbase = Recipe {
            coinbase_id: 3,
            template: &template,
            terms: &terms(8),
            secondary: Secondary::None,
            unique_id: 1,
            payouts: &all,
        }
        .build();
        let dead = [&0_u64.to_le_bytes()[..], &[3], &DEAD_SCRIPT].concat();
        assert!(coinbase.coinb2.windows(dead.len()).any(|window| window == dead));
    }
}
