//! A coinbase transaction as gateways write it (sections 4 and 5), and how a share's is rebuilt from it. The gateway's side:
//! the pool only reads, in `work`.

use super::share::{COMMITMENT_START, CoinbaseSection, EXTRANONCE_LEN, QUICKDIFF};

/// Satoshi and script.
pub type CoinbaseOutput<'a> = (u64, &'a [u8]);

/// What a coinbase is made of. Anything may be wrong in it.
#[derive(Debug, Clone, Copy)]
pub struct CoinbaseDraft<'a> {
    pub height: u32,
    /// What the tag push holds: `primary_tag [0F secondary_tag] 00`.
    pub tag: &'a [u8],
    pub unique_id: u16,
    pub prime_id: u32,
    /// The two bytes before the extranonce.
    pub prefix: [u8; 2],
    pub place: ExtranoncePlace,
    /// All but that of the extranonce, in their order.
    pub outputs: &'a [CoinbaseOutput<'a>],
}

/// Where the extranonce stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtranoncePlace {
    /// In a push of its own, the last of the scriptSig.
    Push,
    /// In an output, behind so many others.
    Output(usize),
}

/// A coinbase transaction, zeros where the extranonce goes and `FF` where the pot does; and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinbaseTransaction {
    pub bytes: Vec<u8>,
    pub target_at: usize,
    pub extranonce_at: usize,
}

/// A coinbase around its extranonce, as a share's sections carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutCoinbase {
    pub target_index: u16,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
}

/// Bytes before the scriptSig: version, one input that spends nothing, the script's length.
const BEFORE_SIG: usize = 4 + 1 + 32 + 4 + 1;
const SEQUENCE_LEN: usize = 4;

/// Pot, unique id and `prime_id`.
const PRIME_PUSH_LEN: u8 = 7;

/// Prefix and extranonce.
const EXTRANONCE_PUSH_LEN: u8 = 14;

/// The longest push whose length is its opcode.
const SHORT_PUSH_MAX: usize = 75;
const OP_PUSHDATA1: u8 = 0x4c;
const OP_RETURN: u8 = 0x6a;

impl CoinbaseDraft<'_> {
    #[must_use]
    pub fn write(&self) -> CoinbaseTransaction {
        let mut sig = self.pushes();
        let target_at = BEFORE_SIG + sig.len() - usize::from(PRIME_PUSH_LEN);
        let push = self.extranonce_push();
        let script = extranonce_script(self.prefix);
        let mut outputs = self.outputs.to_vec();
        let extranonce_end = match self.place {
            ExtranoncePlace::Push => {
                sig.extend_from_slice(&push);
                BEFORE_SIG + sig.len()
            }
            ExtranoncePlace::Output(at) => {
                let at = at.min(outputs.len());
                outputs.insert(at, (0, &script));
                let before: usize = outputs[..=at].iter().map(|(_, script)| output_len(script)).sum();
                BEFORE_SIG + sig.len() + SEQUENCE_LEN + count_len(outputs.len()) + before
            }
        };
        CoinbaseTransaction {
            bytes: coinbase_transaction(&sig, &outputs),
            target_at,
            extranonce_at: extranonce_end - EXTRANONCE_LEN,
        }
    }

    /// The pushes before the extranonce's: height, tag, and the 7 bytes that the pot is the first of.
    #[must_use]
    pub fn pushes(&self) -> Vec<u8> {
        let mut sig = Vec::new();
        push_height(&mut sig, self.height);
        if self.tag.len() > SHORT_PUSH_MAX {
            sig.push(OP_PUSHDATA1);
        }
        sig.push(one_byte(self.tag.len()));
        sig.extend_from_slice(self.tag);
        sig.extend_from_slice(&self.prime_push());
        sig
    }

    /// The push of pot, unique id and `prime_id`, its length first.
    #[must_use]
    pub fn prime_push(&self) -> [u8; 1 + PRIME_PUSH_LEN as usize] {
        let [u0, u1] = self.unique_id.to_le_bytes();
        let [p0, p1, p2, p3] = self.prime_id.to_le_bytes();
        [PRIME_PUSH_LEN, 0xff, u0, u1, p0, p1, p2, p3]
    }

    /// The push of prefix and extranonce, its length first.
    #[must_use]
    pub fn extranonce_push(&self) -> [u8; 1 + EXTRANONCE_PUSH_LEN as usize] {
        let mut push = [0; 1 + EXTRANONCE_PUSH_LEN as usize];
        push[0] = EXTRANONCE_PUSH_LEN;
        push[1..3].copy_from_slice(&self.prefix);
        push
    }
}

/// The script of the output that carries the extranonce.
#[must_use]
pub fn extranonce_script(prefix: [u8; 2]) -> [u8; 2 + EXTRANONCE_PUSH_LEN as usize] {
    let mut script = [0; 2 + EXTRANONCE_PUSH_LEN as usize];
    script[0] = OP_RETURN;
    script[1] = EXTRANONCE_PUSH_LEN;
    script[2..4].copy_from_slice(&prefix);
    script
}

/// The script of the output that commits to the witnesses of a block (BIP 141).
#[must_use]
pub fn commitment_script(commitment: &[u8; 32]) -> [u8; COMMITMENT_START.len() + 32] {
    let mut script = [0; COMMITMENT_START.len() + 32];
    script[..COMMITMENT_START.len()].copy_from_slice(&COMMITMENT_START);
    script[COMMITMENT_START.len()..].copy_from_slice(commitment);
    script
}

/// A transaction of version 1 with one input that spends nothing, whatever its script is, and no lock time.
///
/// # Panics
/// A scriptSig above 255 bytes, or more than 65,535 outputs, or bytes of a script.
#[must_use]
pub fn coinbase_transaction(sig: &[u8], outputs: &[CoinbaseOutput<'_>]) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 1];
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.push(one_byte(sig.len()));
    bytes.extend_from_slice(sig);
    bytes.extend_from_slice(&[0xff; SEQUENCE_LEN]);
    push_count(&mut bytes, outputs.len());
    for (value, script) in outputs {
        push_output(&mut bytes, *value, script);
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// Appends one output.
pub fn push_output(tx: &mut Vec<u8>, value: u64, script: &[u8]) {
    tx.extend_from_slice(&value.to_le_bytes());
    push_count(tx, script.len());
    tx.extend_from_slice(script);
}

impl CoinbaseTransaction {
    /// What goes on the wire.
    ///
    /// # Panics
    /// The extranonce lies outside of it, or the pot past 65,535.
    #[must_use]
    pub fn cut(&self) -> CutCoinbase {
        CutCoinbase {
            target_index: u16::try_from(self.target_at).expect("a short coinbase"),
            coinb1: self.bytes[..self.extranonce_at].to_vec(),
            coinb2: self.bytes[self.extranonce_at + EXTRANONCE_LEN..].to_vec(),
        }
    }
}

impl CutCoinbase {
    #[must_use]
    pub fn section(&self, coinbase_id: u8) -> CoinbaseSection<'_> {
        CoinbaseSection {
            coinbase_id,
            coinb1: &self.coinb1,
            coinb2: &self.coinb2,
        }
    }

    /// The whole transaction of a share, without a witness. A pot or a prefix that has no place is left out.
    #[must_use]
    pub fn rebuild(&self, pot: u8, quickdiff: bool, extranonce: &[u8]) -> Vec<u8> {
        let mut tx = Vec::with_capacity(self.coinb1.len() + extranonce.len() + self.coinb2.len());
        tx.extend_from_slice(&self.coinb1);
        if let Some(target) = tx.get_mut(usize::from(self.target_index)) {
            *target = pot;
        }
        if quickdiff && let Some(prefix) = tx.last_chunk_mut() {
            let [usual, instead] = QUICKDIFF;
            *prefix = if *prefix == usual { instead } else { usual };
        }
        tx.extend_from_slice(extranonce);
        tx.extend_from_slice(&self.coinb2);
        tx
    }

    /// Bytes of the whole transaction.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.coinb1.len() + EXTRANONCE_LEN + self.coinb2.len()
    }
}

/// The height in as few bytes as keep its sign.
fn push_height(sig: &mut Vec<u8>, height: u32) {
    let bits = (u32::BITS - height.leading_zeros()) as usize;
    let len = (bits + 1).div_ceil(8);
    sig.push(one_byte(len));
    sig.extend_from_slice(&u64::from(height).to_le_bytes()[..len]);
}

fn push_count(tx: &mut Vec<u8>, count: usize) {
    match u8::try_from(count) {
        Ok(count @ ..0xfd) => tx.push(count),
        _ => {
            tx.push(0xfd);
            tx.extend_from_slice(&u16::try_from(count).expect("at most 65,535 of anything").to_le_bytes());
        }
    }
}

fn count_len(count: usize) -> usize {
    if count < 0xfd { 1 } else { 3 }
}

fn output_len(script: &[u8]) -> usize {
    8 + count_len(script.len()) + script.len()
}

/// A length that one byte says.
fn one_byte(len: usize) -> u8 {
    u8::try_from(len).expect("a short script")
}

#[cfg(test)]
mod tests {
    use bitcoin::Transaction;
    use bitcoin::consensus::deserialize;

    use super::*;

    fn draft<'a>(place: ExtranoncePlace, outputs: &'a [CoinbaseOutput<'a>]) -> CoinbaseDraft<'a> {
        CoinbaseDraft {
            height: 840_000,
            tag: b"millrace\0",
            unique_id: 0x1234,
            prime_id: 0x0403_0201,
            prefix: [0xab, 0xcd],
            place,
            outputs,
        }
    }

    #[test]
    fn pot_and_extranonce_stand_where_it_says_wherever_that_is() {
        let many = vec![(7, &[0x51; 34][..]); 300];
        for outputs in [&many[..1], &many[..251], &many[..252], &many] {
            for place in [
                ExtranoncePlace::Push,
                ExtranoncePlace::Output(0),
                ExtranoncePlace::Output(1),
                ExtranoncePlace::Output(outputs.len()),
            ] {
                let draft = draft(place, outputs);
                let mut transaction = draft.write();
                let at = transaction.extranonce_at;
                assert_eq!(transaction.bytes[at - 2..at], draft.prefix, "{place:?}");
                assert_eq!(transaction.bytes[transaction.target_at..][..3], [0xff, 0x34, 0x12]);
                transaction.bytes[at..at + EXTRANONCE_LEN].fill(0xee);
                let parsed: Transaction = deserialize(&transaction.bytes).expect("a transaction");
                assert!(parsed.is_coinbase());
                let carried = match place {
                    ExtranoncePlace::Push => parsed.input[0].script_sig.as_bytes(),
                    ExtranoncePlace::Output(at) => parsed.output[at].script_pubkey.as_bytes(),
                };
                assert!(carried.ends_with(&[0xee; EXTRANONCE_LEN]), "{place:?}");
                let more = usize::from(place != ExtranoncePlace::Push);
                assert_eq!(parsed.output.len(), outputs.len() + more);
            }
        }
    }

    #[test]
    fn what_was_cut_is_rebuilt_with_what_a_share_says() {
        let transaction = draft(ExtranoncePlace::Push, &[(9, &[0x51])]).write();
        let cut = transaction.cut();
        assert_eq!(cut.bytes(), transaction.bytes.len());
        assert_eq!(cut.rebuild(0xff, false, &[0; EXTRANONCE_LEN]), transaction.bytes);
        let at = transaction.extranonce_at;
        let quick = cut.rebuild(3, true, &[0xee; EXTRANONCE_LEN]);
        assert_eq!(quick[transaction.target_at], 3);
        assert_eq!(
            quick[at - 2..at + EXTRANONCE_LEN],
            [&QUICKDIFF[0][..], &[0xee; EXTRANONCE_LEN]].concat()
        );
        let mut again = cut;
        let end = again.coinb1.len();
        again.coinb1[end - 2..].copy_from_slice(&QUICKDIFF[0]);
        assert_eq!(again.rebuild(3, true, &[])[at - 2..at], QUICKDIFF[1]);
    }

    #[test]
    fn heights_keep_their_sign() {
        let pushed = |height| {
            let mut sig = Vec::new();
            push_height(&mut sig, height);
            sig
        };
        assert_eq!(pushed(0), [1, 0]);
        assert_eq!(pushed(127), [1, 127]);
        assert_eq!(pushed(128), [2, 128, 0]);
        assert_eq!(pushed(u32::MAX), [5, 0xff, 0xff, 0xff, 0xff, 0]);
    }
}
