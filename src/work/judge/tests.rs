//! Every reason: a share that is refused for it and for nothing else, and one just inside the limit.

mod bounds;
mod chain;
mod cheats;
mod draft;
mod mined;
mod order;
mod properties;
mod room;
mod splits;
mod withheld;

use self::draft::{Draft, LEAST_POT, NOW_S, POT, PRIME_ID, Place, Pool, Recipe, TAG, USERNAME, next, script, terms};
use super::*;
use crate::wire::{Flags, commitment_script, extranonce_script};
use crate::work::{MinDiff, PARENTS_ACCEPTED};

/// A good share, bent and then mined.
fn bent(with: impl FnOnce(&mut Draft)) -> Draft {
    let mut draft = Draft::good();
    with(&mut draft);
    draft.mined()
}

/// A good share with a coinbase of its own, mined.
fn cooked(with: impl FnOnce(&mut Recipe)) -> Draft {
    let mut recipe = Recipe::good();
    with(&mut recipe);
    bent(|draft| draft.cook(&recipe))
}

/// The verdict on the first share of a session.
fn verdict(draft: &Draft) -> Result<(), Reason> {
    Pool::new().verdict(draft)
}

#[test]
fn a_good_share_counts() {
    let (draft, mut pool) = (Draft::good().mined(), Pool::new());
    let accepted = pool.judge(&draft).verdict.expect("a good share");
    let (_, hash, _) = draft.rebuild();
    assert_eq!(
        accepted,
        Accepted {
            hash,
            parent: draft.parent,
            pot: POT,
            prime_id: PRIME_ID,
            miner: MinerRef::New,
            pays: false,
            waits_for: None,
        }
    );
    assert_eq!(accepted.hash64().to_le_bytes(), hash[..8]);
    let (id, _) = pool.miners.learn(USERNAME.as_bytes()).expect("room");
    let next = Draft {
        nonce: draft.nonce + 1,
        ..draft.bare()
    }
    .mined();
    assert_eq!(pool.judge(&next).verdict.expect("another").miner, MinerRef::Known(id));
}

#[test]
fn every_class_and_place_counts() {
    for coinbase_id in 0..=5 {
        assert_eq!(verdict(&Draft::good().of_class(coinbase_id).mined()), Ok(()));
        let in_output = cooked(|recipe| recipe.place = Place::Output(0)).of_class(coinbase_id);
        assert_eq!(verdict(&in_output), Ok(()));
    }
    assert_eq!(verdict(&Draft::subsidy_only().mined()), Ok(()));
    for height in [0, 1, 16, 127, 128, 255, 32_767, 32_768, 8_388_607, 8_388_608] {
        let mut draft = cooked(|recipe| {
            recipe.height = height;
            recipe.payments[0].0 = Chain::subsidy(height);
        });
        (draft.height, draft.value) = (height, Chain::subsidy(height));
        assert_eq!(verdict(&draft.mined()), Ok(()), "height {height}");
    }
}

#[test]
fn quick_changes_of_difficulty_count() {
    for prefix in [[0xab, 0xcd], [0x44, 0x51], [0xbb, 0xae]] {
        for place in [Place::Push, Place::Output(0)] {
            let mut pool = Pool::new();
            let mut draft = cooked(|recipe| (recipe.prefix, recipe.place) = (prefix, place));
            for (flags, pot) in [(0, 3), (Flags::QUICKDIFF, 2), (0, 2), (Flags::QUICKDIFF, 3)] {
                (draft.flags, draft.pot) = (flags, pot);
                draft = draft.mined();
                let accepted = pool.judge(&draft).verdict.expect("a good share");
                assert_eq!(accepted.hash, draft.rebuild().1);
                draft = draft.bare();
            }
        }
    }
}

#[test]
fn bad_job_id() {
    let refused = |with: fn(&mut Draft)| assert_eq!(verdict(&bent(with)), Err(Reason::BadJobId));
    refused(|draft| draft.job_id = 8);
    refused(|draft| draft.job_id = 255);
    refused(|draft| draft.sends_job = false);
    assert_eq!(verdict(&bent(|draft| draft.job_id = 7)), Ok(()));
    // What names no slot names no parent either.
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&Draft::good().mined()), Ok(()));
    for parent in 0..8 {
        pool.judge(&bent(|draft| (draft.job_id, draft.parent) = (8, [parent; 32])));
    }
    assert_eq!(pool.verdict(&bent(|draft| draft.nonce = 9_999)), Ok(()));
}

#[test]
fn bad_coinbase_id() {
    let refused = |draft: Draft| assert_eq!(verdict(&draft.mined()), Err(Reason::BadCoinbaseId));
    refused(Draft::good().of_class(6));
    refused(Draft::good().of_class(254));
    refused(Draft::good().of_class(SUBSIDY_ONLY_ID));
    refused(Draft {
        flags: 0,
        ..Draft::subsidy_only()
    });
    refused(Draft {
        flags: Flags::SUBSIDY_ONLY,
        ..Draft::good()
    });
}

#[test]
fn bad_extranonce() {
    for len in [0, 11, 13, 255] {
        assert_eq!(
            verdict(&bent(|draft| draft.extranonce.resize(len, 1))),
            Err(Reason::BadExtranonce)
        );
    }
}

#[test]
fn coinbase_missing() {
    assert_eq!(
        verdict(&bent(|draft| draft.sends_coinbase = false)),
        Err(Reason::CoinbaseMissing)
    );
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&Draft::good().mined()), Ok(()));
    assert_eq!(
        pool.verdict(&Draft::good().of_class(3).bare().mined()),
        Err(Reason::CoinbaseMissing)
    );
    // A job sent again has none yet.
    assert_eq!(
        pool.verdict(&bent(|draft| draft.sends_coinbase = false)),
        Err(Reason::CoinbaseMissing)
    );
}

#[test]
fn coinbase_id_mismatch() {
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&Draft::good().mined()), Ok(()));
    let other = bent(|draft| {
        (draft.section_id, draft.sends_job, draft.extranonce[0]) = (3, false, 99);
    });
    assert_eq!(pool.verdict(&other), Err(Reason::CoinbaseIdMismatch));
    // It was kept all the same, under its own id.
    assert_eq!(
        pool.verdict(&bent(|draft| draft.extranonce[0] = 98).of_class(3).bare()),
        Ok(())
    );
    // Where the share's own never came, that is what is wrong.
    let without_own = Draft {
        sends_job: true,
        ..other
    };
    assert_eq!(pool.verdict(&without_own), Err(Reason::CoinbaseMissing));
    // It was kept there too.
    assert_eq!(
        pool.verdict(&bent(|draft| draft.extranonce[0] = 97).of_class(3).bare()),
        Ok(())
    );
}

#[test]
fn bad_merkle_count() {
    let with = |count: usize, tx_count: u32| {
        bent(|draft| {
            draft.branches = vec![[0x31; 32]; count];
            draft.tx_count = tx_count;
        })
    };
    for (count, tx_count) in [(0, 1), (1, 0), (12, 2_047), (12, 4_096), (25, 1 << 24), (255, u32::MAX)] {
        assert_eq!(
            verdict(&with(count, tx_count)),
            Err(Reason::BadMerkleCount),
            "{count} {tx_count}"
        );
    }
    for (count, tx_count) in [
        (0, 0),
        (1, 1),
        (12, 2_048),
        (12, 4_095),
        (24, 1 << 23),
        (24, (1 << 24) - 1),
    ] {
        assert_eq!(verdict(&with(count, tx_count)), Ok(()), "{count} {tx_count}");
    }
}

#[test]
fn coinbase_too_large() {
    let of_len = |len: usize| {
        bent(|draft| {
            let rest = len - draft.coinb1.len() - EXTRANONCE_LEN;
            draft.coinb2.resize(rest, 0);
        })
    };
    assert_eq!(verdict(&of_len(16_384 + 512 + 12 + 1)), Err(Reason::CoinbaseTooLarge));
    // It may be rebuilt, but what fills it up is no transaction.
    assert_eq!(verdict(&of_len(16_384 + 512 + 12)), Err(Reason::BadCoinbase));
    assert_eq!(
        verdict(&bent(|draft| draft.coinb1 = vec![0; 60_000])),
        Err(Reason::CoinbaseTooLarge)
    );
}

#[test]
fn target_mismatch() {
    let at = |index: u16| bent(|draft| draft.target_index = index);
    let Draft {
        target_index, coinb1, ..
    } = Draft::good();
    let len = coinb1.len() as u16;
    for index in [
        0,
        4,
        42,
        47,
        target_index - 1,
        target_index + 1,
        target_index + 3,
        len - 1,
        len,
        len + 12,
        u16::MAX,
    ] {
        assert_eq!(verdict(&at(index)), Err(Reason::TargetMismatch), "{index}");
    }
    assert_eq!(verdict(&at(target_index)), Ok(()));
}

#[test]
fn missing_pool_tag() {
    let tagged = |tag: &[u8]| verdict(&cooked(|recipe| recipe.tag = tag.to_vec()));
    for tag in [
        &b"millrac\0"[..],
        b"millracf\0",
        b"millrace",
        b"millrace2\0",
        b"millrace\0\0",
        b"millrace\x0fsolo",
        b"millrace\x0fso\0lo\0",
        b"\x0fmillrace\0",
        b"solo\x0fmillrace\0",
        b"\0",
    ] {
        assert_eq!(tagged(tag), Err(Reason::MissingPoolTag), "{tag:?}");
    }
    for tag in [
        &b"millrace\0"[..],
        b"millrace\x0f\0",
        b"millrace\x0fsolo\0",
        b"millrace\x0fa\x0fb\0",
    ] {
        assert_eq!(tagged(tag), Ok(()), "{tag:?}");
    }
    assert_eq!(
        verdict(&cooked(|recipe| recipe.prime_id += 1)),
        Err(Reason::MissingPoolTag)
    );
    assert_eq!(
        verdict(&cooked(|recipe| recipe.prime_id = 0)),
        Err(Reason::MissingPoolTag)
    );
}

#[test]
fn the_longest_tag_counts() {
    let tag = [b't'; 83];
    let mut pool = Pool::new();
    let least = MinDiff::from_pot(0).expect("a pot");
    pool.memory.learn_terms(Terms::new(9, &[0x51; 64], &tag, least), NOW_S);
    let draft = cooked(|recipe| {
        recipe.prime_id = 9;
        recipe.tag = [&tag[..], &[0]].concat();
        recipe.payments[0].1 = vec![0x51; 64];
        recipe.place = Place::Output(0);
    });
    assert_eq!(pool.verdict(&draft), Ok(()));
}

#[test]
fn bad_target() {
    let pot = |pot: u8| verdict(&bent(|draft| draft.pot = pot.min(3)).bent_to(pot));
    assert_eq!(pot(LEAST_POT - 1), Err(Reason::BadTarget));
    assert_eq!(pot(LEAST_POT), Ok(()));
    assert_eq!(pot(64), Err(Reason::BadTarget));
    assert_eq!(pot(255), Err(Reason::BadTarget));
    // Nobody has done that much work here.
    assert_eq!(pot(POT_MAX), Err(Reason::HighHash));
}

impl Draft {
    /// Another pot without another search, where that would take forever.
    fn bent_to(mut self, pot: u8) -> Self {
        self.pot = pot;
        if pot < 10 { self.mined() } else { self }
    }
}

#[test]
fn the_least_difficulty_is_the_lowest_since_the_terms_named() {
    let mut pool = Pool::new();
    let under = |prime_id: u32, pot: u8| cooked(|recipe| recipe.prime_id = prime_id).bent_to(pot);
    pool.memory.learn_terms(terms(7, LEAST_POT + 2), NOW_S);
    assert_eq!(pool.verdict(&under(PRIME_ID, LEAST_POT)), Ok(()));
    assert_eq!(pool.verdict(&under(7, LEAST_POT + 1)), Err(Reason::BadTarget));
    assert_eq!(pool.verdict(&under(7, LEAST_POT + 2)), Ok(()));
    pool.memory.learn_terms(terms(8, LEAST_POT - 1), NOW_S);
    assert_eq!(pool.verdict(&under(7, LEAST_POT - 1)), Ok(()));
    assert_eq!(pool.verdict(&under(PRIME_ID, LEAST_POT - 1)), Ok(()));
    // Terms that are gone are nobody's.
    pool.memory.learn_terms(terms(9, 0), NOW_S + 100);
    pool.memory.forget_terms(NOW_S + 50);
    assert_eq!(pool.verdict(&under(7, LEAST_POT + 3)), Err(Reason::MissingPoolTag));
    assert_eq!(pool.verdict(&under(8, LEAST_POT + 3)), Ok(()));
}

#[test]
fn bad_coinbase_outputs() {
    let pays = |payments: &[(u64, &[u8])]| {
        let mut draft = cooked(|recipe| {
            recipe.payments = payments
                .iter()
                .map(|(value, script)| (*value, script.to_vec()))
                .collect();
        });
        draft.value = payments.iter().map(|(value, _)| value).sum();
        draft.mined()
    };
    let (ours, stranger, dead) = (script(), [0x51; 22], [0x6a, 0x01, 0x00]);
    let mut longer = ours.clone();
    longer.push(0);
    let refused = |payments: &[(u64, &[u8])]| {
        assert_eq!(
            verdict(&pays(payments)),
            Err(Reason::BadCoinbaseOutputs),
            "{payments:?}"
        );
    };
    refused(&[(1_000, &stranger)]);
    refused(&[(1_000, &longer)]);
    refused(&[(1_000, &ours[..21])]);
    refused(&[(1_000, &[])]);
    refused(&[(1_000, &stranger), (1_000, &ours)]);
    refused(&[(1_000, &ours), (1_000, &stranger)]);
    refused(&[(1_000, &ours), (1_000, &ours)]);
    refused(&[(0, &stranger), (1_000, &ours)]);
    refused(&[(1_000, &stranger), (0, &dead)]);
    refused(&[(1, &dead)]);
    // In class 2 they stand before the extranonce, and are refused for whom they pay, not for where they stand.
    let mut class_2 = cooked(|recipe| {
        recipe.payments = vec![(1, stranger.to_vec()), (2, stranger.to_vec()), (3, ours.clone())];
        recipe.place = Place::Output(2);
    })
    .of_class(2);
    class_2.value = 6;
    assert_eq!(verdict(&class_2.mined()), Err(Reason::BadCoinbaseOutputs));
    assert_eq!(verdict(&pays(&[(1_000, &ours)])), Ok(()));
    assert_eq!(verdict(&pays(&[(0, &ours)])), Ok(()));
    assert_eq!(verdict(&pays(&[(0, &dead)])), Ok(()));
}

#[test]
fn bad_ntime() {
    let now = u32::try_from(NOW_S).expect("before 2106");
    let at = |ntime: u32| verdict(&bent(|draft| draft.ntime = ntime));
    for ntime in [0, now - 7_201, now + 7_201, u32::MAX] {
        assert_eq!(at(ntime), Err(Reason::BadNtime));
    }
    for ntime in [now - 7_200, now + 7_200] {
        assert_eq!(at(ntime), Ok(()));
    }
}

#[test]
fn bad_version() {
    for version in [0, 1, 0x1fff_ffff, 0x4000_0000, 0x6000_0000, 0xa000_0000, u32::MAX] {
        assert_eq!(verdict(&bent(|draft| draft.version = version)), Err(Reason::BadVersion));
    }
    for version in [0x2000_0000, 0x3fff_ffff] {
        assert_eq!(verdict(&bent(|draft| draft.version = version)), Ok(()));
    }
}

#[test]
fn stale_block() {
    let mut pool = Pool::new();
    let on = |parent: u8, slot: u8| bent(|draft| (draft.parent, draft.job_id) = ([parent; 32], slot));
    let last = PARENTS_ACCEPTED as u8;
    for parent in 0..last {
        assert_eq!(pool.verdict(&on(parent, parent)), Ok(()));
    }
    let another = |draft: Draft| {
        Draft {
            nonce: draft.nonce + 1,
            ..draft
        }
        .bare()
        .mined()
    };
    assert_eq!(pool.verdict(&another(on(0, 0))), Ok(()));
    assert_eq!(pool.verdict(&on(last, last)), Ok(()));
    assert_eq!(pool.verdict(&another(another(on(0, 0)))), Err(Reason::StaleBlock));
    assert_eq!(pool.verdict(&another(on(1, 1))), Ok(()));
    // It stays so, by whatever slot or session it comes.
    assert_eq!(pool.verdict(&on(0, 7)), Err(Reason::StaleBlock));
    pool.reconnect();
    assert_eq!(pool.verdict(&on(0, 0)), Err(Reason::StaleBlock));
    assert_eq!(pool.verdict(&on(1, 1)), Err(Reason::DuplicateWork));
}

#[test]
fn high_hash() {
    assert_eq!(verdict(&Draft::good().unmined()), Err(Reason::HighHash));
}

#[test]
fn bad_username() {
    let named = |username: &str| verdict(&bent(|draft| draft.username = username.as_bytes().to_vec()));
    for username in ["", "satoshi", ".rig", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"] {
        assert_eq!(named(username), Err(Reason::BadUsername), "{username}");
    }
    for username in [
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa.a.b",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa.\x07 вышка",
    ] {
        assert_eq!(named(username), Ok(()), "{username}");
    }
}
