//! Transactions that the pool has seen, within a budget of bytes: those of its nodes' mempools, and those that gateways
//! showed. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::template::TemplateTransaction;
use crate::wire::short_id;

/// What a transaction takes beside its own bytes: two entries of tables, and what is kept with it.
const ENTRY_BYTES: usize = 256;

/// How much goes at once where the budget is used up, in parts of it: letting go is a walk over all.
const LET_GO: usize = 8;

/// Transactions of all the templates that are remembered: some 32 MB of their ids.
const PLACES_MAX: usize = 1 << 20;

/// Templates remembered: some minutes of those of a large pool that were checked.
const TEMPLATES_MAX: usize = 1_024;

/// Transactions by wtxid, and templates of them.
pub struct KnownTransactions {
    transactions: HashMap<[u8; 32], Entry>,
    wtxids: HashMap<[u8; 32], [u8; 32]>,
    bytes: usize,
    budget: usize,
    /// Counts up; what was needed last has the highest.
    round: u64,
    /// Templates by what their jobs commit to, as the wtxids of their transactions. Oldest first.
    templates: VecDeque<KnownTemplate>,
    places: usize,
}

/// A template by its branches, as the wtxids of its transactions.
type KnownTemplate = (Vec<[u8; 32]>, Vec<[u8; 32]>);

struct Entry {
    transaction: Arc<TemplateTransaction>,
    needed: u64,
}

impl KnownTransactions {
    /// `budget`: bytes that all of it may take.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            transactions: HashMap::new(),
            wtxids: HashMap::new(),
            bytes: 0,
            budget,
            round: 0,
            templates: VecDeque::new(),
            places: 0,
        }
    }

    /// What is needed from now on is newer than all before.
    pub fn begin_round(&mut self) {
        self.round += 1;
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Taken, all in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a transaction is known; it is needed again, where it is.
    pub fn needs(&mut self, txid: &[u8; 32]) -> bool {
        let entry = self.wtxids.get(txid).and_then(|wtxid| self.transactions.get_mut(wtxid));
        entry.map(|entry| entry.needed = self.round).is_some()
    }

    /// Remembers a transaction. What is needed least goes for it, where there is no room.
    pub fn learn(&mut self, transaction: Arc<TemplateTransaction>) {
        let needed = self.round;
        let (txid, wtxid) = (transaction.txid, transaction.wtxid);
        let bytes = bytes_of(&transaction);
        if self.transactions.insert(wtxid, Entry { transaction, needed }).is_none() {
            self.bytes += bytes;
            self.wtxids.insert(txid, wtxid);
        }
        if self.bytes > self.budget {
            self.let_go();
        }
    }

    /// By the positions that `wanted` gives to short ids, which are all different: what is known of each. Two that have the
    /// same id are none.
    pub fn find(&mut self, key: &[u8; 16], wanted: &HashMap<u64, usize>) -> Vec<Option<Arc<TemplateTransaction>>> {
        let places = wanted.values().max().map_or(0, |last| last + 1);
        let mut found: Vec<Option<Arc<TemplateTransaction>>> = vec![None; places];
        let mut twice = Vec::new();
        for (wtxid, entry) in &mut self.transactions {
            if let Some(at) = wanted.get(&short_id(key, wtxid)) {
                entry.needed = self.round;
                if found[*at].replace(entry.transaction.clone()).is_some() {
                    twice.push(*at);
                }
            }
        }
        twice.into_iter().for_each(|at| found[at] = None);
        found
    }

    /// Remembers which transactions, all of them known, are behind these branches.
    pub fn learn_template(&mut self, branches: Vec<[u8; 32]>, transactions: &[Arc<TemplateTransaction>]) {
        if let Some(at) = self.templates.iter().position(|(known, _)| *known == branches)
            && let Some((_, former)) = self.templates.remove(at)
        {
            self.places -= former.len();
        }
        let wtxids: Vec<_> = transactions.iter().map(|transaction| transaction.wtxid).collect();
        self.places += wtxids.len();
        self.templates.push_back((branches, wtxids));
        while (self.places > PLACES_MAX || self.templates.len() > TEMPLATES_MAX)
            && let Some((_, oldest)) = self.templates.pop_front()
        {
            self.places -= oldest.len();
        }
    }

    /// The transactions behind these branches, where all of them are still known.
    #[must_use]
    pub fn template(&self, branches: &[[u8; 32]]) -> Option<Vec<Arc<TemplateTransaction>>> {
        let (_, wtxids) = self.templates.iter().find(|(known, _)| known == branches)?;
        let transactions = wtxids.iter().map(|wtxid| self.transactions.get(wtxid));
        transactions
            .map(|entry| entry.map(|entry| entry.transaction.clone()))
            .collect()
    }

    fn let_go(&mut self) {
        let mut by_need: Vec<([u8; 32], u64)> = self
            .transactions
            .iter()
            .map(|(wtxid, entry)| (*wtxid, entry.needed))
            .collect();
        by_need.sort_unstable_by_key(|(_, needed)| *needed);
        for (wtxid, _) in by_need {
            if self.bytes <= self.budget - self.budget / LET_GO {
                return;
            }
            if let Some(entry) = self.transactions.remove(&wtxid) {
                self.bytes -= bytes_of(&entry.transaction);
                // Another of the same txid may be known by it.
                if self.wtxids.get(&entry.transaction.txid) == Some(&wtxid) {
                    self.wtxids.remove(&entry.transaction.txid);
                }
            }
        }
    }
}

fn bytes_of(transaction: &TemplateTransaction) -> usize {
    transaction.raw.len() + ENTRY_BYTES
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One with this output value and, where asked for, a witness.
    pub fn transaction(value: u64, witness: bool) -> Arc<TemplateTransaction> {
        let mut raw = vec![2, 0, 0, 0];
        if witness {
            raw.extend([0, 1]);
        }
        raw.push(1);
        raw.extend([7; 32]);
        raw.extend([0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
        raw.extend(value.to_le_bytes());
        raw.extend([1, 0x51]);
        if witness {
            raw.extend([1, 1, 0x55]);
        }
        raw.extend([0; 4]);
        Arc::new(TemplateTransaction::read(&raw).expect("a transaction"))
    }

    #[test]
    fn what_is_needed_least_goes_when_there_is_no_room() {
        let size = bytes_of(&transaction(0, true));
        let mut known = KnownTransactions::new(8 * size);
        for value in 0..8 {
            known.begin_round();
            known.learn(transaction(value, true));
        }
        known.begin_round();
        assert!(known.needs(&transaction(0, true).txid));
        assert!(!known.needs(&transaction(99, true).txid));
        known.learn(transaction(8, true));
        assert_eq!((known.len(), known.bytes()), (7, 7 * size));
        assert!(known.needs(&transaction(0, true).txid), "needed a moment ago");
        assert!(!known.needs(&transaction(1, true).txid) && !known.needs(&transaction(2, true).txid));
        // Learnt again it takes no more.
        known.learn(transaction(8, true));
        assert_eq!(known.bytes(), 7 * size);
    }

    #[test]
    fn transactions_are_found_by_the_short_ids_of_a_key() {
        let mut known = KnownTransactions::new(1 << 20);
        for value in 0..100 {
            known.learn(transaction(value, value % 2 == 0));
        }
        let key = [3; 16];
        let id = |value| short_id(&key, &transaction(value, value % 2 == 0).wtxid);
        let wanted = [(id(40), 0), (id(500), 1), (id(7), 2)].into();
        let found = known.find(&key, &wanted);
        let txids: Vec<_> = found
            .iter()
            .map(|found| found.as_ref().map(|found| found.txid))
            .collect();
        assert_eq!(
            txids,
            [Some(transaction(40, true).txid), None, Some(transaction(7, false).txid)]
        );
        assert!(known.find(&[4; 16], &wanted).iter().all(Option::is_none));
        assert!(known.find(&key, &HashMap::new()).is_empty());
    }
}
