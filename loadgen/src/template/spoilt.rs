//! Gateways whose templates are bad, or what they say of them, to see whether a pool finds that out.

use std::sync::Arc;

use clap::ValueEnum;
use millrace::work::TemplateTransaction;

use super::{BLOCK_WEIGHT, Template, branches, commitment};

/// What is wrong with a gateway's templates, or with its answers about them; all else is right, so that its shares count until
/// somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spoilt {
    /// One more transaction, which spends what was never there: only a node can tell
    Spend,
    /// Its coinbases commit to the witnesses of other transactions
    Commitment,
    /// One more transaction, with which it has more weight than a block may have, and says nothing of that
    Weight,
    /// Its last transaction is missing from what it answers
    Missing,
    /// It refuses to answer
    Refuse,
    /// The short ids that it answers are those of no transactions
    Ids,
}

impl Spoilt {
    /// Whether the pool must come to refuse the work. Wrong short ids are seen through, and its work counts.
    pub fn is_refused(self) -> bool {
        self != Self::Ids
    }
}

impl Template {
    /// The same, spoilt. It stays as it is where it is not the template that is bad, and where it is made up: then it has no
    /// transactions.
    #[must_use]
    pub fn spoilt(self: Arc<Self>, how: Spoilt) -> Arc<Self> {
        let more = match how {
            Spoilt::Spend => Some(spends_nothing(1)),
            Spoilt::Weight => Some(spends_nothing(BLOCK_WEIGHT / 4)),
            Spoilt::Commitment => None,
            Spoilt::Missing | Spoilt::Refuse | Spoilt::Ids => return self,
        };
        let Some(transactions) = self.transactions.as_deref() else {
            return self;
        };
        let raw = transactions.iter().map(|one| &*one.raw).chain(more.as_deref());
        let transactions: Box<[_]> = raw
            .map(|raw| TemplateTransaction::read(raw).expect("a transaction"))
            .collect();
        let said = match (how, &more) {
            (Spoilt::Spend, Some(more)) => u32::try_from(more.len()).expect("a short transaction"),
            _ => 0,
        };
        let wtxids: Vec<_> = transactions.iter().map(|one| one.wtxid).collect();
        let mut commitment = commitment(&wtxids);
        if how == Spoilt::Commitment {
            commitment[0] ^= 1;
        }
        Arc::new(Self {
            tx_count: u32::try_from(transactions.len()).expect("one more at most"),
            weight: self.weight + 4 * said,
            size: self.size + said,
            branches: branches(transactions.iter().map(|one| one.txid).collect()),
            commitment,
            transactions: Some(transactions),
            ..*self
        })
    }
}

/// One input that names no output of any chain, one output of nothing to anybody, with so many bytes of script.
fn spends_nothing(script_len: usize) -> Vec<u8> {
    let mut raw = vec![2, 0, 0, 0, 1];
    raw.extend([0x5e; 32]);
    raw.extend([0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend([0; 8]);
    raw.extend(bitcoin::consensus::serialize(&bitcoin::VarInt::from(script_len)));
    raw.resize(raw.len() + script_len, 0x51);
    raw.extend([0; 4]);
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one transaction.
    fn template() -> Arc<Template> {
        let one = TemplateTransaction::read(&spends_nothing(1)).expect("a transaction");
        Arc::new(Template {
            parent: [1; 32],
            height: 1,
            value: 0,
            nbits: 0x207f_ffff,
            min_time: 0,
            tx_count: 1,
            weight: 4 * 61,
            size: 61,
            sigops: 0,
            branches: branches(vec![one.txid]),
            commitment: commitment(&[one.wtxid]),
            transactions: Some([one].into()),
        })
    }

    #[test]
    fn what_is_spoilt_still_fits_together_but_for_that() {
        for how in [Spoilt::Spend, Spoilt::Weight] {
            let more = template().spoilt(how);
            let transactions = more.transactions.as_deref().expect("its transactions");
            assert_eq!((more.tx_count, transactions.len()), (2, 2));
            let wtxids: Vec<_> = transactions.iter().map(|one| one.wtxid).collect();
            assert_eq!(more.commitment, commitment(&wtxids));
            assert_eq!(
                more.branches,
                branches(transactions.iter().map(|one| one.txid).collect())
            );
        }
        let wrong = template().spoilt(Spoilt::Commitment);
        assert_eq!(wrong.branches, template().branches);
        assert_ne!(wrong.commitment, template().commitment);
    }

    #[test]
    fn one_that_is_too_large_says_that_it_is_not() {
        let large = template().spoilt(Spoilt::Weight);
        let transactions = large.transactions.as_deref().expect("its transactions");
        let weight: usize = transactions.iter().map(|one| 4 * one.raw.len()).sum();
        assert!(weight > BLOCK_WEIGHT);
        assert_eq!((large.weight, large.size), (template().weight, template().size));
    }

    #[test]
    fn what_is_wrong_with_answers_leaves_the_template_as_it_is() {
        for how in [Spoilt::Missing, Spoilt::Refuse, Spoilt::Ids] {
            let honest = template();
            assert!(Arc::ptr_eq(&honest.clone().spoilt(how), &honest));
        }
    }
}
