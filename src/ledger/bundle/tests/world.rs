//! Small books with one block to prove, and random ones.

use std::io::Cursor;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::ledger::LedgerError;
use crate::ledger::books::{Mined, OldShares, Scheme, SchemeKind, Snapshot, SplitTerms, Terms, Window, Work, settle};
use crate::ledger::bundle::format::{self, Booked, Head, Kind, Payee, Share};
use crate::ledger::bundle::{BundleError, Privacy, Verified, export, verify};
use crate::wire::{SecretKeys, commitment_script};
use crate::work::{Payout, Pin, Split, header_hash};

pub const OWN: &[u8] = &[0x51, 0x20, 7];
pub const VALUE: u64 = 312_500_000;

/// Books with one block to prove.
#[derive(Debug, Clone)]
pub struct World {
    pub scripts: Vec<Arc<[u8]>>,
    /// By payee: balance, and what of it is promised by immature blocks.
    pub balances: Vec<(i64, u64)>,
    pub log: Vec<Work>,
    /// The first of them that is still kept.
    pub kept_from: u64,
    pub terms: Terms,
    pub kind: Kind,
    /// Which outputs of the split the coinbase pays, repeated.
    pub pays: Vec<bool>,
    pub finder: u32,
}

/// A bundle before it is sealed.
#[derive(Debug, Clone)]
pub struct Parts {
    pub head: Head,
    pub payees: Vec<Payee>,
    pub shares: Vec<Share>,
}

pub fn pool() -> SecretKeys {
    SecretKeys::from_seeds(&[7; 64])
}

impl World {
    /// Three payees with work, one with a balance alone, and shares that the window cuts.
    pub fn small() -> Self {
        Self {
            scripts: (0..4).map(script).collect(),
            balances: vec![(5_000, 0), (-200, 0), (90_000, 20_000), (70_000, 0)],
            // Older than the window, cut by it, and within: 7 of 10 count of the second.
            log: [
                (1, 0),
                (0, 5),
                (1, 4),
                (2, 4),
                (0, 3),
                (1, 5),
                (2, 2),
                (0, 4),
                (1, 5),
                (2, 5),
                (0, 0),
            ]
            .map(|(payee, pot)| Work { payee, pot })
            .to_vec(),
            kept_from: 0,
            terms: Terms {
                scheme: SchemeKind::Tides,
                split: SplitTerms {
                    fee_ppm: 10_000,
                    minimum: 10_000,
                },
                difficulty: 10,
            },
            kind: Kind::Pays { with_balances: true },
            pays: vec![true],
            finder: 0,
        }
    }

    pub fn parts(&self, privacy: Privacy) -> Parts {
        let pin = Pin {
            sequence: self.log.len() as u64,
            event: 5,
        };
        let span = self.terms.span();
        let window = Window::at(pin.sequence, span, &mut Log(self)).expect("a list");
        let payable = |payee: u32| {
            let (balance, promised) = self.balances[payee as usize];
            balance - promised.cast_signed()
        };
        let weights = self.terms.scheme.weights(&window, None);
        let snapshot = Snapshot::new(pin, self.terms.split, OWN, &weights, &self.scripts, payable);
        let with_balances = self.kind.with_balances();
        let split = with_balances.map_or_else(Vec::new, |with_balances| snapshot.payouts(VALUE, with_balances));
        let mut pays = self.pays.iter().cycle();
        let is_paid = |_: &&Payout| *pays.next().expect("not empty");
        let mut paid: Vec<Payout> = split.iter().filter(is_paid).cloned().collect();
        if self.kind.is_by_hand()
            && let Some(first) = paid.first_mut()
        {
            // Why it did not book itself.
            first.value -= 1;
        }
        let coinbase = coinbase(&paid);
        let left = VALUE - paid.iter().map(|payout| payout.value).sum::<u64>();
        let (own, others): (Vec<&Payout>, Vec<_>) = paid.iter().partition(|payout| &*payout.script == OWN);
        let to_pool = left + own.iter().map(|payout| payout.value).sum::<u64>();
        let owner = self.scripts.iter().zip(0..).find(|(script, _)| ***script == *OWN);
        let mined = Mined {
            paid: others.iter().map(|payout| (payout.payee, payout.value)).collect(),
            to_pool,
            shared: owner.map(|(_, payee)| (payee, to_pool)).into_iter().collect(),
        };
        let finder = (self.terms.scheme == SchemeKind::Solo).then_some(self.finder);
        let weights = self.terms.scheme.weights(&window, finder);
        // In the order of the ledger's numbers, which is not that of scripts.
        let payees = self
            .scripts
            .iter()
            .zip(0_u32..)
            .map(|(script, payee)| (payee, self.balances[payee as usize].0, &**script));
        let booked = settle([0; 32], pin.sequence, &mined, &self.terms.split, &weights, payees);

        let salt = match privacy {
            Privacy::Clear => [0; 32],
            Privacy::Hashed => [0x5a; 32],
        };
        let mut listed: Vec<u32> = (0..).take(self.scripts.len()).collect();
        listed.sort_by_key(|payee| &self.scripts[*payee as usize]);
        let row = |payee: u32| {
            let row = listed.iter().position(|listed| *listed == payee).expect("listed");
            u32::try_from(row).expect("few")
        };
        let is_dictated = with_balances.is_some();
        let payees = listed
            .iter()
            .map(|payee| {
                let script = &*self.scripts[*payee as usize];
                let (balance, _) = self.balances[*payee as usize];
                let posting = booked.postings.iter().find(|posting| posting.payee == *payee);
                Payee {
                    name: format::name(privacy, &salt, script),
                    script_len: u8::try_from(script.len()).expect("short"),
                    sigops: format::sigops(script),
                    balance_at_pin: balance,
                    payable_at_pin: payable(*payee),
                    balance_at_booking: balance,
                    earned: posting.map_or(0, |posting| posting.earned),
                    paid: posting.map_or(0, |posting| posting.paid),
                    dictated: is_dictated.then(|| {
                        let output = split.iter().find(|output| output.payee == *payee);
                        output.map_or(0, |output| output.value)
                    }),
                }
            })
            .collect();
        let front = usize::try_from(window.front()).expect("few");
        let shares: Vec<Share> = self.log[front..]
            .iter()
            .zip(1_u64..)
            .map(|(work, at)| Share {
                row: row(work.payee),
                pot: work.pot,
                time_ms: 1_800_000_000_000 + at,
                hash64: at.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            })
            .collect();
        let mut head = Head {
            by_former_rules: false,
            privacy,
            salt,
            chain: "dev".to_owned(),
            kind: self.kind,
            block: [0; 32],
            pin,
            booked_by: 5,
            terms: self.terms,
            value: VALUE,
            own_script: OWN.into(),
            pool_scripts: vec![OWN.into()],
            header: [1; 80],
            branches: vec![[3; 32], [4; 32]],
            coinbase: serialize(&coinbase),
            booked: Booked {
                value: booked.value,
                to_pool: booked.to_pool,
                fee: booked.fee,
            },
            finder: finder.map(row),
            payees: u32::try_from(listed.len()).expect("few"),
            kept_from: if window.is_short() { window.front() } else { 0 },
            front: window.front(),
            front_part: u64::try_from(window.front_part()).expect("small"),
            shares: shares.len() as u64,
            is_dictated,
        };
        prove_header(&mut head);
        Parts { head, payees, shares }
    }
}

impl Parts {
    pub fn sealed(&self, keys: &SecretKeys) -> Vec<u8> {
        let shares = self.shares.iter().map(|share| Ok::<_, std::io::Error>(*share));
        export::write(Vec::new(), keys, &self.head, self.payees.clone(), shares).expect("memory")
    }

    pub fn verify(&self) -> Result<Verified, BundleError> {
        check(&self.sealed(&pool()))
    }
}

/// Whether the pool's key and the content hold.
pub fn check(file: &[u8]) -> Result<Verified, BundleError> {
    verify(Cursor::new(file), &pool().public(), None)
}

/// Distinct scripts of three types, in no order.
pub fn script(number: u32) -> Arc<[u8]> {
    let hash = Sha256::digest(number.to_le_bytes());
    match number % 3 {
        0 => [&[0x76, 0xa9, 20], &hash[..20], &[0x88, 0xac]].concat().into(),
        1 => [&[0x00, 20], &hash[..20]].concat().into(),
        _ => [&[0x51, 32], &hash[..]].concat().into(),
    }
}

pub fn output(value: u64, script: &[u8]) -> TxOut {
    TxOut {
        value: Amount::from_sat(value),
        script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
    }
}

pub fn coinbase(paid: &[Payout]) -> Transaction {
    let left = VALUE - paid.iter().map(|payout| payout.value).sum::<u64>();
    let mut outputs = vec![output(0, &[&[0x6a, 0x0e][..], &[9; 14]].concat())];
    outputs.extend(paid.iter().map(|payout| output(payout.value, &payout.script)));
    outputs.push(match left {
        0 => output(0, &[0x6a, 0x01, 0x00]),
        left => output(left, OWN),
    });
    outputs.push(output(0, &commitment_script(&[8; 32])));
    Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(vec![1, 1, 4, 0, 0, 0, 0]),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: outputs,
    }
}

/// Makes the header one that its coinbase leads to.
pub fn prove_header(head: &mut Head) {
    let sha256d = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(Sha256::digest(bytes)).into() };
    let root = head.branches.iter().fold(sha256d(&head.coinbase), |node, branch| {
        sha256d(&[node, *branch].concat())
    });
    head.header[36..68].copy_from_slice(&root);
    head.block = header_hash(&head.header);
}

/// What is kept of its log.
struct Log<'a>(&'a World);

impl OldShares for Log<'_> {
    fn from(&mut self, from: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        assert!(from >= self.0.kept_from);
        let from = usize::try_from(from).expect("few");
        Ok(Box::new(self.0.log[from..].iter().map(|work| Ok(*work))))
    }

    fn before(&mut self, before: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        let kept = usize::try_from(self.0.kept_from).expect("few")..usize::try_from(before).expect("few");
        Ok(Box::new(self.0.log[kept].iter().rev().map(|work| Ok(*work))))
    }
}

pub fn worlds(payees: u32) -> impl Strategy<Value = World> {
    let scheme = prop_oneof![
        Just(SchemeKind::Tides),
        (1..5_000_u64).prop_map(|work| SchemeKind::Pplns { work }),
        Just(SchemeKind::Solo),
    ];
    let kind = prop_oneof![
        4 => Just(Kind::Pays { with_balances: true }),
        1 => Just(Kind::Pays { with_balances: false }),
        1 => Just(Kind::WithoutPayouts),
        1 => prop_oneof![Just(None), Just(Some(true)), Just(Some(false))].prop_map(|told| Kind::ByHand { told }),
    ];
    (1..=payees).prop_flat_map(move |payees| {
        // Few values each, so that dues are often equal.
        let balance = (-3..20_i64, 0..3_u64).prop_map(|(steps, promised)| (steps * 20_000, promised * 20_000));
        let work = (0..payees, 0..8_u8).prop_map(|(payee, pot)| Work { payee, pot });
        let terms = (scheme.clone(), 0..=1_000_000_u32, 546..1_000_000_u64, 1..100_u64);
        (
            vec(balance, payees as usize),
            vec(work, 0..200),
            terms,
            kind.clone(),
            vec(any::<bool>(), 1..10),
            // The second has the pool's script, where that is a payee.
            (0..payees, 0..2 * payees),
            prop_oneof![2 => Just(0), 1 => 0..200_u64],
        )
            .prop_map(
                move |(balances, log, terms, kind, pays, (finder, own), kept_from)| World {
                    scripts: (0..payees)
                        .map(|payee| if payee == own { OWN.into() } else { script(payee) })
                        .collect(),
                    balances,
                    kept_from: kept_from.min(log.len() as u64),
                    log,
                    terms: Terms {
                        scheme: terms.0,
                        split: SplitTerms {
                            // Mostly a small one.
                            fee_ppm: if terms.1 % 2 == 0 { terms.1 / 50 } else { terms.1 },
                            minimum: terms.2,
                        },
                        difficulty: terms.3,
                    },
                    kind,
                    pays,
                    finder,
                },
            )
    })
}
