//! The DATUM protocol, both sides, sans-IO: bytes in, typed values out, and back.
//!
//! No socket, no clock and no runtime: the caller moves the bytes. What decodes borrows from the buffer; nothing a
//! peer sends can panic, allocate beyond its own size, or loop. All integers on the wire are little-endian, hashes
//! stand in internal byte order (as they are hashed). Section numbers in this module are those of `docs/PROTOCOL.md`.

mod channel;
mod coinbase;
mod coinbaser;
mod config;
#[cfg(test)]
mod discipline;
mod error;
mod frame;
mod gateway_inbound;
mod handshake;
mod inbound;
mod keys;
#[cfg(test)]
mod laws;
mod message;
mod outbound;
mod proxy;
mod reader;
mod reason;
mod sealed_box;
mod share;
mod validation;

pub use self::channel::{BadMac, ChannelKey, MAC_LEN, Nonce};
pub use self::coinbase::{
    CoinbaseDraft, CoinbaseOutput, CoinbaseTransaction, CutCoinbase, ExtranoncePlace, coinbase_transaction,
    commitment_script, extranonce_script, push_output,
};
pub use self::coinbaser::{
    BLOB_MAX, Coinbaser, CoinbaserOf, CoinbaserRequest, OUTPUT_SCRIPT_MAX, OUTPUTS_MAX, Output, Outputs,
};
pub use self::config::{Config, SCRIPT_MAX, TAG_MAX};
pub use self::error::{DecodeError, Fault};
pub use self::frame::{HEADER_LEN, Header, HeaderKey, PAYLOAD_MAX, command};
pub use self::gateway_inbound::{FromPoolFrame, GatewayInbound};
pub use self::handshake::{Agent, HELLO_MAX, HandshakeError, Hello, MOTD_MAX, Response};
pub use self::inbound::{
    BeforeHello, Inbound, InboundError, LARGE_MAX, Lead, MINING_MAX, Opened, SKIPPED_BYTES_MAX, SKIPPED_FRAMES_MAX,
    Skipped,
};
pub use self::keys::{Opener, PublicKeys, SIGNATURE_LEN, SecretKeys, SessionSigner};
pub use self::message::{Encode, FromGateway, FromPool};
pub use self::outbound::{INFO_MAX, Outbound};
pub use self::proxy::{PROXY_MAX, ProxyError, ProxyLead, ProxySource, proxy_header};
pub use self::reason::Reason;
pub use self::sealed_box::SEALED_MORE;
pub use self::share::{
    BRANCHES_MAX, COINB1_MAX, COINB2_MAX, COMMITMENT_START, CoinbaseSection, EXTRANONCE_LEN, Flags, JobSection,
    QUICKDIFF, SUBSIDY_ONLY_ID, Share, ShareResponse, Status, USERNAME_MAX,
};
pub use self::validation::{
    CROSS_CHECK_START, INDEXES_MAX, Indexes, SHORT_IDS_ANSWER_MAX, Transactions, ValidationAnswer, ValidationAsk,
    ValidationError, short_id, short_id_key,
};
