//! Bundles of random books: what is written holds, and what was altered does not, whoever signed it.

use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::format::{self, Booked, Head, Kind, Payee, Share, Source};
use super::seal::{self, Sealer};
use super::{BundleError, Mismatch, Privacy, Verified, export, verify};
use crate::ledger::LedgerError;
use crate::ledger::books::{Mined, OldShares, Scheme, SchemeKind, Snapshot, SplitTerms, Terms, Window, Work, settle};
use crate::wire::SecretKeys;
use crate::work::{Payout, Pin, Split, header_hash};

const OWN: &[u8] = &[0x51, 0x20, 7];
const VALUE: u64 = 312_500_000;

/// Books with one block to prove.
#[derive(Debug, Clone)]
struct World {
    scripts: Vec<Arc<[u8]>>,
    /// By payee: balance, and what of it is promised by immature blocks.
    balances: Vec<(i64, u64)>,
    log: Vec<Work>,
    terms: Terms,
    kind: Kind,
    /// Which outputs of the split the coinbase pays, repeated.
    pays: Vec<bool>,
    finder: u32,
}

/// A bundle before it is sealed.
#[derive(Debug, Clone)]
struct Parts {
    head: Head,
    payees: Vec<Payee>,
    shares: Vec<Share>,
}

fn pool() -> SecretKeys {
    SecretKeys::from_seeds(&[7; 64])
}

impl World {
    /// Three payees with work, one with a balance alone, and shares that the window cuts.
    fn small() -> Self {
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

    fn parts(&self, privacy: Privacy) -> Parts {
        let pin = Pin {
            sequence: self.log.len() as u64,
            event: 5,
        };
        let span = self.terms.scheme.span(self.terms.difficulty);
        let window = Window::at(pin.sequence, span, &mut &self.log[..]).expect("a list");
        let payable = |payee: u32| {
            let (balance, promised) = self.balances[payee as usize];
            balance - promised.cast_signed()
        };
        let weights = self.terms.scheme.weights(&window, None);
        let snapshot = Snapshot::new(pin, self.terms.split, OWN, &weights, &self.scripts, payable);
        let split = match self.kind {
            Kind::Pays { with_balances } => snapshot.payouts(VALUE, with_balances),
            Kind::WithoutPayouts | Kind::ByHand => Vec::new(),
        };
        let mut pays = self.pays.iter().cycle();
        let paid: Vec<Payout> = split.into_iter().filter(|_| *pays.next().expect("not empty")).collect();
        let coinbase = coinbase(&paid);
        let to_pool = VALUE - paid.iter().map(|payout| payout.value).sum::<u64>();
        let mined = Mined {
            paid: paid.iter().map(|payout| (payout.payee, payout.value)).collect(),
            to_pool,
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
            front: window.front(),
            front_part: u64::try_from(window.front_part()).expect("small"),
            shares: shares.len() as u64,
        };
        prove_header(&mut head);
        Parts { head, payees, shares }
    }
}

impl Parts {
    fn sealed(&self, keys: &SecretKeys) -> Vec<u8> {
        let shares = self.shares.iter().map(|share| Ok::<_, std::io::Error>(*share));
        export::write(Vec::new(), keys, &self.head, self.payees.clone(), shares).expect("memory")
    }

    fn verify(&self) -> Result<Verified, BundleError> {
        check(&self.sealed(&pool()))
    }
}

fn check(file: &[u8]) -> Result<Verified, BundleError> {
    verify(Cursor::new(file), &pool().public(), None)
}

fn content(file: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut opened = seal::open(Cursor::new(file), &pool().public()).expect("signed");
    opened.read_to_end(&mut content).expect("sound");
    content
}

fn seal_again(content: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(Vec::new()).expect("memory");
    sealer.write_all(content).expect("memory");
    sealer.seal(&pool()).expect("memory")
}

/// Distinct scripts of three types, in no order.
fn script(number: u32) -> Arc<[u8]> {
    let hash = Sha256::digest(number.to_le_bytes());
    match number % 3 {
        0 => [&[0x76, 0xa9, 20], &hash[..20], &[0x88, 0xac]].concat().into(),
        1 => [&[0x00, 20], &hash[..20]].concat().into(),
        _ => [&[0x51, 32], &hash[..]].concat().into(),
    }
}

fn output(value: u64, script: &[u8]) -> TxOut {
    TxOut {
        value: Amount::from_sat(value),
        script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
    }
}

fn coinbase(paid: &[Payout]) -> Transaction {
    let left = VALUE - paid.iter().map(|payout| payout.value).sum::<u64>();
    let mut outputs = vec![output(0, &[&[0x6a, 0x0e][..], &[9; 14]].concat())];
    outputs.extend(paid.iter().map(|payout| output(payout.value, &payout.script)));
    outputs.push(match left {
        0 => output(0, &[0x6a, 0x01, 0x00]),
        left => output(left, OWN),
    });
    outputs.push(output(
        0,
        &[&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[8; 32]].concat(),
    ));
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
fn prove_header(head: &mut Head) {
    let sha256d = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(Sha256::digest(bytes)).into() };
    let root = head.branches.iter().fold(sha256d(&head.coinbase), |node, branch| {
        sha256d(&[node, *branch].concat())
    });
    head.header[36..68].copy_from_slice(&root);
    head.block = header_hash(&head.header);
}

impl OldShares for &[Work] {
    fn from(&mut self, from: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        let from = usize::try_from(from).expect("few");
        Ok(Box::new(self[from..].iter().map(|work| Ok(*work))))
    }

    fn before(&mut self, before: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        let before = usize::try_from(before).expect("few");
        Ok(Box::new(self[..before].iter().rev().map(|work| Ok(*work))))
    }
}

fn worlds(payees: u32) -> impl Strategy<Value = World> {
    let scheme = prop_oneof![
        Just(SchemeKind::Tides),
        (1..5_000_u64).prop_map(|work| SchemeKind::Pplns { work }),
        Just(SchemeKind::Solo),
    ];
    let kind = prop_oneof![
        4 => Just(Kind::Pays { with_balances: true }),
        1 => Just(Kind::Pays { with_balances: false }),
        1 => Just(Kind::WithoutPayouts),
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
            0..payees,
        )
            .prop_map(move |(balances, log, terms, kind, pays, finder)| World {
                scripts: (0..payees).map(script).collect(),
                balances,
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
            })
    })
}

proptest! {
    #[test]
    fn a_bundle_of_any_books_holds_in_both_modes(world in worlds(40)) {
        let clear = world.parts(Privacy::Clear).verify().expect("it holds");
        let hashed = world.parts(Privacy::Hashed).verify().expect("it holds");
        prop_assert_eq!(&clear, &hashed);
        prop_assert_eq!(clear.value, VALUE);
        prop_assert_eq!(clear.paid + clear.to_pool, VALUE);
    }

    #[test]
    fn a_head_reads_back(world in worlds(5), hashed: bool) {
        let privacy = if hashed { Privacy::Hashed } else { Privacy::Clear };
        let Parts { head, .. } = world.parts(privacy);
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        let mut source = Source(&bytes[..]);
        prop_assert_eq!(Head::read(&mut source).expect("a head"), head);
        source.end().expect("nothing follows");
    }

    /// What the pool itself signs may be nonsense, and is read without a panic.
    #[test]
    fn no_content_makes_a_reader_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<Option<prop::sample::Index>>(), hashed: bool,
    ) {
        let privacy = if hashed { Privacy::Hashed } else { Privacy::Clear };
        let mut bytes = content(&World::small().parts(privacy).sealed(&pool()));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let own = script(1);
        let _ = verify(Cursor::new(seal_again(&bytes)), &pool().public(), Some(&own));
    }
}

#[test]
fn a_split_at_the_limits_of_a_coinbase_is_recomputed() {
    let payees = 900;
    let world = World {
        scripts: (0..payees).map(script).collect(),
        balances: (0..i64::from(payees)).map(|payee| (payee % 7 * 30_000, 0)).collect(),
        log: (0..payees).map(|payee| Work { payee, pot: 3 }).collect(),
        terms: Terms {
            difficulty: 100_000,
            ..World::small().terms
        },
        ..World::small()
    };
    for privacy in [Privacy::Clear, Privacy::Hashed] {
        let verified = world.parts(privacy).verify().expect("it holds");
        assert_eq!(verified.paid_outputs, verified.split_outputs);
        assert!((300..=512).contains(&verified.split_outputs), "{verified:?}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for privacy in [Privacy::Clear, Privacy::Hashed] {
        let mut file = World::small().parts(privacy).sealed(&pool());
        check(&file).expect("it holds");
        for at in 0..file.len() {
            for bit in 0..8 {
                file[at] ^= 1 << bit;
                assert!(check(&file).is_err(), "byte {at} bit {bit}");
                file[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn what_is_cut_or_goes_on_is_refused() {
    let file = World::small().parts(Privacy::Clear).sealed(&pool());
    for len in 0..file.len() {
        assert!(check(&file[..len]).is_err(), "cut to {len}");
    }
    for more in [&[0][..], &file] {
        assert!(check(&[&file[..], more].concat()).is_err());
    }
}

#[test]
fn another_pools_key_is_refused() {
    let file = World::small().parts(Privacy::Clear).sealed(&pool());
    let other = SecretKeys::from_seeds(&[8; 64]).public();
    let error = verify(Cursor::new(&file), &other, None).expect_err("another key");
    assert!(matches!(error, BundleError::NotSigned), "{error}");
}

#[test]
fn a_miner_finds_its_own_part_by_its_script_alone() {
    let world = World::small();
    for privacy in [Privacy::Clear, Privacy::Hashed] {
        let file = world.parts(privacy).sealed(&pool());
        let part = |script: &[u8]| {
            let verified = verify(Cursor::new(&file), &pool().public(), Some(script)).expect("it holds");
            verified.own
        };
        let own = part(&script(0)).expect("a part");
        assert_eq!((own.shares, own.work, own.balance), (4, 7 + 8 + 10 + 1, 5_000));
        assert_eq!(own.last_ms - own.first_ms, 9);
        assert!(own.earned > 0 && own.paid == own.earned + 5_000, "{own:?}");
        let idle = part(&script(3)).expect("a balance");
        assert_eq!((idle.shares, idle.earned, idle.paid), (0, 0, 70_000));
        assert_eq!(part(&script(99)), None);
    }
}

#[test]
fn hashed_names_show_no_script_but_those_that_the_coinbase_pays() {
    let world = World {
        pays: vec![true, false],
        ..World::small()
    };
    let clear = content(&world.parts(Privacy::Clear).sealed(&pool()));
    let parts = world.parts(Privacy::Hashed);
    let hashed = content(&parts.sealed(&pool()));
    let shows = |bytes: &[u8], script: &[u8]| bytes.windows(script.len()).any(|window| window == script);
    let mut hidden = 0;
    for script in &world.scripts {
        assert!(shows(&clear, script));
        let paid = shows(&parts.head.coinbase, script);
        assert_eq!(shows(&hashed, script), paid);
        hidden += usize::from(!paid);
    }
    assert_eq!(hidden, 2);
}

#[test]
fn what_the_pool_signs_and_is_not_so_is_refused() {
    let good = World::small().parts(Privacy::Clear);
    good.verify().expect("it holds");
    let lies: [(&str, fn(&mut Parts)); 18] = [
        ("more earned", |parts| parts.payees[0].earned += 1),
        ("moved from one to another", |parts| {
            parts.payees[0].earned -= 1;
            parts.payees[1].earned += 1;
        }),
        ("paid and not in the coinbase", |parts| parts.payees[3].paid += 1),
        ("a higher fee", |parts| parts.head.booked.fee += 1),
        ("more to the pool", |parts| parts.head.booked.to_pool += 1),
        ("another value", |parts| parts.head.value += 1_000),
        ("terms with a higher fee", |parts| {
            parts.head.terms.split.fee_ppm += 1_000
        }),
        ("terms with another difficulty", |parts| {
            parts.head.terms.difficulty -= 1
        }),
        ("a balance left out", |parts| {
            for payee in &mut parts.payees {
                payee.balance_at_pin = 0;
                payee.payable_at_pin = payee.payable_at_pin.min(0);
                payee.balance_at_booking = 0;
            }
        }),
        ("balances that differ at one event", |parts| {
            parts.payees[2].balance_at_booking += 1
        }),
        ("a share left out", |parts| {
            parts.shares.remove(0);
            parts.head.shares -= 1;
            parts.head.front += 1;
        }),
        ("a share of somebody else", |parts| {
            parts.shares[1].row = (parts.shares[1].row + 1) % 4;
        }),
        ("a share that counts less", |parts| parts.shares[3].pot -= 1),
        ("less of the oldest share", |parts| parts.head.front_part -= 1),
        ("more of the oldest share", |parts| parts.head.front_part += 1),
        ("another own script", |parts| {
            parts.head.own_script = Box::from(&[0x52_u8][..])
        }),
        ("another branch", |parts| parts.head.branches[0][0] ^= 1),
        ("rows in another order", |parts| parts.payees.swap(0, 1)),
    ];
    for (what, lie) in lies {
        let mut parts = good.clone();
        lie(&mut parts);
        let error = parts.verify().expect_err(what);
        assert!(matches!(error, BundleError::Mismatch(_)), "{what}: {error}");
    }
}

#[test]
fn a_coinbase_that_pays_another_value_is_refused_by_its_output() {
    let mut parts = World::small().parts(Privacy::Hashed);
    let mut coinbase: Transaction = bitcoin::consensus::deserialize(&parts.head.coinbase).expect("a transaction");
    coinbase.output[1].value -= Amount::from_sat(1);
    parts.head.coinbase = serialize(&coinbase);
    prove_header(&mut parts.head);
    let error = parts.verify().expect_err("another value");
    assert!(
        matches!(error, BundleError::Mismatch(Mismatch::Payout { place: 1, .. })),
        "{error}"
    );
}

#[test]
fn hashed_rows_in_another_order_are_refused_where_the_coinbase_shows_their_scripts() {
    let mut parts = World::small().parts(Privacy::Hashed);
    parts.payees.swap(0, 3);
    let error = parts.verify().expect_err("another order");
    assert!(
        matches!(
            error,
            BundleError::Mismatch(Mismatch::Order { .. } | Mismatch::Script { .. })
        ),
        "{error}"
    );
}
