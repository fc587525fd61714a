//! A block as the chain has it, read for whether it is one of ours: its coinbase, and what leads from that to the header.

use bitcoin::Transaction;
use bitcoin::consensus::encode::{Decodable, VarInt, serialize};

use super::coinbase::{Coinbase, Form, Parser};
use super::sha256d;
use super::split::Split;
use super::template::merkle_branches;
use super::terms::Terms;
use crate::wire::{CoinbaseSection, EXTRANONCE_LEN, SUBSIDY_ONLY_ID};

/// Bytes of a block's header.
const HEADER_LEN: usize = 80;

/// The coinbase id of a class that may have payouts before the extranonce: a mined coinbase does not say its own.
const ANY_CLASS_ID: u8 = 2;

/// A block, as far as its coinbase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinedBlock {
    /// As hashed.
    pub hash: [u8; 32],
    pub header: [u8; HEADER_LEN],
    /// Without its witness.
    pub coinbase: Vec<u8>,
    /// Transactions beside the coinbase.
    pub tx_count: u32,
}

/// What the scriptSig of a coinbase says where it is as gateways make it (protocol section 5). Anybody can write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinbaseMark<'a> {
    /// What the push behind the height holds.
    tag: &'a [u8],
    pub target_pot: u8,
    /// The terms that it was made under.
    pub prime_id: u32,
}

/// A mined coinbase that is of the form of gateways from its first byte to its last.
pub struct FormedCoinbase {
    coinbase: Coinbase,
    form: Form,
}

impl MinedBlock {
    /// Reads a raw block up to its coinbase. None where it is none.
    #[must_use]
    pub fn read(raw: &[u8]) -> Option<Self> {
        let header = *raw.first_chunk::<HEADER_LEN>()?;
        let mut rest = &raw[HEADER_LEN..];
        let count = VarInt::consensus_decode(&mut rest).ok()?.0;
        let mut coinbase = Transaction::consensus_decode(&mut rest).ok()?;
        if !coinbase.is_coinbase() {
            return None;
        }
        coinbase.input[0].witness.clear();
        Some(Self {
            hash: sha256d::header(&header),
            header,
            coinbase: serialize(&coinbase),
            tx_count: u32::try_from(count.checked_sub(1)?).ok()?,
        })
    }

    /// From the coinbase up to the root in the header; takes a look at every transaction. None where `raw` is not the block,
    /// or not whole.
    #[must_use]
    pub fn branches(&self, raw: &[u8]) -> Option<Vec<[u8; 32]>> {
        let mut rest = raw.strip_prefix(&self.header)?;
        let count = VarInt::consensus_decode(&mut rest).ok()?.0;
        let mut txids = Vec::new();
        for _ in 0..count {
            let transaction = Transaction::consensus_decode(&mut rest).ok()?;
            txids.push(*transaction.compute_txid().as_ref());
        }
        let coinbase = *txids.first()?;
        let branches = merkle_branches(txids.split_off(1));
        let root = branches
            .iter()
            .fold(coinbase, |node, branch| sha256d::node(&node, branch));
        (rest.is_empty() && self.header[36..68] == root).then_some(branches)
    }

    /// The block that it builds on, as hashed.
    #[must_use]
    pub fn parent(&self) -> [u8; 32] {
        std::array::from_fn(|at| self.header[4 + at])
    }

    /// As its miner says, s since 1970.
    #[must_use]
    pub fn time_s(&self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|at| self.header[68 + at]))
    }
}

impl<'a> CoinbaseMark<'a> {
    /// None where the coinbase has no such scriptSig.
    #[must_use]
    pub fn of(coinbase: &'a [u8]) -> Option<Self> {
        let mut parser = Parser { bytes: coinbase, at: 0 };
        let start = parser.up_to_prime_push().ok()?;
        let (from, to) = start.tag;
        Some(Self {
            tag: &coinbase[from..to],
            target_pot: *coinbase.get(start.prime_push)?,
            prime_id: parser.prime_push().ok()?,
        })
    }

    /// Whether it names a pool by this tag. None is named by an empty one.
    #[must_use]
    pub fn has_tag(&self, tag: &[u8]) -> bool {
        !tag.is_empty() && super::coinbase::is_tagged(self.tag, tag)
    }
}

impl FormedCoinbase {
    /// `coinbase`: without its witness. None where it departs from the form.
    #[must_use]
    pub fn read(coinbase: &[u8]) -> Option<Self> {
        let mut parser = Parser { bytes: coinbase, at: 0 };
        let start = parser.up_to_prime_push().ok()?;
        let at = parser.extranonce(&start).ok()?;
        let extranonce = coinbase[at..].first_chunk::<EXTRANONCE_LEN>()?;
        let height = u32::try_from(start.height).ok()?;
        [ANY_CLASS_ID, SUBSIDY_ONLY_ID].into_iter().find_map(|coinbase_id| {
            let mut rebuilt = Coinbase::new(&CoinbaseSection {
                coinbase_id,
                coinb1: &coinbase[..at],
                coinb2: &coinbase[at + EXTRANONCE_LEN..],
            })
            .ok()?;
            rebuilt.hash(start.prime_push, coinbase[start.prime_push], false, extranonce);
            let form = rebuilt.prove(start.prime_push, height, coinbase_id).ok()?;
            Some(Self {
                coinbase: rebuilt,
                form,
            })
        })
    }

    /// Whether it is one that these terms ask for, whomever else it pays: reasons 28 and 27.
    #[must_use]
    pub fn keeps(&self, terms: &Terms) -> bool {
        self.form.prime_id == terms.prime_id
            && self.coinbase.has_tag(&self.form, &terms.tag)
            && self.coinbase.leaves_the_rest_to(&self.form, &terms.script)
    }

    /// Whether it pays anybody but whom a split leaves the rest to.
    #[must_use]
    pub fn has_payouts(&self) -> bool {
        self.form.has_payouts()
    }

    /// Satoshi of all outputs.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.form.value
    }

    /// Whether its payouts are a part of the split of `value` satoshi in its order, each with its exact value.
    #[must_use]
    pub fn pays_a_part_of(&self, split: &dyn Split, value: u64, with_balances: bool) -> bool {
        self.coinbase.pays_a_part_of(&self.form, split, value, with_balances)
    }
}
