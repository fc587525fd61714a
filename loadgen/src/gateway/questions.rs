//! What a gateway answers when the pool asks for the transactions of a job (protocol section 7).

use millrace::wire::{
    CROSS_CHECK_START, INDEXES_MAX, Transactions, ValidationAnswer, ValidationAsk, ValidationError, short_id,
    short_id_key,
};
use millrace::work::TemplateTransaction;

use super::{Gateway, World, padding};
use crate::template::Spoilt;

impl Gateway {
    pub(super) fn answer_question(&mut self, ask: &ValidationAsk<'_>, world: &mut World, out: &mut Vec<u8>) {
        world.tally.questions += 1;
        let (kind, job) = match ask {
            ValidationAsk::ShortIds { job } => (0x90, *job),
            ValidationAsk::ByIndex { job, .. } => (0x91, *job),
            ValidationAsk::All { job } => (0x92, *job),
        };
        let template = self.slots.job(job).map(|job| job.template.clone());
        let transactions = match &template {
            None => Err(ValidationError::NoSuchJob),
            Some(template) => match template.transactions.as_deref() {
                // Made up: there are hashes alone.
                None => Err(ValidationError::NoTemplate),
                Some(_) if self.spoils == Some(Spoilt::Refuse) => Err(ValidationError::NoSuchJob),
                Some(transactions) if transactions.len() > INDEXES_MAX => Err(ValidationError::TooMany),
                Some([shown @ .., _]) if self.spoils == Some(Spoilt::Missing) => Ok(shown),
                Some(transactions) => Ok(transactions),
            },
        };
        let padding = padding(&mut world.rng);
        let error = |error| ValidationAnswer::Error {
            kind,
            job,
            error,
            padding,
        };
        let transactions = match transactions {
            Ok(transactions) => transactions,
            Err(why) => return self.line.send(&error(why), out),
        };
        match ask {
            ValidationAsk::ShortIds { .. } => {
                let key = short_id_key(&self.long_term.public().ed25519, &world.setup.pool.ed25519);
                let (mut ids, cross_check) = short_ids(&key, transactions);
                if self.spoils == Some(Spoilt::Ids) {
                    ids.iter_mut().flatten().for_each(|byte| *byte = !*byte);
                }
                let answer = ValidationAnswer::ShortIds {
                    job,
                    ids: &ids,
                    cross_check: (!ids.is_empty()).then_some(&cross_check),
                    padding,
                };
                self.line.send(&answer, out);
            }
            ValidationAsk::ByIndex { indexes, .. } => {
                let asked: Option<Vec<_>> = indexes.iter().map(|at| transactions.get(usize::from(at))).collect();
                let Some(asked) = asked else {
                    return self.line.send(&error(ValidationError::BadIndexOrCount), out);
                };
                let encoded = encoded(asked);
                let transactions = Transactions::new(&encoded).expect("encoded just now");
                let answer = ValidationAnswer::ByIndex {
                    job,
                    transactions,
                    padding,
                };
                self.line.send(&answer, out);
            }
            ValidationAsk::All { .. } => {
                let encoded = encoded(transactions);
                let transactions = Transactions::new(&encoded).expect("encoded just now");
                self.line.send(&ValidationAnswer::All { job, transactions }, out);
            }
        }
    }
}

/// Short ids in template order, and the sum over all wtxids.
fn short_ids(key: &[u8; 16], transactions: &[TemplateTransaction]) -> (Vec<[u8; 6]>, [u8; 32]) {
    let mut cross_check = CROSS_CHECK_START;
    let id = |transaction: &TemplateTransaction| {
        cross_check
            .iter_mut()
            .zip(transaction.wtxid)
            .for_each(|(sum, byte)| *sum ^= byte);
        let id = short_id(key, &transaction.wtxid).to_le_bytes();
        std::array::from_fn(|at| id[at])
    };
    (transactions.iter().map(id).collect(), cross_check)
}

fn encoded<'a>(transactions: impl IntoIterator<Item = &'a TemplateTransaction>) -> Vec<u8> {
    let mut encoded = Vec::new();
    for transaction in transactions {
        Transactions::push(&transaction.raw, &mut encoded);
    }
    encoded
}
