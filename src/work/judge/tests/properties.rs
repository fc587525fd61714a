//! What holds for any share, any section and any order of them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::work::COINBASE_BUDGET;

/// Sections of all kinds: good ones, and ones with a fault at a place where structure is.
fn any_section() -> impl Strategy<Value = Draft> {
    let payment = prop_oneof![
        Just(script()),
        Just(vec![0x6a, 0x01, 0x00]),
        Just([&[0x6a, 14][..], &[1; 14]].concat()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let recipe = (
        prop_oneof![
            Just(&b"millrace\0"[..]),
            Just(&b"millrace\x0fx\0"[..]),
            Just(&b"\x07\0"[..])
        ],
        prop_oneof![4 => Just(PRIME_ID), 1 => any::<u32>()],
        proptest::collection::vec((0..3_u64, payment), 0..4),
        prop_oneof![Just(Place::Push), (0..4_usize).prop_map(Place::Output)],
        prop_oneof![Just([0x44, 0x51]), Just([0xbb, 0xae]), any::<[u8; 2]>()],
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.6),
    );
    let recipe = recipe.prop_map(|(tag, prime_id, payments, place, prefix, commitment, pays_us)| Recipe {
        tag: tag.to_vec(),
        prime_id,
        payments: if pays_us { vec![(7, script())] } else { payments },
        place: if pays_us && place != Place::Push {
            Place::Output(0)
        } else {
            place
        },
        prefix,
        commitment,
        ..Recipe::good()
    });
    let fault = prop_oneof![
        6 => Just(None),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some),
    ];
    (
        recipe,
        fault,
        -14..15_i32,
        -4..5_i32,
        prop::bool::weighted(0.2),
        0..6_u8,
    )
        .prop_map(|(recipe, fault, cut, target, moves, coinbase_id)| {
            let mut draft = Draft::good().of_class(coinbase_id);
            draft.cook(&recipe);
            draft.value = recipe.payments.iter().map(|(value, _)| value).sum();
            if moves {
                draft.target_index = (i32::from(draft.target_index) + target) as u16;
                // The cut between the parts, and so the extranonce, wanders.
                let mut whole = [&draft.coinb1[..], &draft.coinb2].concat();
                let at = (draft.coinb1.len() as i32 + cut).clamp(0, whole.len() as i32);
                draft.coinb2 = whole.split_off(at as usize);
                draft.coinb1 = whole;
            }
            if let Some((at, byte)) = fault {
                let part = if byte % 2 == 0 {
                    &mut draft.coinb1
                } else {
                    &mut draft.coinb2
                };
                if !part.is_empty() {
                    let at = at.index(part.len());
                    part[at] = byte;
                }
            }
            draft
        })
}

/// What varies between the shares of a section.
fn any_variation() -> impl Strategy<Value = (u8, u8, [u8; 12])> {
    let bytes = prop_oneof![
        any::<[u8; 12]>(),
        Just([0x6a, 14, 7, 0xff, 0, 0, 0, 0, 16, 0x6a, 14, 0])
    ];
    (
        prop_oneof![Just(0), Just(Flags::QUICKDIFF)],
        prop_oneof![0..5_u8, any::<u8>()],
        bytes,
    )
}

proptest! {
    /// A later share of a section is judged as if its section had come with it.
    #[test]
    fn a_kept_proof_says_what_a_new_one_would(
        section in any_section(),
        variations in proptest::collection::vec(any_variation(), 1..6),
    ) {
        let mut kept = Pool::new();
        for (nonce, (flags, pot, extranonce)) in variations.into_iter().enumerate() {
            let draft = Draft { flags, pot, extranonce: extranonce.to_vec(), nonce: nonce as u32, ..section.clone() };
            let later = if nonce == 0 { draft.clone() } else { draft.clone().bare() };
            prop_assert_eq!(kept.judge(&later).verdict, Pool::new().judge(&draft).verdict);
        }
    }

    /// Whatever is sent, what is rebuilt is what protocol section 5 says.
    #[test]
    fn rebuilds_as_the_protocol_says(
        coinb1 in proptest::collection::vec(any::<u8>(), 1..600),
        coinb2 in proptest::collection::vec(any::<u8>(), 0..600),
        target: prop::sample::Index,
        branches in proptest::collection::vec(any::<[u8; 32]>(), 0..=24),
        fields: (u32, u32, u32, u32, [u8; 32]),
        variations in proptest::collection::vec(any_variation(), 1..4),
        subsidy_only: bool,
    ) {
        let (ntime, nonce, version, nbits, parent) = fields;
        let mut draft = Draft {
            target_index: target.index(coinb1.len()) as u16,
            ntime, nonce, version, nbits, parent, coinb1, coinb2,
            tx_count: ((1_u64 << branches.len()) - 1) as u32,
            branches,
            ..Draft::good().of_class(if subsidy_only { SUBSIDY_ONLY_ID } else { 3 })
        };
        let mut pool = Pool::of_blocks();
        for (flags, pot, extranonce) in variations {
            draft.flags = flags | if subsidy_only { Flags::SUBSIDY_ONLY } else { 0 };
            (draft.pot, draft.extranonce) = (pot, extranonce.to_vec());
            let expected = draft.rebuild();
            // One hash in 65,536 is not even here a block; and the same share may come twice.
            let is_block = draft.top_of_hash() <= 0xffff_0000 && pool.memory.clone().is_new_candidate(&expected.1);
            let candidate = pool.judge(&draft).candidate;
            prop_assert_eq!(candidate.is_some(), is_block);
            if let Some(candidate) = candidate {
                prop_assert_eq!((candidate.header, candidate.hash, candidate.coinbase), expected);
            }
            draft = draft.bare();
        }
    }

    /// Nothing that can be said in a share makes the pool fall over, or forget its bounds.
    #[test]
    fn bears_whatever_is_sent(
        shares in proptest::collection::vec(
            (
                (any::<u8>(), 0..9_u8, prop_oneof![0..7_u8, Just(0xff)], 0..8_u8, any::<u8>(), any::<u16>()),
                (0..3_u8, any::<u32>(), any::<u64>(), 0..40_usize, 0..16_usize),
                proptest::collection::vec(any::<u8>(), 0..700),
                proptest::collection::vec(any::<u8>(), 0..17_000),
            ),
            1..12,
        ),
    ) {
        let mut pool = Pool::new();
        for ((sends, job_id, coinbase_id, flags, pot, target_index), numbers, coinb1, coinb2) in shares {
            let (parent, tx_count, value, branches, extranonce) = numbers;
            let draft = Draft {
                job_id, coinbase_id, flags, pot, target_index, tx_count, value, coinb1, coinb2,
                height: tx_count,
                section_id: if sends & 4 == 0 { coinbase_id } else { sends },
                parent: [parent; 32],
                branches: vec![[sends; 32]; branches],
                extranonce: vec![pot; extranonce],
                username: vec![sends; usize::from(sends)],
                sends_job: sends & 1 != 0,
                sends_coinbase: sends & 2 != 0,
                ..Draft::good()
            };
            prop_assert!(pool.judge(&draft).verdict.is_err());
            prop_assert!(pool.jobs.bytes() <= COINBASE_BUDGET);
        }
    }

    /// However a gateway mixes slots, ids, sections and sessions, no work counts twice, and all work counts once.
    #[test]
    fn counts_each_work_once(
        steps in proptest::collection::vec((0..6_u32, 0..3_u8, 0..8_u8, 0..6_u8, prop::bool::weighted(0.05)), 1..60),
    ) {
        let (mut pool, mut counted) = (Pool::new(), HashSet::new());
        for (extranonce, parent, job_id, coinbase_id, reconnects) in steps {
            if reconnects {
                pool.reconnect();
            }
            let draft = bent(|draft| {
                (draft.job_id, draft.parent) = (job_id, [parent; 32]);
                draft.extranonce[0] = extranonce as u8;
            })
            .of_class(coinbase_id);
            let expected = if counted.insert((extranonce, parent)) { Ok(()) } else { Err(Reason::DuplicateWork) };
            prop_assert_eq!(pool.verdict(&draft), expected);
        }
    }
}
