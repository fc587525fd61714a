//! One direction of sending, either side: whole frames appended to a buffer, so that one write can carry many.
//!
//! Nothing is allocated where the buffer has room.

use super::channel::{ChannelKey, MAC_LEN, Nonce};
use super::frame::{HEADER_LEN, Header, HeaderKey, command};
use super::handshake::Hello;
use super::keys::SecretKeys;
use super::message::Encode;

/// A line for the gateway's log is cut to this many bytes.
const INFO_MAX: usize = 1_000;

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
