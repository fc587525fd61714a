//! Why bytes are not a message.

use thiserror::Error;

/// A message that does not decode: which field of it, and what is wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field}: {fault}")]
pub struct DecodeError {
    /// The message and its field, such as `share.username`.
    pub field: &'static str,
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("the message ends before it does")]
    Truncated,
    #[error("longer than the protocol allows")]
    TooLong,
    #[error("not a value that the protocol knows")]
    Unknown,
    #[error("the NUL that ends it is missing")]
    Unterminated,
    #[error("more bytes follow than the protocol allows")]
    Trailing,
    #[error("not a key that can be agreed with")]
    WeakKey,
}

impl DecodeError {
    pub(super) const fn new(field: &'static str, fault: Fault) -> Self {
        Self { field, fault }
    }
}
