//! A payee as people write it.

use std::fmt;
use std::str::FromStr;

use bitcoin::Address;
use bitcoin::address::NetworkUnchecked;
use thiserror::Error;

use super::chain::NetworkKind;

/// An address of a standard type, and the output script that it is the form of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayeeAddress {
    text: Box<str>,
    address: Address<NetworkUnchecked>,
    script: Box<[u8]>,
}

/// What was written is no such address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no address of a standard type")]
pub struct NoPayeeAddress(Box<str>);

impl PayeeAddress {
    /// Whether it is an address of this network.
    #[must_use]
    pub fn is_of(&self, network: NetworkKind) -> bool {
        self.address.is_valid_for_network(network.into())
    }

    #[must_use]
    pub fn script(&self) -> &[u8] {
        &self.script
    }

    #[must_use]
    pub fn into_script(self) -> Box<[u8]> {
        self.script
    }
}

impl FromStr for PayeeAddress {
    type Err = NoPayeeAddress;

    /// The address may be one of any Bitcoin network.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let no_address = || NoPayeeAddress(text.into());
        let address: Address<NetworkUnchecked> = text.parse().map_err(|_| no_address())?;
        let script = address.clone().assume_checked().script_pubkey();
        let standard =
            script.is_p2pkh() || script.is_p2sh() || script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr();
        if !standard {
            return Err(no_address());
        }
        Ok(Self {
            text: text.into(),
            address,
            script: script.as_bytes().into(),
        })
    }
}

impl fmt::Display for PayeeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
