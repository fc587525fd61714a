//! The messages of the mining command by their first byte (sections 3 to 8).

use super::coinbaser::{Coinbaser, CoinbaserRequest};
use super::config::Config;
use super::error::{DecodeError, Fault};
use super::reader::Reader;
use super::share::{Share, ShareResponse};
use super::validation::{ValidationAnswer, ValidationAsk};

/// Turns a message into its plaintext.
pub trait Encode {
    /// Appends the plaintext.
    fn encode(&self, out: &mut Vec<u8>);
}

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGateway<'a> {
    CoinbaserRequest(CoinbaserRequest<'a>),
    Share(Share<'a>),
    Validation(ValidationAnswer<'a>),
}

impl<'a> FromGateway<'a> {
    /// Whether `plain` is a share, as its first byte says.
    #[must_use]
    pub fn is_share(plain: &[u8]) -> bool {
        plain.first() == Some(&Share::COMMAND)
    }

    /// # Errors
    /// The field that is wrong.
    pub fn decode(plain: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(plain);
        match reader.u8("gateway.command")? {
            Share::COMMAND => Share::decode(reader).map(Self::Share),
            CoinbaserRequest::COMMAND => CoinbaserRequest::decode(reader).map(Self::CoinbaserRequest),
            ValidationAnswer::COMMAND => ValidationAnswer::decode(reader).map(Self::Validation),
            _ => Err(DecodeError::new("gateway.command", Fault::Unknown)),
        }
    }
}

impl Encode for FromGateway<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::CoinbaserRequest(request) => request.encode(out),
            Self::Share(share) => share.encode(out),
            Self::Validation(answer) => answer.encode(out),
        }
    }
}

/// What a pool says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromPool<'a> {
    Config(Config<'a>),
    Coinbaser(Coinbaser<'a>),
    ShareResponse(ShareResponse),
    Ask(ValidationAsk<'a>),
    /// A new block is there: sent once per tip.
    NewBlock,
}

impl<'a> FromPool<'a> {
    const NEW_BLOCK: u8 = 0xf9;

    /// # Errors
    /// The field that is wrong.
    pub fn decode(plain: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(plain);
        match reader.u8("pool.command")? {
            Config::COMMAND => Config::decode(reader).map(Self::Config),
            Coinbaser::COMMAND => Coinbaser::decode(reader).map(Self::Coinbaser),
            ShareResponse::COMMAND => ShareResponse::decode(reader).map(Self::ShareResponse),
            ValidationAsk::COMMAND => ValidationAsk::decode(reader).map(Self::Ask),
            Self::NEW_BLOCK => reader.end("new_block").map(|()| Self::NewBlock),
            _ => Err(DecodeError::new("pool.command", Fault::Unknown)),
        }
    }
}

impl Encode for FromPool<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Config(config) => config.encode(out),
            Self::Coinbaser(split) => split.encode(out),
            Self::ShareResponse(response) => response.encode(out),
            Self::Ask(ask) => ask.encode(out),
            Self::NewBlock => out.push(Self::NEW_BLOCK),
        }
    }
}
