use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::{Agent, Fault, PublicKeys};

const NK: u32 = 0x89ab_cdef;

fn hello() -> Hello {
    let keys = PublicKeys {
        ed25519: [0x21; 32],
        x25519: [0x22; 32],
    };
    Hello {
        long_term: keys,
        session: keys,
        agent: Agent::new("test"),
        nk: NK,
        padding: Vec::new(),
    }
}

fn key(seed: u8) -> ChannelKey {
    ChannelKey::from_bytes([seed; 32])
}

const OURS: u8 = 1;
const FORMER: [u8; 2] = [2, 3];
const NOBODYS: u8 = 4;

fn former() -> [ChannelKey; 2] {
    FORMER.map(key)
}

fn header(command: u8, len: usize) -> Header {
    let hello = command == command::HELLO;
    Header {
        command,
        len: u32::try_from(len).expect("22 bits"),
        signed: hello,
        sealed: hello,
        channel: !hello,
    }
}

/// A gateway that can send under any key.
struct Gateway {
    header_key: HeaderKey,
    nonce: Nonce,
}

impl Gateway {
    fn behind_hello() -> Self {
        Self {
            header_key: HeaderKey::gateway_to_pool(NK),
            nonce: Nonce::gateway_to_pool(NK, &hello().session.ed25519),
        }
    }

    fn connecting() -> Self {
        Self {
            header_key: HeaderKey::FIRST,
            ..Self::behind_hello()
        }
    }

    fn raw(&mut self, header: Header, payload: &[u8]) -> Vec<u8> {
        let masked = header.encode(self.header_key);
        self.header_key.advance();
        [&masked, payload].concat()
    }

    fn sealed(&mut self, under: u8, plain: &[u8]) -> Vec<u8> {
        let mut payload = [&[0; MAC_LEN], plain].concat();
        key(under).seal(&self.nonce, &mut payload);
        self.nonce.advance();
        self.raw(header(command::MINING, payload.len()), &payload)
    }
}

fn opened(inbound: &mut Inbound, frame: &[u8]) -> Result<Option<(Vec<u8>, bool, bool)>, InboundError> {
    let mut frame = frame.to_vec();
    let len = inbound.frame_len(&frame, MINING_MAX)?.expect("a whole header");
    assert_eq!(len, frame.len());
    Ok(match inbound.open(&mut frame, &key(OURS), &former())? {
        Opened::Plain { plain, early, first } => Some((plain.to_vec(), early, first)),
        Opened::Skipped => None,
    })
}

#[derive(Debug, Clone, Copy)]
enum Under {
    Ours,
    Former(usize),
    Nobody,
    /// Too short for a MAC.
    Short(usize),
}

fn under() -> impl Strategy<Value = Under> {
    prop_oneof![
        Just(Under::Ours),
        (0..2_usize).prop_map(Under::Former),
        Just(Under::Nobody),
        (0..MAC_LEN).prop_map(Under::Short),
    ]
}

proptest! {
    #[test]
    fn frames_before_hello_carry_the_key_on(
        early in vec(0..200_usize, 0..30),
        hello_len in 0..=HELLO_MAX,
        reads in vec(1..150_usize, 1..40),
    ) {
        let mut gateway = Gateway::connecting();
        let mut wire = Vec::new();
        for len in &early {
            wire.extend(gateway.raw(header(command::MINING, *len), &vec![7; *len]));
        }
        let hello_frame = gateway.raw(header(command::HELLO, hello_len), &vec![8; hello_len]);
        wire.extend(&hello_frame);

        let mut before = BeforeHello::new();
        let (mut front, mut read, mut reads) = (0, 0, reads.iter().cycle());
        let mut skipped = Vec::new();
        loop {
            match before.next(&wire[front..read]).expect("what a gateway sends") {
                Lead::Need(len) => {
                    prop_assert!(read - front < len);
                    prop_assert!(read < wire.len());
                    read = wire.len().min(read + reads.next().expect("a cycle"));
                }
                Lead::Skip(len) => {
                    skipped.push(len - HEADER_LEN);
                    // The bytes may still be on their way.
                    front += len;
                    read = read.max(front);
                }
                Lead::Hello(len) => {
                    prop_assert_eq!(&wire[front..front + len], &hello_frame[..]);
                    prop_assert!(front + len <= read);
                    break;
                }
            }
        }
        prop_assert_eq!(&skipped, &early);
        let bytes: usize = early.iter().map(|len| len + HEADER_LEN).sum();
        let expected = Skipped {
            frames: u32::try_from(early.len()).expect("a few"),
            bytes: u32::try_from(bytes).expect("a few"),
        };
        prop_assert_eq!(before.into_skipped(), expected);
    }

    #[test]
    fn any_first_bytes_are_garbage_or_a_frame(bytes in vec(any::<u8>(), 0..40)) {
        let mut before = BeforeHello::new();
        let mut rest = &bytes[..];
        while let Ok(Lead::Skip(len)) = before.next(rest) {
            prop_assert!((HEADER_LEN..=HEADER_LEN + MINING_MAX).contains(&len));
            rest = rest.get(len..).unwrap_or_default();
        }
        let inbound = Inbound::new(&hello(), Skipped::default());
        if let Ok(Some(len)) = inbound.frame_len(&bytes, MINING_MAX) {
            prop_assert!((HEADER_LEN..=HEADER_LEN + MINING_MAX).contains(&len));
        }
    }

    #[test]
    fn former_keys_are_tried_until_the_first_frame_under_the_new_one(
        frames in vec((under(), vec(any::<u8>(), 0..100)), 0..30),
    ) {
        let mut gateway = Gateway::behind_hello();
        let mut inbound = Inbound::new(&hello(), Skipped::default());
        let (mut proven, mut skipped) = (false, Skipped::default());
        for (under, plain) in frames {
            let frame = match under {
                Under::Ours => gateway.sealed(OURS, &plain),
                Under::Former(which) => gateway.sealed(FORMER[which], &plain),
                Under::Nobody => gateway.sealed(NOBODYS, &plain),
                Under::Short(len) => {
                    gateway.nonce.advance();
                    gateway.raw(header(command::MINING, len), &vec![0; len])
                }
            };
            let result = opened(&mut inbound, &frame);
            let expected = match under {
                Under::Ours => Ok(Some((plain, false, !proven))),
                _ if proven => Err(InboundError::BadMac),
                Under::Former(_) => Ok(Some((plain, true, false))),
                Under::Nobody | Under::Short(_) => {
                    skipped.frames += 1;
                    skipped.bytes += u32::try_from(frame.len()).expect("short");
                    Ok(None)
                }
            };
            prop_assert_eq!(&result, &expected);
            proven |= matches!(under, Under::Ours);
            prop_assert_eq!(inbound.proven(), proven);
            prop_assert_eq!(inbound.skipped, skipped);
            if result.is_err() {
                break;
            }
        }
    }

    #[test]
    fn a_part_of_a_frame_is_measured_by_its_header(cut in 0..50_usize) {
        let frame = Gateway::behind_hello().sealed(OURS, &[5; 30]);
        let inbound = Inbound::new(&hello(), Skipped::default());
        let cut = cut.min(frame.len());
        let expected = (cut >= HEADER_LEN).then_some(frame.len());
        prop_assert_eq!(inbound.frame_len(&frame[..cut], MINING_MAX), Ok(expected));
    }
}

#[test]
fn what_comes_first_must_be_a_frame_of_a_gateway() {
    let first = |header: Header| BeforeHello::new().next(&header.encode(HeaderKey::FIRST));
    let hello = header(command::HELLO, HELLO_MAX);
    assert_eq!(first(hello), Ok(Lead::Need(HEADER_LEN + HELLO_MAX)));
    assert_eq!(
        first(header(command::HELLO, HELLO_MAX + 1)),
        Err(InboundError::HelloTooLong(1_025))
    );
    assert_eq!(
        first(header(command::MINING, MINING_MAX)),
        Ok(Lead::Skip(HEADER_LEN + MINING_MAX))
    );
    assert_eq!(
        first(header(command::MINING, MINING_MAX + 1)),
        Err(InboundError::TooLong(33_001))
    );
    for garbage in [
        Header { signed: false, ..hello },
        Header { sealed: false, ..hello },
        Header { channel: true, ..hello },
        header(command::RESPONSE, 10),
        header(command::INFO, 10),
        Header {
            signed: true,
            ..header(command::MINING, 10)
        },
        Header {
            channel: false,
            ..header(command::MINING, 10)
        },
    ] {
        assert_eq!(first(garbage), Err(InboundError::Garbage), "{garbage:?}");
    }
    // Under a key that has moved on too often the same bytes are nothing.
    let mut key = HeaderKey::FIRST;
    key.advance();
    assert_eq!(BeforeHello::new().next(&hello.encode(key)), Err(InboundError::Garbage));
    assert_eq!(BeforeHello::new().next(b"GET"), Ok(Lead::Need(HEADER_LEN)));
    assert_eq!(BeforeHello::new().next(b"GET / HTTP/1.1"), Err(InboundError::Garbage));
}

#[test]
fn frames_before_hello_are_bounded() {
    let mut gateway = Gateway::connecting();
    let mut before = BeforeHello::new();
    for _ in 0..SKIPPED_FRAMES_MAX {
        let frame = gateway.raw(header(command::MINING, 1), &[0]);
        assert_eq!(before.next(&frame), Ok(Lead::Skip(5)));
    }
    let more = gateway.raw(header(command::MINING, 1), &[0]);
    assert_eq!(before.next(&more), Err(InboundError::TooManySkipped));

    let mut gateway = Gateway::connecting();
    let mut before = BeforeHello::new();
    let frame_len = HEADER_LEN + MINING_MAX;
    let fitting = SKIPPED_BYTES_MAX as usize / frame_len;
    for _ in 0..fitting {
        let start = gateway.raw(header(command::MINING, MINING_MAX), &[]);
        assert_eq!(before.next(&start), Ok(Lead::Skip(frame_len)));
    }
    let rest = SKIPPED_BYTES_MAX as usize - fitting * frame_len - HEADER_LEN;
    let start = gateway.raw(header(command::MINING, rest), &[]);
    assert_eq!(before.next(&start), Ok(Lead::Skip(HEADER_LEN + rest)));
    let start = gateway.raw(header(command::MINING, 0), &[]);
    assert_eq!(before.next(&start), Err(InboundError::TooManySkipped));
}

#[test]
fn frames_skipped_behind_hello_count_with_those_before_it() {
    let before = Skipped {
        frames: SKIPPED_FRAMES_MAX - 1,
        bytes: 100,
    };
    let mut gateway = Gateway::behind_hello();
    let mut inbound = Inbound::new(&hello(), before);
    // What opens under a former key is not skipped, however many there are.
    for _ in 0..2 * SKIPPED_FRAMES_MAX {
        let frame = gateway.sealed(FORMER[1], b"share");
        assert_eq!(opened(&mut inbound, &frame), Ok(Some((b"share".to_vec(), true, false))));
    }
    let frame = gateway.sealed(NOBODYS, b"share");
    assert_eq!(opened(&mut inbound, &frame), Ok(None));
    let frame = gateway.sealed(NOBODYS, b"share");
    assert_eq!(opened(&mut inbound, &frame), Err(InboundError::TooManySkipped));

    let mut gateway = Gateway::behind_hello();
    let mut inbound = Inbound::new(
        &hello(),
        Skipped {
            frames: 1,
            bytes: SKIPPED_BYTES_MAX - 60,
        },
    );
    let frame = gateway.sealed(NOBODYS, &[0; 60 - HEADER_LEN - MAC_LEN]);
    assert_eq!(opened(&mut inbound, &frame), Ok(None));
    let frame = gateway.sealed(NOBODYS, &[]);
    assert_eq!(opened(&mut inbound, &frame), Err(InboundError::TooManySkipped));
}

#[test]
fn behind_hello_only_mining_frames_within_their_limit_come() {
    let measured = |header: Header, max: usize| {
        let inbound = Inbound::new(&hello(), Skipped::default());
        inbound.frame_len(&header.encode(HeaderKey::gateway_to_pool(NK)), max)
    };
    let longest = header(command::MINING, MINING_MAX);
    assert_eq!(measured(longest, MINING_MAX), Ok(Some(HEADER_LEN + MINING_MAX)));
    let longer = header(command::MINING, MINING_MAX + 1);
    assert_eq!(measured(longer, MINING_MAX), Err(InboundError::TooLong(33_001)));
    let largest = header(command::MINING, LARGE_MAX);
    assert_eq!(measured(largest, LARGE_MAX), Ok(Some(HEADER_LEN + LARGE_MAX)));
    for (other, named) in [
        (header(command::HELLO, 10), command::HELLO),
        (
            Header {
                signed: true,
                ..longest
            },
            command::MINING,
        ),
        (
            Header {
                sealed: true,
                ..longest
            },
            command::MINING,
        ),
        (
            Header {
                channel: false,
                ..longest
            },
            command::MINING,
        ),
        (header(31, 10), 31),
    ] {
        assert_eq!(measured(other, MINING_MAX), Err(InboundError::UnexpectedCommand(named)));
    }
    let spare_bit = 0x0040_0000_u32 ^ u32::from_le_bytes(longest.encode(HeaderKey::gateway_to_pool(NK)));
    let inbound = Inbound::new(&hello(), Skipped::default());
    assert_eq!(
        inbound.frame_len(&spare_bit.to_le_bytes(), MINING_MAX),
        Err(InboundError::BadHeader(DecodeError::new("header", Fault::Unknown)))
    );
}

#[test]
fn a_failed_frame_leaves_the_keys_where_the_next_one_needs_them() {
    let mut gateway = Gateway::behind_hello();
    let mut inbound = Inbound::new(&hello(), Skipped::default());
    let lost = gateway.sealed(NOBODYS, b"lost");
    let early = gateway.sealed(FORMER[0], b"early");
    let first = gateway.sealed(OURS, b"first");
    let second = gateway.sealed(OURS, b"second");
    assert_eq!(opened(&mut inbound, &lost), Ok(None));
    assert_eq!(opened(&mut inbound, &early), Ok(Some((b"early".to_vec(), true, false))));
    assert_eq!(opened(&mut inbound, &first), Ok(Some((b"first".to_vec(), false, true))));
    assert_eq!(
        opened(&mut inbound, &second),
        Ok(Some((b"second".to_vec(), false, false)))
    );
    let late = gateway.sealed(FORMER[0], b"late");
    assert_eq!(opened(&mut inbound, &late), Err(InboundError::BadMac));
}

#[test]
fn an_opened_frame_cannot_be_replayed() {
    let mut gateway = Gateway::behind_hello();
    let mut inbound = Inbound::new(&hello(), Skipped::default());
    let first = gateway.sealed(OURS, b"first");
    assert!(opened(&mut inbound, &first).is_ok());
    // Its header is under an older key; masked anew, its MAC is under an older nonce.
    assert!(inbound.frame_len(&first, MINING_MAX) != Ok(Some(first.len())));
    let again = gateway.raw(header(command::MINING, first.len() - HEADER_LEN), &first[HEADER_LEN..]);
    assert_eq!(opened(&mut inbound, &again), Err(InboundError::BadMac));
}
