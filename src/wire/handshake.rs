//! HELLO and its response (section 2).
//!
//! Opening and answering are cut into steps of one curve operation or two, so that a caller can do other work
//! between them.

use std::fmt;

use thiserror::Error;

use super::error::{DecodeError, Fault};
use super::keys::{Opener, PublicKeys, SIGNATURE_LEN, SecretKeys};
use super::reader::Reader;
use super::sealed_box::{seal, unseal};

/// The longest HELLO payload that is read; the gateway's has some 830 bytes at most.
pub const HELLO_MAX: usize = 1_024;

/// Bytes of a MOTD, without the NUL that ends it.
pub const MOTD_MAX: usize = 510;

/// Bytes of a user agent, without the NUL that ends it: three parts of 127 and what stands between them.
const AGENT_MAX: usize = 384;

const PADDING_MAX: usize = 200;

/// Why a HELLO or its response is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HandshakeError {
    #[error("not sealed to our key")]
    Unsealable,
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("the signature is not the sender's")]
    Signature,
    #[error("CONFIG without a signature")]
    Unsigned,
    #[error("a signature on a message that bears none")]
    Oversigned,
    #[error("not under the channel's key")]
    BadMac,
    #[error("the response echoes other keys than ours")]
    Echo,
}

/// What opens a connection: who the gateway is, the keys of its session, and where its header keys and nonces start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub long_term: PublicKeys,
    pub session: PublicKeys,
    pub agent: Agent,
    /// Seeds header keys and nonces.
    pub nk: u32,
    /// Bytes without meaning, at most 200; a gateway sends 1 at least.
    pub padding: Vec<u8>,
}

impl Hello {
    /// First step, one X25519: opens the sealed payload. A pool with several long-term keys takes it with one after the
    /// other.
    ///
    /// # Errors
    /// It was sealed to another key, or changed on its way.
    pub fn unseal(payload: &[u8], pool: &SecretKeys) -> Result<Vec<u8>, HandshakeError> {
        unseal(payload, pool).ok_or(HandshakeError::Unsealable)
    }

    /// The same with what is left of keys that serve no more.
    ///
    /// # Errors
    /// As [`Self::unseal`].
    pub fn unseal_retired(payload: &[u8], retired: &Opener) -> Result<Vec<u8>, HandshakeError> {
        Self::unseal(payload, &retired.0)
    }

    /// Second step, cheap: parses, and checks nothing.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn decode(plain: &[u8]) -> Result<Self, HandshakeError> {
        let (message, _) = split_signature(plain)?;
        let mut reader = Reader::new(message);
        let long_term = decode_keys(&mut reader, "hello.long_term")?;
        let session = decode_keys(&mut reader, "hello.session")?;
        let agent = Agent(reader.until_nul(AGENT_MAX, "hello.agent")?.into());
        reader.literal(0xfe, "hello.end")?;
        let nk = reader.u32("hello.nk")?;
        let padding = reader.rest();
        if padding.len() > PADDING_MAX {
            return Err(DecodeError::new("hello.padding", Fault::TooLong).into());
        }
        Ok(Self {
            long_term,
            session,
            agent,
            nk,
            padding: padding.into(),
        })
    }

    /// Third step, one Ed25519 verification: `plain`, from which this was decoded, is signed by the long-term key.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(&self, plain: &[u8]) -> Result<(), HandshakeError> {
        verify(&self.long_term, plain)
    }

    /// The plaintext with its signature.
    ///
    /// # Panics
    /// The padding is longer than a pool reads: a fault of the caller.
    #[must_use]
    pub fn encode(&self, long_term: &SecretKeys) -> Vec<u8> {
        assert!(self.padding.len() <= PADDING_MAX);
        let mut plain = Vec::with_capacity(HELLO_MAX);
        encode_keys(&self.long_term, &mut plain);
        encode_keys(&self.session, &mut plain);
        plain.extend_from_slice(&self.agent.0);
        plain.extend_from_slice(&[0, 0xfe]);
        plain.extend_from_slice(&self.nk.to_le_bytes());
        plain.extend_from_slice(&self.padding);
        sign(long_term, plain)
    }

    /// The payload of the frame that carries `plain`.
    #[must_use]
    pub fn seal(plain: &[u8], pool_x25519: &[u8; 32]) -> Vec<u8> {
        seal(plain, pool_x25519)
    }
}

/// The pool's answer to HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HELLO's own keys, given back.
    pub long_term: PublicKeys,
    pub session: PublicKeys,
    pub pool_session: PublicKeys,
    /// For the gateway's log, without the NUL that ends it.
    pub motd: Vec<u8>,
}

impl Response {
    /// The plaintext with the signature of `pool`, the long-term key that HELLO was sealed to: one Ed25519 signing.
    ///
    /// # Panics
    /// The MOTD is longer than [`MOTD_MAX`] or holds a NUL: the configuration refuses such.
    #[must_use]
    pub fn encode(hello: &Hello, pool_session: &PublicKeys, motd: &[u8], pool: &SecretKeys) -> Vec<u8> {
        assert!(motd.len() <= MOTD_MAX && !motd.contains(&0));
        let mut plain = Vec::with_capacity(6 * 32 + MOTD_MAX + 1 + SIGNATURE_LEN);
        encode_keys(&hello.long_term, &mut plain);
        encode_keys(&hello.session, &mut plain);
        encode_keys(pool_session, &mut plain);
        plain.extend_from_slice(motd);
        plain.push(0);
        sign(pool, plain)
    }

    /// The payload of the frame that carries `plain`: two X25519.
    #[must_use]
    pub fn seal(plain: &[u8], gateway_session_x25519: &[u8; 32]) -> Vec<u8> {
        seal(plain, gateway_session_x25519)
    }

    /// Parses a response's plaintext, and checks nothing.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn decode(plain: &[u8]) -> Result<Self, HandshakeError> {
        let (message, _) = split_signature(plain)?;
        let mut reader = Reader::new(message);
        let long_term = decode_keys(&mut reader, "response.long_term")?;
        let session = decode_keys(&mut reader, "response.session")?;
        let pool_session = decode_keys(&mut reader, "response.pool_session")?;
        let motd = reader.until_nul(MOTD_MAX, "response.motd")?.into();
        reader.end("response.end")?;
        Ok(Self {
            long_term,
            session,
            pool_session,
            motd,
        })
    }

    /// The gateway's side: opens, checks the pool's signature, and that the keys echoed are those of `sent`.
    ///
    /// # Errors
    /// The first of these that fails.
    pub fn open(
        payload: &[u8],
        gateway_session: &SecretKeys,
        sent: &Hello,
        pool: &PublicKeys,
    ) -> Result<Self, HandshakeError> {
        let plain = unseal(payload, gateway_session).ok_or(HandshakeError::Unsealable)?;
        verify(pool, &plain)?;
        let response = Self::decode(&plain)?;
        if (response.long_term, response.session) != (sent.long_term, sent.session) {
            return Err(HandshakeError::Echo);
        }
        Ok(response)
    }
}

/// A gateway's name and version as it gives them, such as `v0.4.1-beta/<commit>`; any bytes but NUL.
#[derive(Clone, PartialEq, Eq)]
pub struct Agent(Box<[u8]>);

impl Agent {
    /// Cut to the 384 bytes that are read, and before a NUL.
    #[must_use]
    pub fn new(agent: &str) -> Self {
        let end = agent.find('\0').unwrap_or(agent.len()).min(AGENT_MAX);
        Self(agent.as_bytes()[..end].into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Agent {
    /// Printable ASCII as it is, all else escaped: it goes into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn encode_keys(keys: &PublicKeys, out: &mut Vec<u8>) {
    out.extend_from_slice(&keys.ed25519);
    out.extend_from_slice(&keys.x25519);
}

fn decode_keys(reader: &mut Reader<'_>, field: &'static str) -> Result<PublicKeys, DecodeError> {
    Ok(PublicKeys {
        ed25519: *reader.array(field)?,
        x25519: *reader.array(field)?,
    })
}

fn split_signature(plain: &[u8]) -> Result<(&[u8], &[u8; SIGNATURE_LEN]), DecodeError> {
    plain
        .split_last_chunk()
        .ok_or(DecodeError::new("signature", Fault::Truncated))
}

fn sign(signer: &SecretKeys, mut plain: Vec<u8>) -> Vec<u8> {
    plain.extend_from_slice(&signer.sign(&plain));
    plain
}

fn verify(signer: &PublicKeys, plain: &[u8]) -> Result<(), HandshakeError> {
    if signer.has_signed(plain) {
        Ok(())
    } else {
        Err(HandshakeError::Signature)
    }
}

#[cfg(test)]
mod tests;
