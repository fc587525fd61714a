//! Real spends for blocks to have.

use millrace_consensus::{Coin, Kind};

use super::chain::Chain;

/// Keeps a spend of every kind waiting, each with another size and fee.
pub struct Spender {
    coins: Vec<Coin>,
}

impl Spender {
    pub fn new(chain: &mut Chain) -> Self {
        Self {
            coins: chain.spread(&Kind::USUAL),
        }
    }

    pub fn spend_all(&mut self, chain: &Chain) {
        for (fee, coin) in (1_000..).step_by(37).zip(&mut self.coins) {
            let transaction = chain.spend(coin, coin.kind, fee);
            chain.send(&transaction);
            coin.outpoint.txid = transaction.compute_txid();
            coin.outpoint.vout = 0;
            coin.value -= fee;
        }
    }
}
