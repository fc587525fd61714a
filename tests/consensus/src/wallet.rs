//! One key, the usual scripts that it can spend, and real signatures.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::{CompressedPublicKey, Keypair, PublicKey, TapTweak, UntweakedPublicKey};
use bitcoin::opcodes::all::{OP_2DROP, OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_DROP};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, KnownHrp, NetworkKind, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};

/// Bytes of an element on the stack, by consensus.
const ELEMENT_MAX: usize = 520;

/// Witness bytes that one input of [`Kind::Padded`] can carry: its script has at most 201 operations, each of which
/// drops two elements.
pub const PADDING_MAX: usize = 390 * ELEMENT_MAX;

/// What an output is locked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    P2pkh,
    P2wpkh,
    /// Segwit inside P2SH: the one that has a scriptSig and a witness.
    P2shP2wpkh,
    P2wsh,
    /// By the key.
    P2tr,
    /// P2WSH whose spending carries so many bytes that mean nothing, [`PADDING_MAX`] at most.
    Padded {
        bytes: usize,
    },
}

impl Kind {
    /// Those that one meets on the chain.
    pub const USUAL: [Self; 5] = [Self::P2wpkh, Self::P2pkh, Self::P2wsh, Self::P2tr, Self::P2shP2wpkh];
}

/// An output of the wallet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    pub outpoint: OutPoint,
    pub value: u64,
    pub kind: Kind,
}

/// A key on regtest.
#[derive(Debug)]
pub struct Wallet {
    secp: Secp256k1<All>,
    secret: SecretKey,
}

impl Wallet {
    /// The key that a name gives: the same each time.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let secret = sha256::Hash::hash(name.as_bytes()).to_byte_array();
        Self {
            secp: Secp256k1::new(),
            secret: SecretKey::from_slice(&secret).expect("nearly every number is a key"),
        }
    }

    #[must_use]
    pub fn address(&self, kind: Kind) -> Address {
        let hrp = KnownHrp::Regtest;
        match kind {
            Kind::P2pkh => Address::p2pkh(self.public(), NetworkKind::Test),
            Kind::P2wpkh => Address::p2wpkh(&self.compressed(), hrp),
            Kind::P2shP2wpkh => Address::p2shwpkh(&self.compressed(), NetworkKind::Test),
            Kind::P2wsh | Kind::Padded { .. } => Address::p2wsh(&self.witness_script(kind), hrp),
            Kind::P2tr => Address::p2tr(&self.secp, self.x_only(), None, hrp),
        }
    }

    #[must_use]
    pub fn script(&self, kind: Kind) -> ScriptBuf {
        self.address(kind).script_pubkey()
    }

    /// An output that the wallet can spend.
    #[must_use]
    pub fn output(&self, value: u64, kind: Kind) -> TxOut {
        TxOut {
            value: Amount::from_sat(value),
            script_pubkey: self.script(kind),
        }
    }

    /// A signed transaction. What `outputs` leave over is the fee.
    #[must_use]
    pub fn spend(&self, coins: &[Coin], outputs: Vec<TxOut>) -> Transaction {
        let input = coins.iter().map(|coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::new(),
        });
        let unsigned = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: input.collect(),
            output: outputs,
        };
        let spent: Vec<_> = coins.iter().map(|coin| self.output(coin.value, coin.kind)).collect();
        let mut signed = unsigned.clone();
        let mut cache = SighashCache::new(&unsigned);
        for (at, coin) in coins.iter().enumerate() {
            let value = Amount::from_sat(coin.value);
            let input = &mut signed.input[at];
            match coin.kind {
                Kind::P2pkh => {
                    let script = self.script(coin.kind);
                    let all = EcdsaSighashType::All.to_u32();
                    let hash = cache
                        .legacy_signature_hash(at, &script, all)
                        .expect("the input is there");
                    let key = self.public().inner.serialize();
                    input.script_sig = Builder::new()
                        .push_slice(self.ecdsa(hash.to_byte_array()))
                        .push_slice(key)
                        .into_script();
                }
                Kind::P2wpkh | Kind::P2shP2wpkh => {
                    let script = self.script(Kind::P2wpkh);
                    let hash = cache
                        .p2wpkh_signature_hash(at, &script, value, EcdsaSighashType::All)
                        .expect("the input is there");
                    input.witness.push(self.ecdsa(hash.to_byte_array()).as_bytes());
                    input.witness.push(self.public().inner.serialize());
                    if coin.kind == Kind::P2shP2wpkh {
                        let program = PushBytesBuf::try_from(script.into_bytes()).expect("a short script");
                        input.script_sig = Builder::new().push_slice(program).into_script();
                    }
                }
                Kind::P2wsh | Kind::Padded { .. } => {
                    let script = self.witness_script(coin.kind);
                    let hash = cache
                        .p2wsh_signature_hash(at, &script, value, EcdsaSighashType::All)
                        .expect("the input is there");
                    if let Kind::Padded { bytes } = coin.kind {
                        for start in (0..bytes).step_by(ELEMENT_MAX) {
                            input
                                .witness
                                .push([0x5a; ELEMENT_MAX].get(..bytes - start).unwrap_or(&[0x5a; ELEMENT_MAX]));
                        }
                    }
                    input.witness.push(self.ecdsa(hash.to_byte_array()).as_bytes());
                    input.witness.push(script.as_bytes());
                }
                Kind::P2tr => {
                    let hash = cache
                        .taproot_key_spend_signature_hash(at, &Prevouts::All(&spent), TapSighashType::Default)
                        .expect("the input is there");
                    let key = Keypair::from_secret_key(&self.secp, &self.secret).tap_tweak(&self.secp, None);
                    let message = Message::from_digest(hash.to_byte_array());
                    let signature = self.secp.sign_schnorr_no_aux_rand(&message, &key.to_keypair());
                    input.witness.push(signature.as_ref());
                }
            }
        }
        signed
    }

    fn witness_script(&self, kind: Kind) -> ScriptBuf {
        let key = self.public();
        let Kind::Padded { bytes } = kind else {
            return Builder::new().push_key(&key).push_opcode(OP_CHECKSIG).into_script();
        };
        assert!(bytes <= PADDING_MAX);
        let elements = bytes.div_ceil(ELEMENT_MAX);
        let mut script = Builder::new().push_key(&key).push_opcode(OP_CHECKSIGVERIFY);
        for _ in 0..elements / 2 {
            script = script.push_opcode(OP_2DROP);
        }
        if elements % 2 == 1 {
            script = script.push_opcode(OP_DROP);
        }
        script.push_int(1).into_script()
    }

    fn ecdsa(&self, hash: [u8; 32]) -> PushBytesBuf {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(hash), &self.secret);
        let mut bytes = signature.serialize_der().to_vec();
        bytes.push(EcdsaSighashType::All as u8);
        PushBytesBuf::try_from(bytes).expect("a signature is short")
    }

    fn public(&self) -> PublicKey {
        PublicKey::new(self.secret.public_key(&self.secp))
    }

    fn compressed(&self) -> CompressedPublicKey {
        CompressedPublicKey(self.secret.public_key(&self.secp))
    }

    fn x_only(&self) -> UntweakedPublicKey {
        self.secret.x_only_public_key(&self.secp).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::check_scripts;

    fn coin(value: u64, kind: Kind) -> Coin {
        let txid = bitcoin::Txid::from_byte_array([7; 32]);
        Coin {
            outpoint: OutPoint { txid, vout: 0 },
            value,
            kind,
        }
    }

    #[test]
    fn the_engine_takes_every_kind_of_signature_and_no_other_value_or_key() {
        let (wallet, other) = (Wallet::new("a"), Wallet::new("b"));
        let kinds = [0, 1, 519, 520, 521, PADDING_MAX].map(|bytes| Kind::Padded { bytes });
        for kind in Kind::USUAL.into_iter().chain(kinds) {
            let coin = coin(50_000, kind);
            let spending = wallet.spend(std::slice::from_ref(&coin), vec![wallet.output(40_000, Kind::P2wpkh)]);
            let spent = wallet.output(coin.value, kind);
            assert_eq!(
                check_scripts(&spending, std::slice::from_ref(&spent)),
                Ok(()),
                "{kind:?}"
            );
            let forged = other.spend(&[coin], vec![wallet.output(40_000, Kind::P2wpkh)]);
            assert!(check_scripts(&forged, &[spent]).is_err(), "{kind:?}");
            if kind != Kind::P2pkh {
                assert!(
                    check_scripts(&spending, &[wallet.output(50_001, kind)]).is_err(),
                    "{kind:?}"
                );
            }
        }
    }
}
