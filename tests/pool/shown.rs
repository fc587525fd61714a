//! Templates with transactions, and what their gateway answers about them.

use bitcoin::VarInt;
use millrace::wire::{
    CROSS_CHECK_START, FromGateway, Transactions, ValidationAnswer, ValidationError, short_id, short_id_key,
};
use millrace::work::{Ask, TemplateTransaction, merkle_branches};

use super::Pool;
use super::gateway::Gateway;
use super::session::Session;
use super::work::{Job, Recipe, Template, commitment_over};

/// The transactions of a template as its gateway shows them.
pub struct Shown {
    transactions: Vec<TemplateTransaction>,
    /// Under which it makes short ids.
    key: [u8; 16],
    /// What it says to the contrary of what is right.
    pub lie: Lie,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    /// Short ids of nothing.
    Ids,
    /// The ids are right, and the cross-check is not.
    CrossCheck,
    /// It has no such job.
    NoJob,
    /// It has more transactions than it can name.
    TooMany,
    /// The last transaction is missing.
    Missing,
}

impl Shown {
    pub fn new(pool: &Pool, gateway: &Gateway, raw: &[Vec<u8>]) -> Self {
        Self {
            transactions: raw
                .iter()
                .map(|raw| TemplateTransaction::read(raw).expect("a transaction"))
                .collect(),
            key: short_id_key(&gateway.long_term.public().ed25519, &pool.key.ed25519),
            lie: Lie::None,
        }
    }

    /// What its coinbase has to commit to.
    pub fn commitment(&self) -> [u8; 32] {
        let wtxids: Vec<_> = self.transactions.iter().map(|transaction| transaction.wtxid).collect();
        commitment_over(&wtxids)
    }

    /// A template of them.
    pub fn template(&self, session: &Session, slot: u8, parent: u8) -> Template {
        let mut job = Job::new(slot, parent);
        job.tx_count = u32::try_from(self.transactions.len()).expect("few");
        job.branches = merkle_branches(self.transactions.iter().map(|transaction| transaction.txid).collect());
        let recipe = Recipe {
            commitment: Some(self.commitment()),
            ..session.recipe(&job)
        };
        Template::new(job, session.terms()).with(&recipe.build())
    }

    /// Waits for a question, and answers it; which one it was.
    pub fn answer_next(&self, session: &mut Session) -> Ask {
        let (job, ask) = session.question();
        self.answer(session, job, &ask);
        ask
    }

    pub fn answer(&self, session: &mut Session, job: u8, ask: &Ask) {
        let error = match self.lie {
            Lie::NoJob => Some(ValidationError::NoSuchJob),
            Lie::TooMany => Some(ValidationError::TooMany),
            _ => None,
        };
        if let Some(error) = error {
            let kind = match ask {
                Ask::ShortIds => 0x90,
                Ask::ByIndex(_) => 0x91,
                Ask::All => 0x92,
            };
            return session.send(&FromGateway::Validation(ValidationAnswer::Error {
                kind,
                job,
                error,
                padding: &[0xfe],
            }));
        }
        let shown = match self.lie {
            Lie::Missing => &self.transactions[..self.transactions.len() - 1],
            _ => &self.transactions,
        };
        let mut encoded = Vec::new();
        match ask {
            Ask::ShortIds => {
                let mut cross_check = CROSS_CHECK_START;
                let ids: Vec<[u8; 6]> = shown
                    .iter()
                    .map(|transaction| {
                        cross_check
                            .iter_mut()
                            .zip(transaction.wtxid)
                            .for_each(|(sum, byte)| *sum ^= byte);
                        let wtxid = match self.lie {
                            Lie::Ids => transaction.wtxid.map(|byte| !byte),
                            _ => transaction.wtxid,
                        };
                        let id = short_id(&self.key, &wtxid).to_le_bytes();
                        std::array::from_fn(|at| id[at])
                    })
                    .collect();
                if self.lie == Lie::CrossCheck {
                    cross_check[0] ^= 1;
                }
                session.send(&FromGateway::Validation(ValidationAnswer::ShortIds {
                    job,
                    ids: &ids,
                    cross_check: Some(&cross_check),
                    padding: &[0; 9],
                }));
            }
            Ask::ByIndex(indexes) => {
                for index in indexes {
                    Transactions::push(&shown[usize::from(*index)].raw, &mut encoded);
                }
                let transactions = Transactions::new(&encoded).expect("transactions");
                session.send(&FromGateway::Validation(ValidationAnswer::ByIndex {
                    job,
                    transactions,
                    padding: &[0; 9],
                }));
            }
            Ask::All => {
                shown
                    .iter()
                    .for_each(|transaction| Transactions::push(&transaction.raw, &mut encoded));
                let transactions = Transactions::new(&encoded).expect("transactions");
                session.send(&FromGateway::Validation(ValidationAnswer::All { job, transactions }));
            }
        }
    }
}

/// A transaction by its form: one input, one output of this value with so many bytes of script, and a witness.
pub fn transaction(value: u64, script_len: usize) -> Vec<u8> {
    let mut raw = vec![2, 0, 0, 0, 0, 1, 1];
    raw.extend_from_slice(&[7; 32]);
    raw.extend_from_slice(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend_from_slice(&value.to_le_bytes());
    raw.extend_from_slice(&bitcoin::consensus::serialize(&VarInt::from(script_len)));
    raw.resize(raw.len() + script_len, 0x6a);
    raw.extend_from_slice(&[1, 1, 0x55, 0, 0, 0, 0]);
    raw
}
