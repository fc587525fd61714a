//! A gateway that can send under any key and with any header; and the frames that a gateway receives.

use std::sync::LazyLock;

use millrace::wire::{
    Agent, ChannelKey, FromPool, FromPoolFrame, GatewayInbound, HEADER_LEN, Header, HeaderKey, Hello, MAC_LEN, Nonce,
    PublicKeys, SecretKeys, command,
};

use super::script::Script;

/// The unmasked word of a header, as the wire has it.
pub fn word(header: Header) -> u32 {
    header.len
        | u32::from(header.signed) << 24
        | u32::from(header.sealed) << 25
        | u32::from(header.channel) << 26
        | u32::from(header.command) << 27
}

pub fn mining(len: usize) -> Header {
    Header {
        command: command::MINING,
        len: u32::try_from(len).expect("a step is short"),
        signed: false,
        sealed: false,
        channel: true,
    }
}

/// A HELLO that needs no signature: it seeds keys and nonces alone.
pub fn hello(nk: u32) -> Hello {
    let keys = PublicKeys {
        ed25519: [0x21; 32],
        x25519: [0x22; 32],
    };
    Hello {
        long_term: keys,
        session: keys,
        agent: Agent::new(""),
        nk,
        padding: Vec::new(),
    }
}

/// One direction of sending, whatever a peer may send there.
pub struct Sender {
    header_key: HeaderKey,
    nonce: Nonce,
}

impl Sender {
    /// A gateway before its HELLO.
    pub fn connecting(nk: u32) -> Self {
        Self {
            header_key: HeaderKey::FIRST,
            ..Self::gateway(nk)
        }
    }

    /// A gateway behind its HELLO.
    pub fn gateway(nk: u32) -> Self {
        Self {
            header_key: HeaderKey::gateway_to_pool(nk),
            nonce: Nonce::gateway_to_pool(nk, &hello(nk).session.ed25519),
        }
    }

    fn pool(nk: u32) -> Self {
        Self {
            header_key: HeaderKey::pool_to_gateway(nk),
            nonce: Nonce::pool_to_gateway(nk, &hello(nk).session.ed25519),
        }
    }

    /// A header of any bits, then these bytes.
    pub fn raw(&mut self, word: u32, bytes: &[u8]) -> Vec<u8> {
        // A header of nothing, masked, is the key itself.
        let nothing = Header {
            command: 0,
            len: 0,
            signed: false,
            sealed: false,
            channel: false,
        };
        let key = u32::from_le_bytes(nothing.encode(self.header_key));
        self.header_key.advance();
        [&(word ^ key).to_le_bytes(), bytes].concat()
    }

    /// `header` with the length of the plaintext and its MAC.
    pub fn sealed(&mut self, header: Header, key: &ChannelKey, plain: &[u8]) -> Vec<u8> {
        let mut payload = [&[0; MAC_LEN], plain].concat();
        key.seal(&self.nonce, &mut payload);
        self.nonce.advance();
        let len = mining(payload.len()).len;
        self.raw(word(Header { len, ..header }), &payload)
    }

    /// Counts a channel frame whose payload is no ciphertext.
    pub fn skip_nonce(&mut self) {
        self.nonce.advance();
    }
}

static SESSION: LazyLock<SecretKeys> = LazyLock::new(|| SecretKeys::from_seeds(&[3; 64]));
const NK: u32 = 0x0102_0304;

/// Frames of a pool, as a gateway opens them. Kinds: 0 a message, 1 one with its signature, 2 a line, 3 a PING, 4 a
/// frame under another key, 5 a header word and what follows.
pub fn from_pool_frames(data: &[u8]) {
    let key = ChannelKey::from_bytes([6; 32]);
    let pool = SESSION.public();
    let mut sender = Sender::pool(NK);
    let mut inbound = GatewayInbound::new(NK, &hello(NK).session.ed25519);
    for (kind, bytes) in Script::new(data) {
        let signed = Header {
            signed: true,
            ..mining(0)
        };
        let line = Header {
            command: command::INFO,
            ..mining(0)
        };
        let mut wire = match kind % 6 {
            0 => sender.sealed(mining(0), &key, bytes),
            1 => sender.sealed(signed, &key, &[bytes, &SESSION.sign(bytes)].concat()),
            2 => sender.sealed(line, &key, bytes),
            3 => sender.raw(u32::from(command::PING) << 27, &[]),
            4 => sender.sealed(mining(0), &ChannelKey::from_bytes([7; 32]), bytes),
            _ => {
                let Some((word, rest)) = bytes.split_first_chunk() else {
                    return;
                };
                sender.raw(u32::from_le_bytes(*word), rest)
            }
        };
        for cut in 0..HEADER_LEN {
            assert!(matches!(inbound.frame(&wire[..cut]), Ok(None)));
        }
        let Ok(whole) = inbound.frame(&wire) else {
            assert_eq!(kind % 6, 5, "a good header is refused");
            return;
        };
        let (header, len) = whole.expect("a whole header");
        if len > wire.len() {
            return;
        }
        let opened = inbound.open(header, &mut wire[..len], &key, &pool);
        match (kind % 6, opened) {
            (0, Ok(FromPoolFrame::Message(message))) => {
                assert!(!matches!(message, FromPool::Config(_)), "CONFIG without a signature");
                assert_eq!(super::encoded(&message), bytes);
            }
            (1, Ok(FromPoolFrame::Message(message))) => {
                assert!(matches!(message, FromPool::Config(_)), "only CONFIG is signed");
                assert_eq!(super::encoded(&message), bytes);
            }
            (2, Ok(FromPoolFrame::Info(line))) => assert_eq!(bytes.strip_suffix(&[0]), Some(line)),
            (3, Ok(FromPoolFrame::Ping)) => {}
            (2 | 3, Err(error)) => assert!(kind % 6 == 2 && bytes.last() != Some(&0), "{error}"),
            (5, Ok(FromPoolFrame::Ping)) | (_, Err(_)) => return,
            (kind, Ok(opened)) => panic!("kind {kind} opened as {opened:?}"),
        }
    }
}
