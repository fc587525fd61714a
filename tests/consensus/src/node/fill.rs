//! Transactions for the mempool, made of the node's own mature coins.

use bitcoin::{OutPoint, Txid};

use super::{Refusal, Regtest};
use crate::wallet::{Coin, Kind, PADDING_MAX};
use crate::{BLOCK_WEIGHT_MAX, MATURITY};

/// Outputs that one coin is spread over, to be spent one by one.
const SPREAD_MAX: usize = 5_000;

/// Weight of a transaction with a [`Kind::Padded`] input, but for the padding.
const UNPADDED_WEIGHT: u64 = 540;

/// Satoshi for each unit of virtual size.
const FEE_RATE: u64 = 2;

#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error("{needed} mature coins of the node's own are needed, there are {there}: start at a greater height")]
    Coins { needed: usize, there: usize },
    #[error("{count} transactions cannot weigh {weight}: each carries {PADDING_MAX} bytes of padding at most")]
    Weight { count: usize, weight: u64 },
    #[error("the mempool refuses what was made for it: {0:?}")]
    Refused(Refusal),
}

impl Regtest {
    /// Puts `count` transactions into the mempool: a few that spread a coin over many outputs, and those that spend
    /// these. With a weight, padding brings all together near it; it may be that of a whole block.
    ///
    /// # Errors
    /// There are too few coins, or the weight is out of reach.
    pub fn fill(&mut self, count: usize, weight: Option<u64>) -> Result<Vec<Txid>, FillError> {
        let mut coins = self.own_mature_coins();
        let spreads = count.div_ceil(SPREAD_MAX + 1);
        if coins.len() < spreads {
            return Err(FillError::Coins {
                needed: spreads,
                there: coins.len(),
            });
        }
        let mut txids = Vec::with_capacity(count);
        for turn in 0..spreads {
            // The rest, in equal parts.
            let here = (count - txids.len()) / (spreads - turn);
            let coin = coins.pop().expect("they were counted");
            let kinds = kinds(here - 1, weight.map(|weight| weight / spreads as u64))?;
            txids.extend(self.spread(&coin, &kinds)?);
        }
        Ok(txids)
    }

    /// One transaction that spreads a coin, and one for each of its outputs.
    fn spread(&mut self, coin: &Coin, kinds: &[Kind]) -> Result<Vec<Txid>, FillError> {
        let accept = |node: &mut Self, transaction: bitcoin::Transaction| {
            let txid = transaction.compute_txid();
            node.accept(transaction).map(|_| txid).map_err(FillError::Refused)
        };
        let usual = Kind::P2wpkh;
        let spread = match kinds {
            [] => self.wallet.spend(
                std::slice::from_ref(coin),
                vec![self.wallet.output(coin.value - 10_000, usual)],
            ),
            _ => {
                let each = (coin.value - 60 * FEE_RATE * (kinds.len() as u64 + 10)) / kinds.len() as u64;
                let outputs = kinds.iter().map(|kind| self.wallet.output(each, *kind)).collect();
                self.wallet.spend(std::slice::from_ref(coin), outputs)
            }
        };
        let values: Vec<_> = spread.output.iter().map(|output| output.value.to_sat()).collect();
        let txid = accept(self, spread)?;
        let mut txids = vec![txid];
        for ((vout, kind), value) in (0..).zip(kinds).zip(values) {
            let padding = match kind {
                Kind::Padded { bytes } => *bytes as u64 / 4,
                _ => 0,
            };
            let fee = (200 + padding) * FEE_RATE;
            let coin = Coin {
                outpoint: OutPoint { txid, vout },
                value,
                kind: *kind,
            };
            let output = self.wallet.output(value - fee, usual);
            let transaction = self.wallet.spend(&[coin], vec![output]);
            txids.push(accept(self, transaction)?);
        }
        Ok(txids)
    }

    /// Coinbases of the node's own that may be spent in the next block and that nobody spends yet, the oldest last.
    fn own_mature_coins(&self) -> Vec<Coin> {
        let (script, next) = (self.own_script(), self.index().height() + 1);
        let mut coins: Vec<_> = self
            .coins()
            .iter()
            .filter(|(outpoint, unspent)| {
                unspent.is_coinbase
                    && unspent.height + MATURITY <= next
                    && unspent.output.script_pubkey == script
                    && self.mempool().spender(outpoint).is_none()
            })
            .map(|(outpoint, unspent)| {
                let coin = Coin {
                    outpoint: *outpoint,
                    value: unspent.output.value.to_sat(),
                    kind: Kind::P2wpkh,
                };
                (unspent.height, coin)
            })
            .collect();
        coins.sort_by_key(|(height, _)| std::cmp::Reverse(*height));
        coins.into_iter().map(|(_, coin)| coin).collect()
    }
}

/// What the outputs of a spreading transaction are locked with.
fn kinds(count: usize, weight: Option<u64>) -> Result<Vec<Kind>, FillError> {
    let usual = |count| Kind::USUAL.into_iter().cycle().take(count).collect();
    let Some(weight) = weight.filter(|_| count > 0) else {
        return Ok(usual(count));
    };
    // Each P2WSH output of the spreading transaction weighs 4 x 43.
    let spreading = 600 + 172 * count as u64;
    let each = weight.saturating_sub(spreading) / count as u64;
    let Some(padded) = each.checked_sub(UNPADDED_WEIGHT) else {
        return Ok(usual(count));
    };
    // Each element has a length of 3 bytes before it, and half an operation that drops it.
    let bytes = usize::try_from(padded * 1_040 / 1_047).unwrap_or(usize::MAX);
    if bytes > PADDING_MAX || weight > BLOCK_WEIGHT_MAX {
        return Err(FillError::Weight { count, weight });
    }
    Ok(vec![Kind::Padded { bytes }; count])
}
