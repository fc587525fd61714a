//! Transactions that the pool has seen, within a budget of bytes: those of its nodes' mempools, and those that gateways
//! showed. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::body::TemplateBody;
use super::template::TemplateTransaction;
use crate::wire::short_id;

/// What a transaction takes beside its own bytes: two entries of tables, and what is kept with it.
const ENTRY_BYTES: usize = 256;

/// How much goes at once where the budget is used up, in parts of it: letting go is a walk over all.
const LET_GO: usize = 8;

/// Transactions of all the templates that are remembered: some 8 MB of pointers to them.
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
    /// None has a transaction that is not known.
    templates: Arc<KnownTemplates>,
}

/// Templates that are wholly known, for who has a block to make: no other work on what is known is waited for.
#[derive(Default)]
pub struct KnownTemplates(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// Oldest first.
    templates: VecDeque<Arc<TemplateBody>>,
    places: usize,
}

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
            templates: Arc::default(),
        }
    }

    /// The templates among them.
    #[must_use]
    pub fn templates(&self) -> &Arc<KnownTemplates> {
        &self.templates
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

    /// Remembers a template. One of whose transactions another has gone already is not worth it.
    pub fn learn_template(&mut self, template: Arc<TemplateBody>) {
        if self.has_all_of(&template) {
            self.templates.learn(template);
        }
    }

    fn has_all_of(&self, template: &TemplateBody) -> bool {
        let mut transactions = template.transactions().iter();
        transactions.all(|transaction| self.transactions.contains_key(&transaction.wtxid))
    }

    fn let_go(&mut self) {
        self.let_transactions_go();
        // What is gone must not stay in memory by a template, beyond the budget.
        for template in self.templates.all() {
            if !self.has_all_of(&template) {
                self.templates.forget(template.branches());
            }
        }
    }

    fn let_transactions_go(&mut self) {
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

impl KnownTemplates {
    /// The template behind these branches.
    #[must_use]
    pub fn find(&self, branches: &[[u8; 32]]) -> Option<Arc<TemplateBody>> {
        let shelf = self.shelf();
        shelf
            .templates
            .iter()
            .find(|known| known.branches() == branches)
            .cloned()
    }

    fn learn(&self, template: Arc<TemplateBody>) {
        let mut shelf = self.shelf();
        shelf.remove(template.branches());
        shelf.places += template.transactions().len();
        shelf.templates.push_back(template);
        while (shelf.places > PLACES_MAX || shelf.templates.len() > TEMPLATES_MAX)
            && let Some(oldest) = shelf.templates.pop_front()
        {
            shelf.places -= oldest.transactions().len();
        }
    }

    fn forget(&self, branches: &[[u8; 32]]) {
        self.shelf().remove(branches);
    }

    fn all(&self) -> Vec<Arc<TemplateBody>> {
        self.shelf().templates.iter().cloned().collect()
    }

    /// Held for microseconds at a time.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn remove(&mut self, branches: &[[u8; 32]]) {
        if let Some(at) = self.templates.iter().position(|known| known.branches() == branches)
            && let Some(former) = self.templates.remove(at)
        {
            self.places -= former.transactions().len();
        }
    }
}

fn bytes_of(transaction: &TemplateTransaction) -> usize {
    transaction.raw.len() + ENTRY_BYTES
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::sha256d;
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

    /// That of a block of this coinbase, with these branches to its root; else of zeros.
    pub fn header_over(coinbase: &[u8], branches: &[[u8; 32]]) -> [u8; 80] {
        let leaf = TemplateTransaction::read(coinbase).expect("a transaction").txid;
        let root = branches.iter().fold(leaf, |left, right| sha256d::node(&left, right));
        let mut header = [0; 80];
        header[36..68].copy_from_slice(&root);
        header
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

    #[test]
    fn a_template_is_known_for_as_long_as_its_transactions_are() {
        let size = bytes_of(&transaction(0, true));
        let template = |values: std::ops::Range<u64>| {
            let transactions = values.map(|value| transaction(value, true));
            Arc::new(TemplateBody::new(transactions.collect()))
        };
        let mut known = KnownTransactions::new(8 * size);
        let learn = |known: &mut KnownTransactions, template: &Arc<TemplateBody>| {
            known.begin_round();
            for transaction in template.transactions() {
                known.learn(transaction.clone());
            }
            known.learn_template(template.clone());
        };
        let (old, new) = (template(0..4), template(3..8));
        learn(&mut known, &old);
        learn(&mut known, &new);
        let templates = known.templates().clone();
        assert!(templates.find(old.branches()).is_some_and(|found| found == old));
        assert!(templates.find(new.branches()).is_some() && templates.find(&[[7; 32]]).is_none());
        // One more than there is room for: one of the older goes, and the template with it.
        known.begin_round();
        assert!(known.needs(&old.transactions()[3].txid));
        known.learn(transaction(8, true));
        assert!(templates.find(old.branches()).is_none() && templates.find(new.branches()).is_some());
        assert_eq!(Arc::strong_count(&old), 1, "nor does it keep what is gone in memory");
        known.learn_template(old.clone());
        assert!(
            templates.find(old.branches()).is_none(),
            "not all of it is known any more"
        );
        // Learnt again it takes one place, and of many the newest stay.
        for _ in 0..2 {
            known.learn_template(new.clone());
        }
        assert_eq!(templates.shelf().places, new.transactions().len());
    }
}
