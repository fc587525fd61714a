//! Templates of which no block can come, to see whether a pool finds that out.

use clap::ValueEnum;
use millrace::work::TemplateTransaction;

use super::{Template, branches, commitment};

/// What is wrong with a template; all else of it is right, so that its shares count until somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spoilt {
    /// One more transaction, which spends what was never there: only a node can tell
    Spend,
    /// Its coinbases commit to the witnesses of other transactions
    Commitment,
}

impl Template {
    /// The same, spoilt. One that is made up has no transactions, and stays as it is.
    #[must_use]
    pub fn spoilt(mut self, how: Spoilt) -> Self {
        let Some(transactions) = self.transactions.take() else {
            return self;
        };
        let mut transactions = transactions.into_vec();
        if how == Spoilt::Spend {
            let raw = spends_nothing();
            self.size += u32::try_from(raw.len()).expect("a short transaction");
            self.weight += 4 * u32::try_from(raw.len()).expect("a short transaction");
            self.tx_count += 1;
            transactions.push(TemplateTransaction::read(&raw).expect("a transaction"));
        }
        self.branches = branches(transactions.iter().map(|one| one.txid).collect());
        self.commitment = commitment(&transactions.iter().map(|one| one.wtxid).collect::<Vec<_>>());
        if how == Spoilt::Commitment {
            self.commitment[0] ^= 1;
        }
        self.transactions = Some(transactions.into());
        self
    }
}

/// One input that names no output of any chain, one output of nothing to anybody.
fn spends_nothing() -> Vec<u8> {
    let mut raw = vec![2, 0, 0, 0, 1];
    raw.extend([0x5e; 32]);
    raw.extend([0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend([0; 8]);
    raw.extend([1, 0x51]);
    raw.extend([0; 4]);
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one transaction.
    fn template() -> Template {
        let one = TemplateTransaction::read(&spends_nothing()).expect("a transaction");
        Template {
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
        }
    }

    #[test]
    fn what_is_spoilt_still_fits_together_but_for_that() {
        let spend = template().spoilt(Spoilt::Spend);
        let transactions = spend.transactions.as_deref().expect("its transactions");
        assert_eq!((spend.tx_count, transactions.len()), (2, 2));
        let wtxids: Vec<_> = transactions.iter().map(|one| one.wtxid).collect();
        assert_eq!(spend.commitment, commitment(&wtxids));
        assert_eq!(
            spend.branches,
            branches(transactions.iter().map(|one| one.txid).collect())
        );
        let wrong = template().spoilt(Spoilt::Commitment);
        assert_eq!(wrong.branches, template().branches);
        assert_ne!(wrong.commitment, template().commitment);
    }
}
