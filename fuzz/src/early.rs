//! What a gateway sends around its HELLO, against a model of protocol section 2.

use millrace::wire::{
    BeforeHello, ChannelKey, HEADER_LEN, HELLO_MAX, Header, Inbound, InboundError, Lead, MINING_MAX, Opened,
    SKIPPED_BYTES_MAX, SKIPPED_FRAMES_MAX, Skipped, command,
};

use super::gateway::{Sender, hello, mining, word};
use super::script::Script;

const NK: u32 = 0x0506_0708;
const OURS: u8 = 1;
const FORMER: [u8; 2] = [2, 3];
const NOBODYS: u8 = 4;

/// Kinds: 0 a frame under the session's key, 1 and 2 under a former one, 3 under nobody's, 4 a frame that is no
/// ciphertext, 5 a header word and what follows, 6 HELLO. Its first two bytes say how near the bounds the frames
/// before it came, so that no input need be as long as those.
pub fn early(data: &[u8]) {
    raw(data);
    let mut script = Script::new(data);
    if let Some((mut skipped, hello)) = before_hello(&mut script) {
        let more = |at: usize| u32::from(hello.get(at).copied().unwrap_or_default());
        skipped.frames = SKIPPED_FRAMES_MAX.min(skipped.frames + more(0) * (SKIPPED_FRAMES_MAX / 255));
        skipped.bytes = SKIPPED_BYTES_MAX.min(skipped.bytes + more(1) * (SKIPPED_BYTES_MAX / 255));
        behind_hello(script, skipped);
    }
}

/// The same bytes as a stranger's.
fn raw(data: &[u8]) {
    let mut before = BeforeHello::new();
    let mut rest = data;
    while let Ok(Lead::Skip(len)) = before.next(rest) {
        rest = rest.get(len..).unwrap_or_default();
    }
    let mut inbound = Inbound::new(&hello(NK), before.into_skipped());
    let mut bytes = data.to_vec();
    let mut rest = &mut bytes[..];
    while let Ok(Some(len)) = inbound.frame_len(rest, MINING_MAX) {
        let Some((frame, behind)) = rest.split_at_mut_checked(len) else {
            return;
        };
        if inbound.open(frame, &key(OURS), &[]).is_err() {
            return;
        }
        rest = behind;
    }
}

fn key(seed: u8) -> ChannelKey {
    ChannelKey::from_bytes([seed; 32])
}

/// The top ten bits of a mining frame's header: command 5, for the channel.
const MINING: u32 = 5 << 5 | 0b100 << 2;
/// Of a HELLO's: command 1, sealed and signed.
const HELLO: u32 = 1 << 5 | 0b011 << 2;

/// What a header means before HELLO.
fn lead(word: u32, have: usize) -> Result<Lead, InboundError> {
    let len = word & 0x3f_ffff;
    let whole = HEADER_LEN + len as usize;
    match word >> 22 {
        MINING if len as usize > MINING_MAX => Err(InboundError::TooLong(len)),
        MINING => Ok(Lead::Skip(whole)),
        HELLO if len as usize > HELLO_MAX => Err(InboundError::HelloTooLong(len)),
        HELLO if have < whole => Ok(Lead::Need(whole)),
        HELLO => Ok(Lead::Hello(whole)),
        _ => Err(InboundError::Garbage),
    }
}

/// Up to HELLO; what was skipped and HELLO's payload, or nothing where the connection ended.
fn before_hello<'a>(script: &mut Script<'a>) -> Option<(Skipped, &'a [u8])> {
    let mut sender = Sender::connecting(NK);
    let mut before = BeforeHello::new();
    let mut skipped = Skipped::default();
    for (kind, bytes) in script {
        let (word, payload) = match kind % 7 {
            5 => {
                let (word, rest) = bytes.split_first_chunk()?;
                (u32::from_le_bytes(*word), rest)
            }
            6 => {
                let header = Header {
                    command: command::HELLO,
                    signed: true,
                    sealed: true,
                    channel: false,
                    ..mining(bytes.len())
                };
                (word(header), bytes)
            }
            _ => (word(mining(bytes.len())), bytes),
        };
        let wire = sender.raw(word, payload);
        for cut in 0..HEADER_LEN {
            assert_eq!(before.next(&wire[..cut]), Ok(Lead::Need(HEADER_LEN)));
        }
        let mut expected = lead(word, wire.len());
        if let Ok(Lead::Skip(len)) = expected {
            expected = count(&mut skipped, len).map(|()| Lead::Skip(len));
        }
        assert_eq!(before.next(&wire), expected);
        match expected {
            Ok(Lead::Skip(_)) => {}
            Ok(Lead::Hello(_)) => {
                assert_eq!(before.into_skipped(), skipped);
                return Some((skipped, payload));
            }
            Ok(Lead::Need(_)) | Err(_) => return None,
        }
    }
    None
}

fn count(skipped: &mut Skipped, len: usize) -> Result<(), InboundError> {
    skipped.frames += 1;
    skipped.bytes += u32::try_from(len).expect("a short frame");
    if skipped.frames > SKIPPED_FRAMES_MAX || skipped.bytes > SKIPPED_BYTES_MAX {
        return Err(InboundError::TooManySkipped);
    }
    Ok(())
}

fn behind_hello(script: Script<'_>, mut skipped: Skipped) {
    let mut sender = Sender::gateway(NK);
    let mut inbound = Inbound::new(&hello(NK), skipped);
    let former = FORMER.map(key);
    let mut proven = false;
    for (kind, bytes) in script {
        let under = match kind % 7 {
            0 => Some(OURS),
            1 | 2 => Some(FORMER[usize::from(kind % 7) - 1]),
            3 => Some(NOBODYS),
            _ => None,
        };
        let mut wire = match (kind % 7, under) {
            (_, Some(seed)) => sender.sealed(mining(0), &key(seed), bytes),
            (5, _) => {
                let Some((word, rest)) = bytes.split_first_chunk() else {
                    return;
                };
                sender.skip_nonce();
                sender.raw(u32::from_le_bytes(*word), rest)
            }
            _ => {
                sender.skip_nonce();
                sender.raw(word(mining(bytes.len())), bytes)
            }
        };
        let Some(len) = measured(&inbound, &wire) else {
            assert!(kind % 7 == 5 || wire.len() > HEADER_LEN + MINING_MAX);
            return;
        };
        if len > wire.len() {
            return;
        }
        let expected = match under {
            Some(OURS) => Ok(Some((false, !proven))),
            _ if proven => Err(InboundError::BadMac),
            Some(seed) if FORMER.contains(&seed) => Ok(Some((true, false))),
            _ => count(&mut skipped, len).map(|()| None),
        };
        let opened = inbound.open(&mut wire[..len], &key(OURS), &former);
        let opened = opened.map(|opened| match opened {
            Opened::Skipped => None,
            Opened::Plain { plain, early, first } => {
                assert_eq!(plain, bytes);
                Some((early, first))
            }
        });
        assert_eq!(opened, expected);
        proven |= under == Some(OURS);
        assert_eq!(inbound.proven(), proven);
        if opened.is_err() {
            return;
        }
    }
}

/// The frame's length, which must be the same from its header on; none where a gateway sends no such frame.
fn measured(inbound: &Inbound, wire: &[u8]) -> Option<usize> {
    for cut in 0..HEADER_LEN {
        assert_eq!(inbound.frame_len(&wire[..cut], MINING_MAX), Ok(None));
    }
    let measured = inbound.frame_len(&wire[..HEADER_LEN], MINING_MAX).ok();
    assert_eq!(inbound.frame_len(wire, MINING_MAX).ok(), measured);
    let len = measured?.expect("a whole header");
    assert!((HEADER_LEN..=HEADER_LEN + MINING_MAX).contains(&len));
    Some(len)
}
