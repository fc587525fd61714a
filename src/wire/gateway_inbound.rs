//! What a pool sends, as a gateway reads it; the load generator and the tests are such gateways.

use super::channel::{ChannelKey, MAC_LEN, Nonce};
use super::error::{DecodeError, Fault};
use super::frame::{HEADER_LEN, Header, HeaderKey, command};
use super::handshake::{HandshakeError, Hello, Response};
use super::inbound::InboundError;
use super::keys::{PublicKeys, SIGNATURE_LEN, SecretKeys};
use super::message::FromPool;

/// One direction of receiving, on the gateway's side.
pub struct GatewayInbound {
    header_key: HeaderKey,
    nonce: Nonce,
}

/// A frame from the pool.
#[derive(Debug, PartialEq)]
pub enum FromPoolFrame<'b> {
    Response(Response),
    Message(FromPool<'b>),
    /// A line for the log, without the NUL that ends it.
    Info(&'b [u8]),
    Ping,
}

impl GatewayInbound {
    #[must_use]
    pub fn new(nk: u32, session_ed25519: &[u8; 32]) -> Self {
        Self {
            header_key: HeaderKey::pool_to_gateway(nk),
            nonce: Nonce::pool_to_gateway(nk, session_ed25519),
        }
    }

    /// The header and the whole length of the frame at the front of `buf`; none while the header is incomplete.
    ///
    /// # Errors
    /// It is not masked as this direction's next header is.
    pub fn frame(&self, buf: &[u8]) -> Result<Option<(Header, usize)>, InboundError> {
        let Some(masked) = buf.first_chunk() else {
            return Ok(None);
        };
        let header = Header::decode(*masked, self.header_key)?;
        Ok(Some((header, HEADER_LEN + header.len as usize)))
    }

    /// Opens the handshake response, the first frame of a pool.
    ///
    /// # Errors
    /// See [`Response::open`].
    pub fn open_response(
        &mut self,
        frame: &[u8],
        gateway_session: &SecretKeys,
        sent: &Hello,
        pool: &PublicKeys,
    ) -> Result<Response, HandshakeError> {
        self.header_key.advance();
        let payload = frame.get(HEADER_LEN..).unwrap_or_default();
        Response::open(payload, gateway_session, sent, pool)
    }

    /// Opens any later frame in place. CONFIG must carry the signature of the pool's session key, and nothing else may.
    ///
    /// # Errors
    /// What a gateway would end the connection over.
    pub fn open<'b>(
        &mut self,
        header: Header,
        frame: &'b mut [u8],
        key: &ChannelKey,
        pool_session: &PublicKeys,
    ) -> Result<FromPoolFrame<'b>, HandshakeError> {
        self.header_key.advance();
        let payload = frame.get_mut(HEADER_LEN..).unwrap_or_default();
        if header.sealed {
            return Err(DecodeError::new("pool.flags", Fault::Unknown).into());
        }
        if !header.channel {
            return match (header.command, header.signed, payload.is_empty()) {
                (command::PING, false, true) => Ok(FromPoolFrame::Ping),
                _ => Err(DecodeError::new("pool.command", Fault::Unknown).into()),
            };
        }
        key.open(&self.nonce, payload).map_err(|_| HandshakeError::BadMac)?;
        self.nonce.advance();
        let mut plain = payload.get(MAC_LEN..).unwrap_or_default();
        if header.signed {
            if !pool_session.has_signed(plain) {
                return Err(HandshakeError::Signature);
            }
            plain = &plain[..plain.len() - SIGNATURE_LEN];
        }
        match header.command {
            command::MINING => {
                let message = FromPool::decode(plain)?;
                match (matches!(message, FromPool::Config(_)), header.signed) {
                    (true, false) => Err(HandshakeError::Unsigned),
                    (false, true) => Err(HandshakeError::Oversigned),
                    _ => Ok(FromPoolFrame::Message(message)),
                }
            }
            command::INFO if header.signed => Err(HandshakeError::Oversigned),
            command::INFO => {
                let line = plain
                    .strip_suffix(&[0])
                    .ok_or(DecodeError::new("info.line", Fault::Unterminated))?;
                Ok(FromPoolFrame::Info(line))
            }
            _ => Err(DecodeError::new("pool.command", Fault::Unknown).into()),
        }
    }
}
