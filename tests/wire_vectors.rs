//! Every frame that real gateways and pools exchanged opens, decodes, and is made again byte for byte.

#[path = "capture/allocations.rs"]
mod allocations;
mod capture;

use std::collections::HashMap;

use allocations::{Allocated, Counting, allocated};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use capture::{Frame, Session};
use millrace::wire::{
    BeforeHello, CROSS_CHECK_START, ChannelKey, FromGateway, FromPool, HEADER_LEN, Header, HeaderKey, Hello, Inbound,
    LARGE_MAX, Lead, Opened, Outbound, Response, ShareResponse, Skipped, Transactions, ValidationAnswer, command,
    short_id, short_id_key,
};

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn vectors_open_decode_and_encode_again() {
    let mut frames = 0;
    for capture in capture::all() {
        let mut former = Vec::new();
        for session in &capture.sessions {
            capture::replay(session, &mut former);
            frames += session.frames.len();
        }
    }
    assert!(frames > 0);
}

#[test]
fn early_frames_of_the_stored_vectors_open_under_the_former_key() {
    let early: usize = capture::stored()
        .iter()
        .flat_map(|capture| &capture.sessions)
        .map(|session| session.frames.iter().filter(|frame| frame.early).count())
        .sum();
    // Each is opened as such in the replay.
    assert_eq!(early, 66);
}

#[test]
fn vectors_of_hello_are_found_behind_early_frames_and_in_pieces() {
    for capture in capture::all() {
        for session in &capture.sessions {
            let frame = &session.frames[0].wire;
            for cut in 0..frame.len() {
                let needed = if cut < HEADER_LEN { HEADER_LEN } else { frame.len() };
                assert_eq!(
                    BeforeHello::new().next(&frame[..cut]),
                    Ok(Lead::Need(needed)),
                    "{}",
                    capture.name
                );
            }
            // The same HELLO as it goes out behind three shares.
            let mut header_key = HeaderKey::FIRST;
            let mut before = BeforeHello::new();
            for len in [200, 0, 150] {
                let early = Header {
                    command: command::MINING,
                    len,
                    signed: false,
                    sealed: false,
                    channel: true,
                };
                let start = early.encode(header_key);
                assert_eq!(before.next(&start), Ok(Lead::Skip(HEADER_LEN + len as usize)));
                header_key.advance();
            }
            let header = Header::decode(*frame.first_chunk().expect("a header"), HeaderKey::FIRST).expect("a header");
            let moved = [&header.encode(header_key), &frame[HEADER_LEN..]].concat();
            assert_eq!(before.next(&moved), Ok(Lead::Hello(frame.len())));
            assert_eq!(before.into_skipped(), Skipped { frames: 3, bytes: 362 });
        }
    }
}

#[test]
fn vectors_of_short_ids_follow_from_the_transactions() {
    let mut compared = 0;
    for capture in capture::all() {
        for session in &capture.sessions {
            compared += compare_short_ids(session);
        }
    }
    if std::env::var_os("MILLRACE_VECTORS").is_none() {
        assert!(compared > 0, "no capture has an exchange of both");
    }
}

/// The ids of each job against its transactions, which follow in another answer; how many ids there were.
fn compare_short_ids(session: &Session) -> usize {
    let hello = Hello::decode(&session.frames[0].plain).expect("a HELLO");
    let key = short_id_key(&hello.long_term.ed25519, &session.pool.public().ed25519);
    let mut asked: HashMap<u8, (Vec<u64>, Option<[u8; 32]>)> = HashMap::new();
    let mut compared = 0;
    for frame in session.frames.iter().filter(|frame| frame.from_gateway).skip(1) {
        match FromGateway::decode(&frame.plain) {
            Ok(FromGateway::Validation(ValidationAnswer::ShortIds {
                job, ids, cross_check, ..
            })) => {
                let number = |[a, b, c, d, e, f]: [u8; 6]| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
                asked.insert(job, (ids.iter().copied().map(number).collect(), cross_check.copied()));
            }
            Ok(FromGateway::Validation(ValidationAnswer::All { job, transactions })) => {
                let Some((ids, cross_check)) = asked.remove(&job) else {
                    continue;
                };
                let wtxids = wtxids(&transactions);
                let expected: Vec<u64> = wtxids.iter().map(|wtxid| short_id(&key, wtxid)).collect();
                assert_eq!(ids, expected, "line {}", frame.line);
                if let Some(cross_check) = cross_check {
                    let sum = wtxids.iter().fold(CROSS_CHECK_START, |sum, wtxid| {
                        std::array::from_fn(|at| sum[at] ^ wtxid[at])
                    });
                    assert_eq!(cross_check, sum, "line {}", frame.line);
                }
                compared += ids.len();
            }
            _ => {}
        }
    }
    compared
}

fn wtxids(transactions: &Transactions<'_>) -> Vec<[u8; 32]> {
    let wtxid = |raw: &[u8]| {
        let transaction: bitcoin::Transaction = deserialize(raw).expect("a transaction");
        transaction.compute_wtxid().to_byte_array()
    };
    transactions.iter().map(wtxid).collect()
}

/// On the way of a share nothing is allocated: not to open its frame, not to decode it, not to answer it.
#[test]
fn vectors_of_shares_are_heard_and_answered_without_allocating() {
    let mut heard = 0;
    for capture in capture::all() {
        let mut former = Vec::new();
        for session in &capture.sessions {
            let hello = Hello::decode(&session.frames[0].plain).expect("a HELLO");
            let key = ChannelKey::agree(&session.pool_session, &hello.session.x25519).expect("a sound key");
            heard += hear_without_allocating(session, &hello, &key, &former);
            former.insert(0, key);
            former.truncate(2);
        }
    }
    assert!(heard > 0);
}

/// Whatever is cut off or changed, no decoder takes more memory than the message is long.
#[test]
fn vectors_that_are_damaged_allocate_no_more_than_they_are_long() {
    for capture in capture::all() {
        for frame in capture.sessions.iter().flat_map(|session| &session.frames) {
            let step = 1 + frame.plain.len() / 64;
            for cut in (0..frame.plain.len()).step_by(step) {
                let mut damaged = frame.plain.clone();
                damaged[cut] = 0xff;
                for bytes in [&frame.plain[..cut], &damaged] {
                    allocate_no_more_than(bytes);
                }
            }
        }
    }
}

fn allocate_no_more_than(bytes: &[u8]) {
    let (_, messages) = allocated(|| (FromGateway::decode(bytes).is_ok(), FromPool::decode(bytes).is_ok()));
    assert_eq!(messages, Allocated::default());
    let (_, handshake) = allocated(|| (Hello::decode(bytes).is_ok(), Response::decode(bytes).is_ok()));
    assert!(handshake.bytes <= bytes.len(), "{handshake:?} for {}", bytes.len());
}

fn hear_without_allocating(session: &Session, hello: &Hello, key: &ChannelKey, former: &[ChannelKey]) -> usize {
    let mut inbound = Inbound::new(hello, Skipped::default());
    let mut outbound = Outbound::pool(hello);
    let mut out = Vec::with_capacity(1_024);
    let frames: Vec<&Frame> = session
        .frames
        .iter()
        .filter(|frame| frame.from_gateway)
        .skip(1)
        .collect();
    for frame in &frames {
        let mut wire = frame.wire.clone();
        out.clear();
        let ((), allocated) = allocated(|| {
            inbound.frame_len(&wire, LARGE_MAX).expect("a header");
            let Opened::Plain { plain, .. } = inbound.open(&mut wire, key, former).expect("a key that fits") else {
                panic!("line {} was not opened", frame.line);
            };
            if let FromGateway::Share(share) = FromGateway::decode(plain).expect("a message") {
                let answer = ShareResponse::accepted(share.nonce, share.target_pot, share.job_id);
                outbound.mining(key, &answer, &mut out);
            }
        });
        assert_eq!(allocated, Allocated::default(), "line {}", frame.line);
    }
    frames.len()
}
