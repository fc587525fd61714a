//! Usernames as miners type them: an address of some network and type, and a worker behind a dot.

use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, PubkeyHash, ScriptBuf, ScriptHash, WPubkeyHash, WScriptHash};

use crate::sha256d;

/// The username of one miner; the same in every run, so that runs do not fill a ledger with payees.
pub fn username(gateway: usize, asic: u8) -> Box<[u8]> {
    let address = address(gateway);
    // Some miners have no worker.
    let name = if asic % 4 == 2 {
        address
    } else {
        format!("{address}.rig{asic}")
    };
    name.into_bytes().into()
}

/// One payee a gateway, of all types and networks in turn.
fn address(gateway: usize) -> String {
    let digest = sha256d::hash(format!("payee {gateway}").as_bytes());
    let twenty: [u8; 20] = std::array::from_fn(|at| digest[at]);
    let script = match gateway % 4 {
        0 => ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(twenty)),
        1 => ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(twenty)),
        2 => ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(twenty)),
        _ => ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(digest)),
    };
    let network = [Network::Bitcoin, Network::Testnet, Network::Regtest][gateway / 4 % 3];
    Address::from_script(&script, network)
        .expect("standard scripts have an address")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace::work::NewMiner;

    #[test]
    fn every_username_has_a_payee_of_its_gateway() {
        for gateway in 0..24 {
            let miners: Vec<_> = (0..4)
                .map(|asic| NewMiner::parse(&username(gateway, asic)).expect("a good username"))
                .collect();
            assert!(miners.iter().all(|miner| miner.script == miners[0].script));
            assert_ne!(miners[0].worker, miners[1].worker);
        }
    }
}
