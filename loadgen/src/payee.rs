//! Usernames as miners type them: an address of some network and type, and a worker behind a dot.

use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, PubkeyHash, ScriptBuf, ScriptHash, WPubkeyHash, WScriptHash};

use crate::sha256d;

/// Networks whose addresses a pool on the dev chain takes.
pub const ANY_NETWORK: &[Network] = &[Network::Bitcoin, Network::Testnet, Network::Regtest];

/// Who the miners of a run work for; the same in every run, so that runs do not fill a ledger with payees.
#[derive(Debug, Clone, Copy)]
pub enum Payees {
    /// One for all miners of a gateway.
    OfGateway,
    /// So many, dealt to all miners in turn. Where there are more payees than miners, each has several.
    Dealt { payees: usize, miners: usize },
}

impl Payees {
    /// The usernames of one miner, which is the `nth` of all, with addresses of these networks.
    pub fn usernames(self, gateway: usize, asic: u8, nth: usize, networks: &[Network]) -> Box<[Box<[u8]>]> {
        let username = |payee| username(payee, asic, networks);
        match self {
            Self::OfGateway => [username(gateway)].into(),
            Self::Dealt { payees, miners } if nth < payees => (nth..payees).step_by(miners).map(username).collect(),
            Self::Dealt { payees, .. } => [username(nth % payees)].into(),
        }
    }
}

fn username(payee: usize, asic: u8, networks: &[Network]) -> Box<[u8]> {
    let address = address(payee, networks);
    // Some miners have no worker.
    let name = if asic % 4 == 2 {
        address
    } else {
        format!("{address}.rig{asic}")
    };
    name.into_bytes().into()
}

/// Of all types and networks in turn.
fn address(payee: usize, networks: &[Network]) -> String {
    let digest = sha256d::hash(format!("payee {payee}").as_bytes());
    let twenty: [u8; 20] = std::array::from_fn(|at| digest[at]);
    let script = match payee % 4 {
        0 => ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(twenty)),
        1 => ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(twenty)),
        2 => ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(twenty)),
        _ => ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(digest)),
    };
    let network = networks[payee / 4 % networks.len()];
    Address::from_script(&script, network)
        .expect("standard scripts have an address")
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use millrace::work::NewMiner;

    fn miner(username: &[u8]) -> NewMiner {
        NewMiner::parse(username).expect("a good username")
    }

    #[test]
    fn payees_are_dealt_to_all_miners_and_each_has_its_turn() {
        for (payees, miners) in [(300, 8), (8, 8), (3, 8), (9, 8)] {
            let dealt = Payees::Dealt { payees, miners };
            let all: Vec<Vec<_>> = (0..miners)
                .map(|nth| {
                    let usernames = dealt.usernames(nth / 4, (nth % 4) as u8, nth, ANY_NETWORK);
                    usernames.iter().map(|username| miner(username).script).collect()
                })
                .collect();
            assert!(all.iter().all(|scripts| !scripts.is_empty()));
            let distinct: BTreeSet<_> = all.iter().flatten().collect();
            assert_eq!(distinct.len(), payees);
        }
    }

    #[test]
    fn every_username_has_a_payee_of_its_gateway() {
        for gateway in 0..24 {
            let miners: Vec<_> = (0..4)
                .map(|asic| miner(&Payees::OfGateway.usernames(gateway, asic, 0, ANY_NETWORK)[0]))
                .collect();
            assert!(miners.iter().all(|miner| miner.script == miners[0].script));
            assert_ne!(miners[0].worker, miners[1].worker);
        }
    }
}
