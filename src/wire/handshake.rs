//! HELLO and its response (section 2).
//!
//! Opening and answering are cut into steps of one curve operation or two, so that a caller can do other work
//! between them.

use std::fmt;

use crypto_box::aead::OsRng;
use thiserror::Error;

use super::error::{DecodeError, Fault};
use super::keys::{PublicKeys, SIGNATURE_LEN, SecretKeys};
use super::reader::Reader;

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
    /// First step, two X25519 (the second on the base point): opens the sealed payload.
    ///
    /// # Errors
    /// It was sealed to another key, or changed on its way.
    pub fn unseal(payload: &[u8], pool: &SecretKeys) -> Result<Vec<u8>, HandshakeError> {
        unseal(payload, pool)
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
    /// The plaintext with the pool's long-term signature: one Ed25519 signing.
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
        let plain = unseal(payload, gateway_session)?;
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

fn seal(plain: &[u8], to_x25519: &[u8; 32]) -> Vec<u8> {
    crypto_box::PublicKey::from(*to_x25519)
        .seal(&mut OsRng, plain)
        .expect("a handshake message is far below the cipher's limit")
}

fn unseal(payload: &[u8], keys: &SecretKeys) -> Result<Vec<u8>, HandshakeError> {
    crypto_box::SecretKey::from(keys.x25519().to_bytes())
        .unseal(payload)
        .map_err(|_| HandshakeError::Unsealable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn keys(seed: u8) -> SecretKeys {
        SecretKeys::from_seeds(&[seed; 64])
    }

    fn hello(agent: &[u8], nk: u32, padding: Vec<u8>) -> Hello {
        Hello {
            long_term: keys(1).public(),
            session: keys(2).public(),
            agent: Agent(agent.into()),
            nk,
            padding,
        }
    }

    /// All the steps of a pool.
    fn open(payload: &[u8], pool: &SecretKeys) -> Result<Hello, HandshakeError> {
        let plain = Hello::unseal(payload, pool)?;
        let hello = Hello::decode(&plain)?;
        hello.verify(&plain)?;
        Ok(hello)
    }

    fn malformed(field: &'static str, fault: Fault) -> HandshakeError {
        HandshakeError::Malformed(DecodeError::new(field, fault))
    }

    proptest! {
        // Some curve operations each.
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn hello_is_heard_by_the_pool_it_is_for(
            agent in vec(1..=u8::MAX, 0..=AGENT_MAX),
            nk: u32,
            padding in vec(any::<u8>(), 0..=PADDING_MAX),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let hello = hello(&agent, nk, padding);
            let plain = hello.encode(&keys(1));
            let mut payload = Hello::seal(&plain, &keys(9).public().x25519);
            prop_assert!(payload.len() <= HELLO_MAX);
            prop_assert_eq!(open(&payload, &keys(9)), Ok(hello.clone()));
            prop_assert_eq!(open(&payload, &keys(8)), Err(HandshakeError::Unsealable));
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            // X25519 itself ignores the top bit of a key, but the nonce is made of all of it.
            prop_assert_eq!(open(&payload, &keys(9)), Err(HandshakeError::Unsealable));
        }

        #[test]
        fn a_response_is_heard_by_the_gateway_it_is_for(motd in vec(1..=u8::MAX, 0..=MOTD_MAX)) {
            let sent = hello(b"v", 7, vec![1]);
            let plain = Response::encode(&sent, &keys(3).public(), &motd, &keys(9));
            let payload = Response::seal(&plain, &sent.session.x25519);
            let expected = Response {
                long_term: sent.long_term,
                session: sent.session,
                pool_session: keys(3).public(),
                motd,
            };
            let pool = keys(9).public();
            prop_assert_eq!(Response::open(&payload, &keys(2), &sent, &pool), Ok(expected));
            prop_assert_eq!(Response::open(&payload, &keys(4), &sent, &pool), Err(HandshakeError::Unsealable));
            let stranger = keys(8).public();
            prop_assert_eq!(Response::open(&payload, &keys(2), &sent, &stranger), Err(HandshakeError::Signature));
            let other = Hello { long_term: keys(5).public(), ..sent };
            prop_assert_eq!(Response::open(&payload, &keys(2), &other, &pool), Err(HandshakeError::Echo));
        }
    }

    proptest! {
        #[test]
        fn any_plaintext_is_an_error_or_a_hello(plain in vec(prop_oneof![Just(0_u8), Just(0xfe), any::<u8>()], 0..700)) {
            if let Ok(hello) = Hello::decode(&plain) {
                let again = hello.encode(&keys(1));
                let signed = plain.len() - SIGNATURE_LEN;
                prop_assert_eq!(&again[..signed], &plain[..signed]);
                prop_assert_eq!(again.len(), plain.len());
            }
            if let Ok(response) = Response::decode(&plain) {
                prop_assert!(response.motd.len() <= MOTD_MAX);
            }
        }

        #[test]
        fn any_payload_is_unsealable(payload in vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Hello::unseal(&payload, &keys(9)), Err(HandshakeError::Unsealable));
        }
    }

    #[test]
    fn the_signature_must_be_of_the_long_term_key() {
        let hello = hello(b"v", 7, vec![1]);
        let good = hello.encode(&keys(1));
        assert_eq!(hello.verify(&good), Ok(()));
        let by_session = hello.encode(&keys(2));
        assert_eq!(hello.verify(&by_session), Err(HandshakeError::Signature));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(hello.verify(&bad), Err(HandshakeError::Signature), "byte {at}");
        }
    }

    #[test]
    fn hello_ends_at_its_limits() {
        let decode = |agent: usize, padding: usize| {
            let mut plain = vec![1; 4 * 32];
            plain.extend(std::iter::repeat_n(b'v', agent));
            plain.extend_from_slice(&[0, 0xfe, 1, 2, 3, 4]);
            plain.extend(std::iter::repeat_n(0xbd, padding + SIGNATURE_LEN));
            Hello::decode(&plain).map(|hello| (hello.agent.as_bytes().len(), hello.nk, hello.padding.len()))
        };
        assert_eq!(
            decode(AGENT_MAX, PADDING_MAX),
            Ok((AGENT_MAX, 0x0403_0201, PADDING_MAX))
        );
        assert_eq!(decode(AGENT_MAX + 1, 1), Err(malformed("hello.agent", Fault::TooLong)));
        assert_eq!(
            decode(1, PADDING_MAX + 1),
            Err(malformed("hello.padding", Fault::TooLong))
        );
    }

    #[test]
    fn hello_that_is_cut_off_says_where() {
        let plain = hello(b"v0.4.1-beta/abc", 7, vec![1]).encode(&keys(1));
        let cut = |len: usize| Hello::decode(&plain[..len + SIGNATURE_LEN]);
        assert_eq!(cut(63), Err(malformed("hello.long_term", Fault::Truncated)));
        assert_eq!(cut(127), Err(malformed("hello.session", Fault::Truncated)));
        assert_eq!(cut(140), Err(malformed("hello.agent", Fault::Unterminated)));
        assert_eq!(cut(144), Err(malformed("hello.end", Fault::Truncated)));
        assert_eq!(cut(146), Err(malformed("hello.nk", Fault::Truncated)));
        assert!(cut(149).is_ok());
        assert_eq!(
            Hello::decode(&plain[..63]),
            Err(malformed("signature", Fault::Truncated))
        );
    }

    #[test]
    fn a_motd_that_no_gateway_takes_is_not_sent() {
        let sent = hello(b"v", 7, vec![1]);
        for motd in [&[b'x'; MOTD_MAX + 1][..], b"a\0b"] {
            let encode = || Response::encode(&sent, &keys(3).public(), motd, &keys(9));
            assert!(std::panic::catch_unwind(encode).is_err());
        }
        let plain = Response::encode(&sent, &keys(3).public(), b"hello", &keys(9));
        let trailing = [&plain[..198], &[0], &plain[198..]].concat();
        assert_eq!(
            Response::decode(&trailing),
            Err(malformed("response.end", Fault::Trailing))
        );
    }

    #[test]
    fn an_agent_is_cut_and_shown_in_printable_letters() {
        assert_eq!(Agent::new(&"x".repeat(1_000)).as_bytes().len(), AGENT_MAX);
        assert_eq!(Agent::new("abc\0def").as_bytes(), b"abc");
        assert_eq!(
            Agent(b"v1\x1b[31m\n\xff".as_slice().into()).to_string(),
            r"v1\x1b[31m\n\xff"
        );
    }
}
