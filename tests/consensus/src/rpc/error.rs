//! Errors as bitcoind numbers them.

use std::fmt::Display;

use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    code: i32,
    message: String,
}

impl RpcError {
    pub const INVALID_REQUEST: i32 = -32_600;
    pub const METHOD_NOT_FOUND: i32 = -32_601;
    pub const PARSE: i32 = -32_700;
    pub const MISC: i32 = -1;
    pub const TYPE: i32 = -3;
    pub const INVALID_ADDRESS_OR_KEY: i32 = -5;
    pub const INVALID_PARAMETER: i32 = -8;
    pub const DESERIALIZATION: i32 = -22;
    pub const VERIFY: i32 = -25;
    pub const VERIFY_REJECTED: i32 = -26;
    pub const VERIFY_ALREADY_IN_CHAIN: i32 = -27;
    pub const IN_WARMUP: i32 = -28;

    pub fn new(code: i32, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    pub fn invalid_request(message: &str) -> Self {
        Self::new(Self::INVALID_REQUEST, message)
    }

    /// That of HTTP, below JSON-RPC 2.0.
    pub fn status(&self) -> u16 {
        match self.code {
            Self::INVALID_REQUEST => 400,
            Self::METHOD_NOT_FOUND => 404,
            _ => 500,
        }
    }

    pub fn body(&self) -> Value {
        json!({"code": self.code, "message": self.message})
    }
}

impl From<crate::node::NodeError> for RpcError {
    fn from(error: crate::node::NodeError) -> Self {
        use crate::node::NodeError;
        let code = match error {
            NodeError::UnknownBlock => Self::INVALID_ADDRESS_OR_KEY,
            NodeError::Genesis => Self::INVALID_PARAMETER,
            NodeError::Engine(_) | NodeError::Disk(..) | NodeError::Unmineable(_) => Self::MISC,
        };
        Self::new(code, error)
    }
}
