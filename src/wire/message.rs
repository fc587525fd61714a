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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::laws::{hear_from_gateway, hear_from_pool, pool_is_heard};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Bytes that occur where a message branches, more often than others.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let telling = prop::sample::select(vec![0, 1, 2, 0x0c, 0x10, 0x11, 0x12, 0x90, 0x91, 0x92, 0xfe, 0xff]);
        vec(prop_oneof![telling, any::<u8>()], 0..400)
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_message_of_all_of_them(
            command in prop::sample::select(vec![0x10, 0x11, 0x27, 0x50, 0x8f, 0x99, 0xf9]),
            rest in bytes(),
        ) {
            let bytes = [&[command][..], &rest].concat();
            hear_from_gateway(&bytes);
            hear_from_pool(&bytes);
        }
    }

    #[test]
    fn each_side_knows_its_own_commands_alone() {
        let gateways = [0x10, 0x27, 0x50];
        let pools = [0x11, 0x50, 0x8f, 0x99, 0xf9];
        for command in 0..=u8::MAX {
            let unknown = |field| DecodeError::new(field, Fault::Unknown);
            let at_pool = FromGateway::decode(&[command]).err();
            assert_eq!(
                at_pool == Some(unknown("gateway.command")),
                !gateways.contains(&command)
            );
            let at_gateway = FromPool::decode(&[command]).err();
            assert_eq!(at_gateway == Some(unknown("pool.command")), !pools.contains(&command));
        }
        let empty = |field| DecodeError::new(field, Fault::Truncated);
        assert_eq!(FromGateway::decode(&[]), Err(empty("gateway.command")));
        assert_eq!(FromPool::decode(&[]), Err(empty("pool.command")));
    }

    #[test]
    fn a_new_block_is_one_byte() {
        pool_is_heard(&FromPool::NewBlock);
        assert!(FromGateway::is_share(&[0x27]) && !FromGateway::is_share(&[0x10]) && !FromGateway::is_share(&[]));
    }
}
