use super::*;
use crate::wire::laws::{encoded, gateway_error, gateway_is_heard, hear_from_gateway, pool_error, pool_is_heard};
use crate::wire::{FromGateway, FromPool};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a share borrows from.
#[derive(Debug, Clone)]
struct Parts {
    bytes: [u8; 4],
    words: [u32; 8],
    extranonce: Vec<u8>,
    username: Vec<u8>,
    parent: [u8; 32],
    target_index: u16,
    value: u64,
    branches: Vec<[u8; 32]>,
    coinb1: Vec<u8>,
    coinb2: Vec<u8>,
    padding: Vec<u8>,
    has_job: bool,
    has_coinbase: bool,
}

impl Parts {
    fn share(&self) -> Share<'_> {
        let [job_id, coinbase_id, flags, target_pot] = self.bytes;
        let [ntime, nonce, version, nbits, height, tx_count, weight, size] = self.words;
        let job = JobSection {
            prev_block_hash: &self.parent,
            target_index: self.target_index,
            nbits,
            coinbaser_id: coinbase_id,
            height,
            coinbase_value: self.value,
            tx_count,
            weight,
            size,
            sigops: nonce,
            branches: &self.branches,
        };
        let coinbase = CoinbaseSection {
            coinbase_id,
            coinb1: &self.coinb1,
            coinb2: &self.coinb2,
        };
        Share {
            job_id,
            coinbase_id,
            flags: Flags(flags),
            target_pot,
            ntime,
            nonce,
            version,
            extranonce: &self.extranonce,
            username: &self.username,
            reserved: ntime.to_be_bytes(),
            job: self.has_job.then_some(job),
            coinbase: self.has_coinbase.then_some(coinbase),
            padding: &self.padding,
        }
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = (any::<[u8; 4]>(), any::<[u32; 8]>(), any::<u16>(), any::<u64>());
    let texts = (
        vec(any::<u8>(), 0..=255),
        vec(1..=u8::MAX, 0..=USERNAME_MAX),
        vec(any::<u8>(), 0..=80),
    );
    let sections = (
        vec(any::<[u8; 32]>(), 0..=40),
        vec(any::<u8>(), 0..600),
        vec(any::<u8>(), 0..600),
    );
    let rest = any::<([u8; 32], bool, bool)>();
    (numbers, texts, sections, rest).prop_map(|(numbers, texts, sections, rest)| {
        let (bytes, words, target_index, value) = numbers;
        let (extranonce, username, padding) = texts;
        let (branches, coinb1, coinb2) = sections;
        let (parent, has_job, has_coinbase) = rest;
        Parts {
            bytes,
            words,
            extranonce,
            username,
            parent,
            target_index,
            value,
            branches,
            coinb1,
            coinb2,
            padding,
            has_job,
            has_coinbase,
        }
    })
}

proptest! {
    #[test]
    fn a_share_is_heard_with_its_sections(parts in parts()) {
        gateway_is_heard(&FromGateway::Share(parts.share()));
    }

    #[test]
    fn a_share_with_a_changed_byte_is_an_error_or_another_share(
        parts in parts(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = encoded(&parts.share());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        hear_from_gateway(&bytes);
    }

    #[test]
    fn an_answer_is_heard(nonce: u32, pot: u8, job_id: u8, reason: u16, status in 0..3_usize) {
        let status = [Status::Accepted, Status::Tentative, Status::Rejected][status];
        pool_is_heard(&FromPool::ShareResponse(ShareResponse { status, reason, nonce, target_pot: pot, job_id }));
    }
}

/// The smallest share there is.
fn bare() -> Share<'static> {
    Share {
        job_id: 7,
        coinbase_id: 2,
        flags: Flags(Flags::BLOCK | Flags::QUICKDIFF),
        target_pot: 16,
        ntime: 0x6600_0001,
        nonce: 0xdead_beef,
        version: 0x2000_0000,
        extranonce: b"extranonce12",
        username: b"a.b",
        reserved: [0; 4],
        job: None,
        coinbase: None,
        padding: &[],
    }
}

const BARE: &[u8] = b"\x27\x07\x02\x05\x10\x01\0\0\x66\xef\xbe\xad\xde\0\0\0\x20\x0cextranonce12a.b\0\0\0\0\0\xfe";

#[test]
fn stands_on_the_wire_byte_for_byte() {
    assert_eq!(encoded(&bare()), BARE);
    let branches = [[3; 32]; 2];
    let with_sections = Share {
        job: Some(JobSection {
            prev_block_hash: &[1; 32],
            target_index: 0x0203,
            nbits: 0x0405_0607,
            coinbaser_id: 8,
            height: 0x090a_0b0c,
            coinbase_value: 0x0d0e_0f10_1112_1314,
            tx_count: 0x1516_1718,
            weight: 0x191a_1b1c,
            size: 0x1d1e_1f20,
            sigops: 0x2122_2324,
            branches: &branches,
        }),
        coinbase: Some(CoinbaseSection {
            coinbase_id: 0xff,
            coinb1: b"one",
            coinb2: b"both",
        }),
        padding: &[9],
        ..bare()
    };
    let expected = [
        &BARE[..BARE.len() - 1],
        &[1],
        &[1; 32],
        b"\x03\x02\x07\x06\x05\x04\x08\x0c\x0b\x0a\x09\x14\x13\x12\x11\x10\x0f\x0e\x0d",
        b"\x18\x17\x16\x15\x1c\x1b\x1a\x19\x20\x1f\x1e\x1d\x24\x23\x22\x21\x02",
        &[3; 64],
        b"\x02\xff\x03\x00\x04\x00oneboth\xfe\x09",
    ];
    assert_eq!(encoded(&with_sections), expected.concat());
}

#[test]
fn a_username_ends_at_its_limit() {
    let with_name = |len: usize| {
        let username = vec![b'x'; len];
        encoded(&Share {
            username: &username,
            ..bare()
        })
    };
    assert!(FromGateway::decode(&with_name(USERNAME_MAX)).is_ok());
    assert_eq!(
        gateway_error(&with_name(USERNAME_MAX + 1)),
        DecodeError::new("share.username", Fault::TooLong)
    );
    assert_eq!(
        gateway_error(&BARE[..BARE.len() - 6]),
        DecodeError::new("share.username", Fault::Unterminated)
    );
}

#[test]
fn what_lacks_a_part_says_which() {
    let truncated = |field| DecodeError::new(field, Fault::Truncated);
    assert_eq!(gateway_error(&BARE[..BARE.len() - 1]), truncated("share.end"));
    assert_eq!(gateway_error(&BARE[..BARE.len() - 2]), truncated("share.reserved"));
    assert_eq!(gateway_error(&BARE[..20]), truncated("share.extranonce"));
    let unfinished = |section: &[u8]| gateway_error(&[&BARE[..BARE.len() - 1], section].concat());
    assert_eq!(unfinished(&[1; 10]), truncated("job.prev_block_hash"));
    let many = [&[1][..], &[0; 67], &[255], &[0; 100]].concat();
    assert_eq!(unfinished(&many), truncated("job.branches"));
    assert_eq!(unfinished(&[2, 0, 255, 255, 255, 255, 1]), truncated("coinbase.coinb1"));
    assert_eq!(unfinished(&[2, 0, 1, 0, 255, 255, 1]), truncated("coinbase.coinb2"));
    // A section only once, the job's first.
    assert_eq!(
        unfinished(&[2, 0, 0, 0, 0, 0, 1]),
        DecodeError::new("share.end", Fault::Unknown)
    );
}

#[test]
fn an_answer_of_another_status_is_none() {
    let mut bytes = encoded(&ShareResponse::rejected(Reason::HighHash, 1, 2, 3));
    assert_eq!(bytes, [0x8f, 0x66, 21, 0, 1, 0, 0, 0, 2, 3]);
    bytes[1] = 0x51;
    assert_eq!(
        pool_error(&bytes),
        DecodeError::new("share_response.status", Fault::Unknown)
    );
    assert_eq!(
        encoded(&ShareResponse::accepted(1, 2, 3)),
        [0x8f, 0x50, 0, 0, 1, 0, 0, 0, 2, 3]
    );
}
