//! Parameters by position.

use std::str::FromStr;

use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::hex::FromHex;
use serde_json::Value;

use super::error::RpcError;

#[derive(Debug)]
pub struct Params<'a>(&'a [Value]);

impl<'a> Params<'a> {
    /// # Errors
    /// They are given by name, or not as a list.
    pub fn new(params: &'a Value) -> Result<Self, RpcError> {
        match params {
            Value::Null => Ok(Self(&[])),
            Value::Array(params) => Ok(Self(params)),
            Value::Object(params) if params.is_empty() => Ok(Self(&[])),
            Value::Object(_) => Err(RpcError::new(
                RpcError::INVALID_PARAMETER,
                "this node takes no named parameters",
            )),
            _ => Err(RpcError::invalid_request("Params must be an array or object")),
        }
    }

    /// None where it is missing or null.
    pub fn at(&self, at: usize) -> Option<&'a Value> {
        self.0.get(at).filter(|value| !value.is_null())
    }

    pub fn required(&self, at: usize) -> Result<&'a Value, RpcError> {
        self.at(at)
            .ok_or_else(|| RpcError::new(RpcError::MISC, format!("parameter {} is missing", at + 1)))
    }

    pub fn text(&self, at: usize) -> Result<&'a str, RpcError> {
        self.required(at)?.as_str().ok_or_else(|| wrong_type(at, "string"))
    }

    pub fn number(&self, at: usize) -> Result<u64, RpcError> {
        self.required(at)?.as_u64().ok_or_else(|| wrong_type(at, "number"))
    }

    /// 0 or 1 count as truth values too, as `verbose` has them.
    pub fn level(&self, at: usize, default: u64) -> Result<u64, RpcError> {
        match self.at(at) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(u64::from(*flag)),
            Some(level) => level.as_u64().ok_or_else(|| wrong_type(at, "number")),
        }
    }

    /// A hash in the order that people read.
    pub fn hash<T: FromStr>(&self, at: usize) -> Result<T, RpcError> {
        let text = self.text(at)?;
        text.parse().map_err(|_| {
            RpcError::new(
                RpcError::INVALID_PARAMETER,
                format!("parameter {} must be 64 hex digits (not '{text}')", at + 1),
            )
        })
    }

    /// Hex digits of a block or a transaction.
    pub fn decoded<T: Decodable>(&self, at: usize, what: &str) -> Result<T, RpcError> {
        from_hex(self.text(at)?)
            .ok_or_else(|| RpcError::new(RpcError::DESERIALIZATION, format!("{what} decode failed")))
    }
}

/// A block or a transaction of any size. The library's own way from hex digits stops at 4,000,000 bytes, so that a block
/// that is too large would have no verdict.
pub fn from_hex<T: Decodable>(digits: &str) -> Option<T> {
    deserialize(&Vec::from_hex(digits).ok()?).ok()
}

fn wrong_type(at: usize, expected: &str) -> RpcError {
    RpcError::new(
        RpcError::TYPE,
        format!("parameter {}: JSON value is not of type {expected} as expected", at + 1),
    )
}
