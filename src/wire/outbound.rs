//! One direction of sending, either side: whole frames appended to a buffer, so that one write can carry many.
//!
//! Nothing is allocated where the buffer has room.

use super::channel::{ChannelKey, MAC_LEN, Nonce};
use super::frame::{HEADER_LEN, Header, HeaderKey, command};
use super::handshake::Hello;
use super::keys::SecretKeys;
use super::message::Encode;

/// A line for the gateway's log is cut to this many bytes.
pub const INFO_MAX: usize = 1_000;

pub struct Outbound {
    header_key: HeaderKey,
    nonce: Nonce,
}

/// A frame that is being written: where it starts in the buffer.
struct Started(usize);

impl Outbound {
    /// The pool's direction of the connection that this HELLO began.
    #[must_use]
    pub fn pool(hello: &Hello) -> Self {
        Self {
            header_key: HeaderKey::pool_to_gateway(hello.nk),
            nonce: Nonce::pool_to_gateway(hello.nk, &hello.session.ed25519),
        }
    }

    /// The gateway's direction behind its HELLO.
    #[must_use]
    pub fn gateway(nk: u32, session_ed25519: &[u8; 32]) -> Self {
        Self {
            header_key: HeaderKey::gateway_to_pool(nk),
            nonce: Nonce::gateway_to_pool(nk, session_ed25519),
        }
    }

    /// A message of the mining command.
    pub fn mining(&mut self, key: &ChannelKey, message: &impl Encode, out: &mut Vec<u8>) {
        let started = start(out);
        message.encode(out);
        self.finish(started, command::MINING, false, key, out);
    }

    /// The same with the session's signature: CONFIG alone has one.
    pub fn mining_signed(&mut self, key: &ChannelKey, signer: &SecretKeys, message: &impl Encode, out: &mut Vec<u8>) {
        let mut signed = Vec::new();
        message.encode(&mut signed);
        signed.extend_from_slice(&signer.sign(&signed));
        self.mining_presigned(key, &signed, out);
    }

    /// The same where the signature was made and appended before.
    pub fn mining_presigned(&mut self, key: &ChannelKey, signed: &[u8], out: &mut Vec<u8>) {
        let started = start(out);
        out.extend_from_slice(signed);
        self.finish(started, command::MINING, true, key, out);
    }

    /// A line for the gateway's log, with the NUL that ends it.
    pub fn info(&mut self, key: &ChannelKey, line: &str, out: &mut Vec<u8>) {
        let started = start(out);
        let line = &line[..line.floor_char_boundary(INFO_MAX)];
        out.extend(line.bytes().filter(|byte| *byte != 0));
        out.push(0);
        self.finish(started, command::INFO, false, key, out);
    }

    /// Tells the gateway that the pool is alive. The nonce stands still.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        let header = Header {
            command: command::PING,
            len: 0,
            signed: false,
            sealed: false,
            channel: false,
        };
        self.raw(header, &[], out);
    }

    /// The sealed handshake response.
    pub fn response(&mut self, sealed: &[u8], out: &mut Vec<u8>) {
        let header = Header {
            command: command::RESPONSE,
            len: u32::try_from(sealed.len()).expect("a response is below 1 KiB"),
            signed: true,
            sealed: true,
            channel: false,
        };
        self.raw(header, sealed, out);
    }

    /// A frame whose payload needs nothing more. The nonce stands still.
    pub fn raw(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) {
        assert_eq!(header.len as usize, payload.len());
        out.extend_from_slice(&header.encode(self.header_key));
        self.header_key.advance();
        out.extend_from_slice(payload);
    }

    fn finish(&mut self, started: Started, command: u8, signed: bool, key: &ChannelKey, out: &mut [u8]) {
        let (header, payload) = out[started.0..].split_at_mut(HEADER_LEN);
        key.seal(&self.nonce, payload);
        self.nonce.advance();
        let masked = Header {
            command,
            len: u32::try_from(payload.len()).expect("far below 4 GiB"),
            signed,
            sealed: false,
            channel: true,
        }
        .encode(self.header_key);
        header.copy_from_slice(&masked);
        self.header_key.advance();
    }
}

/// Leaves room for the header and the MAC.
fn start(out: &mut Vec<u8>) -> Started {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_LEN + MAC_LEN]);
    Started(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Config, DecodeError, Fault, FromPool, FromPoolFrame, GatewayInbound, HandshakeError};
    use proptest::prelude::*;

    const NK: u32 = 0x0123_4567;

    fn pool_session() -> SecretKeys {
        SecretKeys::from_seeds(&[3; 64])
    }

    /// A pool's direction, and the gateway that reads it.
    fn both_ends() -> (Outbound, GatewayInbound, ChannelKey) {
        let session = SecretKeys::from_seeds(&[2; 64]).public();
        let outbound = Outbound {
            header_key: HeaderKey::pool_to_gateway(NK),
            nonce: Nonce::pool_to_gateway(NK, &session.ed25519),
        };
        (
            outbound,
            GatewayInbound::new(NK, &session.ed25519),
            ChannelKey::from_bytes([6; 32]),
        )
    }

    /// What the gateway reads, frame by frame, as text.
    fn read(inbound: &mut GatewayInbound, key: &ChannelKey, mut wire: &mut [u8]) -> Vec<String> {
        let mut read = Vec::new();
        while !wire.is_empty() {
            let (header, len) = inbound.frame(wire).expect("a header").expect("a whole header");
            let (frame, rest) = wire.split_at_mut(len);
            let opened = inbound.open(header, frame, key, &pool_session().public());
            read.push(match opened {
                Ok(FromPoolFrame::Ping) => "ping".into(),
                Ok(FromPoolFrame::Info(line)) => String::from_utf8(line.to_vec()).expect("whole characters"),
                Ok(frame) => format!("{frame:?}"),
                Err(error) => error.to_string(),
            });
            wire = rest;
        }
        read
    }

    #[test]
    fn many_frames_leave_in_one_buffer() {
        let (mut outbound, mut inbound, key) = both_ends();
        let mut out = Vec::new();
        outbound.ping(&mut out);
        outbound.mining_signed(&key, &pool_session(), &Config::EXAMPLE, &mut out);
        outbound.ping(&mut out);
        outbound.mining(&key, &FromPool::NewBlock, &mut out);
        outbound.info(&key, "a\0 line", &mut out);
        let read = read(&mut inbound, &key, &mut out);
        let message = |message: FromPool<'_>| format!("{:?}", FromPoolFrame::Message(message));
        assert_eq!(
            read,
            [
                "ping",
                &message(FromPool::Config(Config::EXAMPLE)),
                "ping",
                &message(FromPool::NewBlock),
                "a line"
            ]
        );
    }

    #[test]
    fn a_presigned_config_is_the_same_frame() {
        let (mut one, _, key) = both_ends();
        let (mut other, ..) = both_ends();
        let (mut signed_here, mut signed_before) = (Vec::new(), Vec::new());
        one.mining_signed(&key, &pool_session(), &Config::EXAMPLE, &mut signed_here);
        let mut plain = Vec::new();
        Config::EXAMPLE.encode(&mut plain);
        plain.extend_from_slice(&pool_session().sign(&plain));
        other.mining_presigned(&key, &plain, &mut signed_before);
        assert_eq!(signed_here, signed_before);
    }

    #[test]
    fn config_alone_is_signed_and_always() {
        let unsigned = {
            let (mut outbound, mut inbound, key) = both_ends();
            let mut out = Vec::new();
            outbound.mining(&key, &Config::EXAMPLE, &mut out);
            read(&mut inbound, &key, &mut out)
        };
        let by_another = {
            let (mut outbound, mut inbound, key) = both_ends();
            let mut out = Vec::new();
            outbound.mining_signed(&key, &SecretKeys::from_seeds(&[4; 64]), &Config::EXAMPLE, &mut out);
            read(&mut inbound, &key, &mut out)
        };
        let another_message = {
            let (mut outbound, mut inbound, key) = both_ends();
            let mut out = Vec::new();
            outbound.mining_signed(&key, &pool_session(), &FromPool::NewBlock, &mut out);
            read(&mut inbound, &key, &mut out)
        };
        let refused = |error: HandshakeError| vec![error.to_string()];
        assert_eq!(unsigned, refused(HandshakeError::Unsigned));
        assert_eq!(by_another, refused(HandshakeError::Signature));
        assert_eq!(another_message, refused(HandshakeError::Oversigned));
    }

    #[test]
    fn a_frame_of_no_known_form_is_refused() {
        let pool = pool_session().public();
        let plain = Header {
            command: command::PING,
            len: 0,
            signed: false,
            sealed: false,
            channel: false,
        };
        let unknown = |field| Err(HandshakeError::Malformed(DecodeError::new(field, Fault::Unknown)));
        let open = |header: Header| {
            let (mut outbound, mut inbound, key) = both_ends();
            let mut wire = Vec::new();
            outbound.raw(header, &vec![0; header.len as usize], &mut wire);
            inbound.open(header, &mut wire, &key, &pool).map(|_| ())
        };
        assert_eq!(open(plain), Ok(()));
        assert_eq!(open(Header { len: 1, ..plain }), unknown("pool.command"));
        assert_eq!(open(Header { signed: true, ..plain }), unknown("pool.command"));
        assert_eq!(
            open(Header {
                command: command::INFO,
                ..plain
            }),
            unknown("pool.command")
        );
        assert_eq!(open(Header { sealed: true, ..plain }), unknown("pool.flags"));
        let channel = Header {
            channel: true,
            len: 40,
            ..plain
        };
        assert_eq!(
            open(Header {
                sealed: true,
                ..channel
            }),
            unknown("pool.flags")
        );
        assert_eq!(open(channel), Err(HandshakeError::BadMac));
        assert_eq!(open(Header { len: 3, ..channel }), Err(HandshakeError::BadMac));

        let (mut outbound, mut inbound, key) = both_ends();
        let mut wire = Vec::new();
        let started = start(&mut wire);
        wire.extend_from_slice(b"no end");
        outbound.finish(started, command::INFO, false, &key, &mut wire);
        let started = start(&mut wire);
        wire.push(0xf9);
        outbound.finish(started, 9, false, &key, &mut wire);
        let unterminated = DecodeError::new("info.line", Fault::Unterminated).to_string();
        let unknown = DecodeError::new("pool.command", Fault::Unknown).to_string();
        assert_eq!(read(&mut inbound, &key, &mut wire), [unterminated, unknown]);
    }

    proptest! {
        #[test]
        fn a_line_arrives_cut_and_without_nul(line in "[a-z\0é€]{0,1200}") {
            let (mut outbound, mut inbound, key) = both_ends();
            let mut out = Vec::new();
            outbound.info(&key, &line, &mut out);
            prop_assert!(out.len() <= HEADER_LEN + MAC_LEN + INFO_MAX + 1);
            let read = read(&mut inbound, &key, &mut out);
            let kept = &line[..line.floor_char_boundary(INFO_MAX)];
            prop_assert_eq!(read, [kept.replace('\0', "")]);
        }
    }
}
