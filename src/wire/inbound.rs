//! What a gateway sends, as the pool reads it: early frames, HELLO, then channel frames (section 2).

use thiserror::Error;

use super::channel::{ChannelKey, MAC_LEN, Nonce};
use super::error::DecodeError;
use super::frame::{HEADER_LEN, Header, HeaderKey, PAYLOAD_MAX, command};
use super::handshake::{HELLO_MAX, Hello};

/// The longest payload of a mining frame, before HELLO or after it.
pub const MINING_MAX: usize = 33_000;

/// The longest payload while an answer to a validation question is awaited.
pub const LARGE_MAX: usize = PAYLOAD_MAX;

/// Early frames of one connection that are passed over, before and after its HELLO together.
pub const SKIPPED_FRAMES_MAX: u32 = 4_096;

/// Their bytes, headers included.
pub const SKIPPED_BYTES_MAX: u32 = 8 * 1_024 * 1_024;

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InboundError {
    #[error("what came first is no frame of a gateway")]
    Garbage,
    #[error("a HELLO of {0} bytes; at most {HELLO_MAX} are read")]
    HelloTooLong(u32),
    #[error("a header that no gateway sends: {0}")]
    BadHeader(#[from] DecodeError),
    #[error("command {0} with flags that a gateway does not send it with")]
    UnexpectedCommand(u8),
    #[error("a frame of {0} bytes is above the limit")]
    TooLong(u32),
    #[error("a frame under another key than the session's")]
    BadMac,
    #[error("more early frames than {SKIPPED_FRAMES_MAX}, or than {SKIPPED_BYTES_MAX} bytes of them")]
    TooManySkipped,
}

/// Early frames passed over so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    pub frames: u32,
    /// Headers included.
    pub bytes: u32,
}

impl Skipped {
    fn add(&mut self, frame_len: usize) -> Result<(), InboundError> {
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u32::try_from(frame_len).unwrap_or(u32::MAX));
        if self.frames > SKIPPED_FRAMES_MAX || self.bytes > SKIPPED_BYTES_MAX {
            return Err(InboundError::TooManySkipped);
        }
        Ok(())
    }
}

/// A connection until its HELLO. Shares found while the gateway connected may come first; their headers carry the key
/// on, their content is lost.
pub struct BeforeHello {
    header_key: HeaderKey,
    skipped: Skipped,
}

/// What the front of the bytes read so far is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// So many bytes are needed from the start of the buffer.
    Need(usize),
    /// An early frame: drop so many bytes, header included, as they arrive.
    Skip(usize),
    /// HELLO: the frame has so many bytes, header included, all of them in the buffer.
    Hello(usize),
}

impl Default for BeforeHello {
    fn default() -> Self {
        Self::new()
    }
}

impl BeforeHello {
    #[must_use]
    pub fn new() -> Self {
        Self {
            header_key: HeaderKey::FIRST,
            skipped: Skipped::default(),
        }
    }

    /// Looks at the front of `buf`. After [`Lead::Skip`] the caller drops the bytes and asks again.
    ///
    /// # Errors
    /// What came is neither HELLO nor an early frame, or too long, or too many.
    pub fn next(&mut self, buf: &[u8]) -> Result<Lead, InboundError> {
        let Some(masked) = buf.first_chunk() else {
            return Ok(Lead::Need(HEADER_LEN));
        };
        let header = Header::decode(*masked, self.header_key).map_err(|_| InboundError::Garbage)?;
        let len = HEADER_LEN + header.len as usize;
        if is_mining(header) {
            if header.len as usize > MINING_MAX {
                return Err(InboundError::TooLong(header.len));
            }
            self.skipped.add(len)?;
            self.header_key.advance();
            return Ok(Lead::Skip(len));
        }
        if !is_hello(header) {
            return Err(InboundError::Garbage);
        }
        if header.len as usize > HELLO_MAX {
            return Err(InboundError::HelloTooLong(header.len));
        }
        Ok(if buf.len() < len {
            Lead::Need(len)
        } else {
            Lead::Hello(len)
        })
    }

    #[must_use]
    pub fn into_skipped(self) -> Skipped {
        self.skipped
    }
}

/// A connection behind its HELLO.
pub struct Inbound {
    header_key: HeaderKey,
    nonce: Nonce,
    proven: bool,
    skipped: Skipped,
}

/// A frame that was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'b> {
    Plain {
        plain: &'b [u8],
        /// It came under a former session's key.
        early: bool,
        /// It is the first under the session's own key: only this proves who is there.
        first: bool,
    },
    /// An early frame that no key opens.
    Skipped,
}

impl Inbound {
    #[must_use]
    pub fn new(hello: &Hello, skipped: Skipped) -> Self {
        Self {
            header_key: HeaderKey::gateway_to_pool(hello.nk),
            nonce: Nonce::gateway_to_pool(hello.nk, &hello.session.ed25519),
            proven: false,
            skipped,
        }
    }

    /// The length of the frame at the front of `buf`, header included; none while its header is incomplete.
    ///
    /// # Errors
    /// A gateway sends no such frame here, or not of that length.
    pub fn frame_len(&self, buf: &[u8], payload_max: usize) -> Result<Option<usize>, InboundError> {
        let Some(masked) = buf.first_chunk() else {
            return Ok(None);
        };
        let header = Header::decode(*masked, self.header_key)?;
        if !is_mining(header) {
            return Err(InboundError::UnexpectedCommand(header.command));
        }
        if header.len as usize > payload_max {
            return Err(InboundError::TooLong(header.len));
        }
        Ok(Some(HEADER_LEN + header.len as usize))
    }

    /// Opens one whole frame in place, as [`Self::frame_len`] has measured it. Until the first frame under `key`, the
    /// `former` keys are tried too.
    ///
    /// # Errors
    /// No key fits and one had to, or too many frames were passed over.
    pub fn open<'b>(
        &mut self,
        frame: &'b mut [u8],
        key: &ChannelKey,
        former: &[ChannelKey],
    ) -> Result<Opened<'b>, InboundError> {
        let frame_len = frame.len();
        let payload = frame.get_mut(HEADER_LEN..).unwrap_or_default();
        self.header_key.advance();
        let opened = if key.open(&self.nonce, payload).is_ok() {
            Some(Self::plain(payload, false, !std::mem::replace(&mut self.proven, true)))
        } else if self.proven {
            return Err(InboundError::BadMac);
        } else if former.iter().any(|key| key.open(&self.nonce, payload).is_ok()) {
            Some(Self::plain(payload, true, false))
        } else {
            None
        };
        self.nonce.advance();
        match opened {
            Some(opened) => Ok(opened),
            None => {
                self.skipped.add(frame_len)?;
                Ok(Opened::Skipped)
            }
        }
    }

    /// Passes over one whole frame that is opened elsewhere, with the session's key and this nonce; its plaintext then stands
    /// behind header and MAC. None before the session's first good frame, when it is not known which key fits.
    #[must_use]
    pub fn pass_on(&mut self) -> Option<Nonce> {
        if !self.proven {
            return None;
        }
        let nonce = self.nonce.clone();
        self.header_key.advance();
        self.nonce.advance();
        Some(nonce)
    }

    /// Whether a frame under the session's own key has come.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.proven
    }

    fn plain(payload: &[u8], early: bool, first: bool) -> Opened<'_> {
        let plain = payload.get(MAC_LEN..).unwrap_or_default();
        Opened::Plain { plain, early, first }
    }
}

fn is_hello(header: Header) -> bool {
    header.command == command::HELLO && header.signed && header.sealed && !header.channel
}

fn is_mining(header: Header) -> bool {
    header.command == command::MINING && header.channel && !header.signed && !header.sealed
}

#[cfg(test)]
mod tests;
