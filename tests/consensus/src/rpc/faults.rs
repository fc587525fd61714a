//! Misbehaviour on demand, so that what depends on a node can be tried against a bad one.

use serde::Deserialize;

use super::error::RpcError;
use super::params::Params;

/// All off unless said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Every answer waits so long.
    pub delay_ms: u64,
    /// Every call fails as while a node loads its blocks.
    pub warming_up: bool,
    /// Nothing is published over ZMQ.
    pub silent: bool,
    /// What `getblockchaininfo` says of the download.
    pub initial_block_download: Option<bool>,
    /// What `getblockchaininfo` says of the chain.
    pub chain: Option<String>,
    /// What `getblockchaininfo` and `getbestblockhash` say of the tip.
    pub best_block: Option<String>,
}

/// The longest delay: a test waits for it.
const DELAY_MS_MAX: u64 = 600_000;

impl Faults {
    pub fn parse(params: &Params<'_>) -> Result<Self, RpcError> {
        let faults: Self = serde_json::from_value(params.required(0)?.clone())
            .map_err(|error| RpcError::new(RpcError::INVALID_PARAMETER, error))?;
        if faults.delay_ms > DELAY_MS_MAX {
            return Err(RpcError::new(
                RpcError::INVALID_PARAMETER,
                format!("delay_ms is above {DELAY_MS_MAX}"),
            ));
        }
        Ok(faults)
    }
}
