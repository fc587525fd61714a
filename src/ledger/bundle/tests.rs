//! Bundles of random books: what is written holds, and what was altered does not, whoever signed it.

mod world;

use super::format::Kind;
use std::io::{Cursor, Read, Write};

use bitcoin::consensus::serialize;
use bitcoin::{Amount, Transaction};
use proptest::collection::vec;
use proptest::prelude::*;

use self::world::{Parts, VALUE, World, check, pool, prove_header, script, worlds};
use super::format::{Head, Source};
use super::seal::{self, Sealer};
use super::{BundleError, Mismatch, Privacy, VERSION, verify};
use crate::ledger::books::{Terms, Work};
use crate::wire::SecretKeys;

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
    type Lie = fn(&mut Parts);
    let lies: [(&str, Lie); 21] = [
        ("more earned", |parts| parts.payees[0].earned += 1),
        ("moved from one to another", |parts| {
            parts.payees[0].earned -= 1;
            parts.payees[1].earned += 1;
        }),
        ("more dictated", |parts| {
            *parts.payees[1].dictated.as_mut().expect("dictated") += 1
        }),
        ("dictated to somebody else", |parts| {
            let moved = parts.payees[0].dictated;
            parts.payees[0].dictated = parts.payees[1].dictated;
            parts.payees[1].dictated = moved;
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
        ("short, and is not", |parts| parts.head.kept_from = parts.head.front),
    ];
    for (what, lie) in lies {
        let mut parts = good.clone();
        lie(&mut parts);
        let error = parts.verify().expect_err(what);
        assert!(matches!(error, BundleError::Mismatch(_)), "{what}: {error}");
    }
}

#[test]
fn a_window_of_which_shares_were_gone_is_all_that_was_kept() {
    let mut world = World::small();
    world.kept_from = 3;
    let parts = world.parts(Privacy::Clear);
    let verified = parts.verify().expect("it holds");
    assert!(verified.window_short && verified.window_from == 3, "{verified:?}");
    type Lie = fn(&mut Parts);
    let lies: [Lie; 3] = [
        |parts| parts.head.kept_from = 0,
        |parts| parts.head.kept_from -= 1,
        |parts| parts.head.front_part -= 1,
    ];
    for lie in lies {
        let mut parts = parts.clone();
        lie(&mut parts);
        let error = parts.verify().expect_err("it is not so");
        assert!(
            matches!(error, BundleError::Mismatch(Mismatch::WindowWork { .. })),
            "{error}"
        );
    }
}

/// Version 1 lacked the field, since all shares were kept.
#[test]
fn a_bundle_of_version_1_is_read() {
    let mut parts = World::small().parts(Privacy::Clear);
    let mut bytes = without_dictated(&mut parts);
    let mut head = Vec::new();
    parts.head.encode(&mut head);
    // Before the last three numbers of the head, and the byte behind them that it has no more.
    let at = head.len() - 1 - 4 * 8;
    bytes.drain(at..at + 8);
    bytes[8..10].copy_from_slice(&1_u16.to_le_bytes());
    let verified = verify(Cursor::new(seal_again(&bytes)), &pool().public(), None).expect("it holds");
    assert_eq!(verified, parts.verify().expect("it holds"));
    for version in [0, VERSION + 1] {
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        let error = verify(Cursor::new(seal_again(&bytes)), &pool().public(), None).expect_err("no such version");
        assert!(
            matches!(error, BundleError::Version(found) if found == version),
            "{error}"
        );
    }
}

/// Before version 3 all that lies at the pool's script was the pool's.
#[test]
fn a_bundle_of_version_2_is_held_to_the_rules_of_its_time() {
    let mut world = World::small();
    world.scripts[0] = world::OWN.into();
    let mut parts = world.parts(Privacy::Clear);
    let own = parts.payees.iter_mut().find(|payee| *payee.name == *world::OWN);
    let paid = std::mem::take(&mut own.expect("a payee").paid);
    assert!(paid > 0);
    parts.head.booked.to_pool += paid;
    assert!(parts.verify().is_err());
    let mut bytes = without_dictated(&mut parts);
    bytes[8..10].copy_from_slice(&2_u16.to_le_bytes());
    let verified = verify(Cursor::new(seal_again(&bytes)), &pool().public(), None).expect("it holds");
    assert_eq!(verified.paid + verified.to_pool, VALUE);
}

/// Before version 4 nobody kept what was dictated; of what version 4 did not keep it says so.
#[test]
fn a_bundle_of_version_3_does_not_say_what_was_dictated() {
    let mut parts = World::small().parts(Privacy::Hashed);
    assert!(parts.verify().expect("it holds").is_dictated);
    let mut bytes = without_dictated(&mut parts);
    bytes[8..10].copy_from_slice(&3_u16.to_le_bytes());
    let verified = verify(Cursor::new(seal_again(&bytes)), &pool().public(), None).expect("it holds");
    assert!(!verified.is_dictated && verified.split_outputs > 0);
    assert_eq!(verified, parts.verify().expect("it holds"));
}

/// The content as versions before 4 have it, but for the number of the version.
fn without_dictated(parts: &mut Parts) -> Vec<u8> {
    parts.head.is_dictated = false;
    for payee in &mut parts.payees {
        payee.dictated = None;
    }
    let mut bytes = content(&parts.sealed(&pool()));
    let mut head = Vec::new();
    parts.head.encode(&mut head);
    bytes.remove(head.len() - 1);
    bytes
}

/// Before version 5 no block that was booked by hand knew which split its job was told.
#[test]
fn a_bundle_of_a_block_booked_by_hand_is_held_to_what_was_dictated_from_version_5_on() {
    for with_balances in [true, false] {
        let mut world = World::small();
        world.kind = Kind::ByHand {
            told: Some(with_balances),
        };
        let mut parts = world.parts(Privacy::Clear);
        let verified = parts.verify().expect("it holds");
        assert!(verified.by_hand && verified.is_dictated);
        assert_eq!(
            verified.paid_outputs + 1,
            verified.split_outputs,
            "one is paid a satoshi less"
        );
        let mut bytes = content(&parts.sealed(&pool()));
        bytes[8..10].copy_from_slice(&4_u16.to_le_bytes());
        let error = verify(Cursor::new(seal_again(&bytes)), &pool().public(), None).expect_err("it had no such kind");
        assert!(matches!(error, BundleError::Impossible("kind of booking")), "{error}");
        let listed = parts.payees.iter_mut().find(|payee| payee.dictated > Some(0));
        *listed.and_then(|payee| payee.dictated.as_mut()).expect("an output") += 1;
        let error = parts.verify().expect_err("that was not dictated");
        assert!(
            matches!(error, BundleError::Mismatch(Mismatch::Dictated { .. })),
            "{error}"
        );
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
