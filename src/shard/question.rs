//! A question to a gateway about one of its jobs (protocol section 7), from asking to its outcome.
//!
//! At most one is open per gateway (see [`super::questions`]): its send buffer overflows, and the stream with it, on a few large
//! answers. An open question is also what allows a frame above the usual limit (see [`super::large`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::inbox::{Reply, Validate};
use super::large::Pieces;
use crate::wire::{
    ChannelKey, FromGateway, HEADER_LEN, INDEXES_MAX, Indexes, LARGE_MAX, MAC_LEN, Nonce, SHORT_IDS_ANSWER_MAX,
    Transactions, ValidationAnswer, ValidationAsk, ValidationError,
};
use crate::work::{Answer, Ask, Purpose, SLOTS, ValidateOutcome};

/// How long a gateway may take to answer, in ms: until all of a usual answer has come, or a large one begins.
pub const ANSWER_DEADLINE_MS: u64 = 30_000;

/// How long it may take until all of a large answer has come, in ms: a full block through half a megabit a second.
pub const LARGE_ANSWER_DEADLINE_MS: u64 = 60_000;

/// The answer to a question that was given up, as long as it may still come: [`super::questions`] says what is not asked meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwedAnswer {
    late_again_ms: u64,
}

impl OwedAnswer {
    /// From now on.
    pub fn new(now_ms: u64) -> Self {
        Self {
            late_again_ms: now_ms.saturating_add(LARGE_ANSWER_DEADLINE_MS),
        }
    }

    /// What another question comes to, which is not asked: one late answer is no sign that others would be. But who goes on to say
    /// nothing is late again for each time in which all of a large answer should have come.
    pub fn instead_of_asking(&mut self, now_ms: u64) -> ValidateOutcome {
        if now_ms < self.late_again_ms {
            return ValidateOutcome::Busy;
        }
        *self = Self::new(now_ms);
        ValidateOutcome::Late
    }
}

/// The job byte of an answer whose slot was out of range.
const NO_SLOT: u8 = 0xff;

/// A large answer as it came: to open one takes ms, which no shard has. Whoever asked does it, on a thread that may.
pub struct SealedAnswer {
    job: u8,
    ask: Ask,
    key: ChannelKey,
    nonce: Nonce,
    /// Header included.
    frame: Pieces,
    is_forged: Arc<AtomicBool>,
}

impl SealedAnswer {
    /// Opens it, and compares it with what was asked. Where it is not of the session its shard ends that.
    #[must_use]
    pub fn open(self) -> ValidateOutcome {
        let mut frame = self.frame.join();
        let payload = frame.get_mut(HEADER_LEN..).unwrap_or_default();
        if self.key.open(&self.nonce, payload).is_err() {
            self.is_forged.store(true, Ordering::Relaxed);
            return ValidateOutcome::Contradictory;
        }
        match FromGateway::decode(payload.get(MAC_LEN..).unwrap_or_default()) {
            Ok(FromGateway::Validation(answer)) => outcome(self.job, &self.ask, &answer),
            _ => ValidateOutcome::Contradictory,
        }
    }
}

impl std::fmt::Debug for SealedAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedAnswer")
            .field("bytes", &self.frame.len())
            .finish_non_exhaustive()
    }
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ids,
    /// Some or all of them.
    Transactions,
}

impl Kind {
    pub fn of_answer(answer: &ValidationAnswer<'_>) -> Self {
        match answer {
            ValidationAnswer::ShortIds { .. } => Self::Ids,
            ValidationAnswer::Error { kind, .. } if *kind == answer_kind(&Ask::ShortIds) => Self::Ids,
            ValidationAnswer::ByIndex { .. } | ValidationAnswer::All { .. } | ValidationAnswer::Error { .. } => {
                Self::Transactions
            }
        }
    }

    /// Bytes of such a frame behind its header: short ids never take what transactions may, of a budget that all share.
    pub fn payload_max(self) -> usize {
        match self {
            Self::Ids => MAC_LEN + SHORT_IDS_ANSWER_MAX,
            Self::Transactions => LARGE_MAX,
        }
    }
}

/// A question that was asked.
pub(super) struct Question {
    validate: Validate,
    asked_ms: u64,
    /// A large answer to it has begun.
    comes: bool,
}

impl Question {
    /// # Errors
    /// Gives the question back where no gateway bears it.
    pub fn new(validate: Validate, now_ms: u64) -> Result<Self, Validate> {
        if usize::from(validate.job) >= SLOTS || !is_askable(&validate.ask) {
            return Err(validate);
        }
        Ok(Self {
            validate,
            asked_ms: now_ms,
            comes: false,
        })
    }

    pub fn message(&self) -> ValidationAsk<'_> {
        let job = self.validate.job;
        match &self.validate.ask {
            Ask::ShortIds => ValidationAsk::ShortIds { job },
            Ask::ByIndex(indexes) => ValidationAsk::ByIndex {
                job,
                indexes: Indexes::Numbers(indexes),
            },
            Ask::All => ValidationAsk::All { job },
        }
    }

    pub fn kind(&self) -> Kind {
        match self.validate.ask {
            Ask::ShortIds => Kind::Ids,
            Ask::ByIndex(_) | Ask::All => Kind::Transactions,
        }
    }

    pub fn purpose(&self) -> Purpose {
        self.validate.purpose
    }

    /// A large answer to it begins, and may take longer.
    pub fn comes_large(&mut self) {
        self.comes = true;
    }

    /// When it is given up.
    pub fn until_ms(&self) -> u64 {
        let deadline_ms = match self.comes {
            true => LARGE_ANSWER_DEADLINE_MS,
            false => ANSWER_DEADLINE_MS,
        };
        self.asked_ms.saturating_add(deadline_ms)
    }

    /// Compares what came with what was asked and tells the asker.
    pub fn answered(self, answer: &ValidationAnswer<'_>) {
        let Validate { job, ask, .. } = &self.validate;
        reply(&self.validate, outcome(*job, ask, answer));
    }

    /// Hands a large answer on as it came. `is_forged` becomes true where it turns out not to be of the session.
    pub fn answered_sealed(self, key: ChannelKey, nonce: Nonce, frame: Pieces, is_forged: Arc<AtomicBool>) {
        let Validate { job, ask, reply, .. } = self.validate;
        reply.send(Reply::Sealed(Box::new(SealedAnswer {
            job,
            ask,
            key,
            nonce,
            frame,
            is_forged,
        })));
    }

    /// A large answer came, and there was no room for it.
    pub fn answered_in_vain(self) {
        reply(&self.validate, ValidateOutcome::NoRoom);
    }

    /// It is not asked, or no longer waited for.
    pub fn unanswered(self, why: ValidateOutcome) {
        reply(&self.validate, why);
    }
}

/// What came, against what was asked. Whether the transactions are those of the job is not for here: that takes the job's
/// branches.
fn outcome(asked: u8, ask: &Ask, answer: &ValidationAnswer<'_>) -> ValidateOutcome {
    let owned = |transactions: &Transactions<'_>| Answer::Transactions(transactions.encoded().to_vec());
    let answered = match (ask, answer) {
        (ask, ValidationAnswer::Error { kind, job, error, .. }) => {
            let of_slot = *job == asked || (*error == ValidationError::SlotOutOfRange && *job == NO_SLOT);
            return if *kind == answer_kind(ask) && of_slot {
                ValidateOutcome::Refused { error: *error as u8 }
            } else {
                ValidateOutcome::Contradictory
            };
        }
        (Ask::ShortIds, ValidationAnswer::ShortIds { ids, cross_check, .. }) => Answer::ShortIds {
            ids: ids.to_vec(),
            cross_check: cross_check.copied(),
        },
        (Ask::ByIndex(indexes), ValidationAnswer::ByIndex { transactions, .. })
            if transactions.len() == indexes.len() =>
        {
            owned(transactions)
        }
        (Ask::All, ValidationAnswer::All { transactions, .. }) => owned(transactions),
        _ => return ValidateOutcome::Contradictory,
    };
    if answer.job() != asked {
        return ValidateOutcome::Contradictory;
    }
    ValidateOutcome::Answered(answered)
}

/// Tells the asker.
pub(super) fn reply(validate: &Validate, outcome: ValidateOutcome) {
    validate.reply.send(Reply::Outcome(outcome));
}

/// The kind byte of an answer to the question, errors included.
fn answer_kind(ask: &Ask) -> u8 {
    match ask {
        Ask::ShortIds => 0x90,
        Ask::ByIndex(_) => 0x91,
        Ask::All => 0x92,
    }
}

/// An index that stands twice, or too many of them, can overflow a gateway's buffer.
fn is_askable(ask: &Ask) -> bool {
    let Ask::ByIndex(indexes) = ask else {
        return true;
    };
    let mut sorted = indexes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() == indexes.len() && (1..=INDEXES_MAX).contains(&indexes.len())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};

    use super::*;
    use crate::shard::inbox::ReplyTo;
    use crate::shard::large::{LARGE_PIECES_MAX, LargeAnswers, LargeFrame};
    use crate::wire::{Encode, FromGateway};

    fn validate(ask: Ask) -> (Validate, Receiver<Reply>) {
        let (reply, outcomes) = mpsc::channel();
        let validate = Validate {
            gateway: [7; 32],
            job: 3,
            ask,
            purpose: Purpose::Check,
            reply: ReplyTo::new(move |outcome| drop(reply.send(outcome))),
        };
        (validate, outcomes)
    }

    fn open(ask: Ask) -> (Question, Receiver<Reply>) {
        let (validate, outcomes) = validate(ask);
        (Question::new(validate, 1_000).expect("askable"), outcomes)
    }

    /// What the asker hears when these bytes come.
    fn hears(ask: Ask, plain: &[u8]) -> ValidateOutcome {
        let (question, outcomes) = open(ask);
        match FromGateway::decode(plain) {
            Ok(FromGateway::Validation(answer)) => question.answered(&answer),
            other => panic!("no answer: {other:?}"),
        }
        outcomes.try_recv().expect("one outcome").open()
    }

    fn encoded(answer: &ValidationAnswer<'_>) -> Vec<u8> {
        let mut plain = Vec::new();
        answer.encode(&mut plain);
        plain
    }

    fn transactions(raw: &[&[u8]]) -> ValidateOutcome {
        let mut encoded = Vec::new();
        raw.iter().for_each(|raw| Transactions::push(raw, &mut encoded));
        ValidateOutcome::Answered(Answer::Transactions(encoded))
    }

    #[test]
    fn an_answer_of_the_kind_and_slot_asked_is_one() {
        let ids = encoded(&ValidationAnswer::ShortIds {
            job: 3,
            ids: &[[1; 6], [2; 6]],
            cross_check: Some(&[9; 32]),
            padding: &[0],
        });
        let owned = Answer::ShortIds {
            ids: vec![[1; 6], [2; 6]],
            cross_check: Some([9; 32]),
        };
        assert_eq!(hears(Ask::ShortIds, &ids), ValidateOutcome::Answered(owned));
        assert_eq!(hears(Ask::All, &ids), ValidateOutcome::Contradictory);

        let by_index = [0x50, 0x91, 3, 1, 2, 0, 1, 0, 0, 0xaa, 1, 0, 0, 0xbb, 0xfe, 0];
        assert_eq!(
            hears(Ask::ByIndex(vec![4, 1]), &by_index),
            transactions(&[&[0xaa], &[0xbb]])
        );
        assert_eq!(hears(Ask::ByIndex(vec![4]), &by_index), ValidateOutcome::Contradictory);
        assert_eq!(hears(Ask::ShortIds, &by_index), ValidateOutcome::Contradictory);

        let all = [0x50, 0x92, 3, 1, 1, 0, 1, 0, 0, 0xaa, 0xfe];
        assert_eq!(hears(Ask::All, &all), transactions(&[&[0xaa]]));
        let other_slot = [0x50, 0x92, 4, 1, 1, 0, 1, 0, 0, 0xaa, 0xfe];
        assert_eq!(hears(Ask::All, &other_slot), ValidateOutcome::Contradictory);
    }

    #[test]
    fn an_error_is_told_where_it_is_of_this_question() {
        assert_eq!(
            hears(Ask::All, &[0x50, 0x92, 3, 0xf0]),
            ValidateOutcome::Refused { error: 0xf0 }
        );
        assert_eq!(
            hears(Ask::All, &[0x50, 0x92, 0xff, 0xf3]),
            ValidateOutcome::Refused { error: 0xf3 }
        );
        assert_eq!(
            hears(Ask::All, &[0x50, 0x92, 0xff, 0xf0]),
            ValidateOutcome::Contradictory
        );
        assert_eq!(hears(Ask::All, &[0x50, 0x91, 3, 0xf0]), ValidateOutcome::Contradictory);
        assert_eq!(
            hears(Ask::ShortIds, &[0x50, 0x90, 3, 0xf1]),
            ValidateOutcome::Refused { error: 0xf1 }
        );
    }

    #[test]
    fn an_answer_may_be_as_long_as_what_was_asked_for() {
        let (most, _) = open(Ask::ShortIds);
        let ids = vec![[7; 6]; INDEXES_MAX];
        let longest = encoded(&ValidationAnswer::ShortIds {
            job: 3,
            ids: &ids,
            cross_check: Some(&[9; 32]),
            padding: &[0; 80],
        });
        assert!(longest.len() + MAC_LEN <= most.kind().payload_max());
        assert!(most.kind().payload_max() < 100_000);
        for ask in [Ask::All, Ask::ByIndex(vec![1])] {
            assert_eq!(open(ask).0.kind().payload_max(), LARGE_MAX);
        }
    }

    #[test]
    fn what_no_gateway_bears_is_not_asked() {
        let refused = |ask| {
            let (validate, _outcomes) = validate(ask);
            Question::new(validate, 0).is_err()
        };
        assert!(refused(Ask::ByIndex(vec![5, 6, 5])));
        assert!(refused(Ask::ByIndex(Vec::new())));
        let many = |count: usize| Ask::ByIndex((0..count).map(|index| u16::try_from(index).expect("fits")).collect());
        assert!(refused(many(INDEXES_MAX + 1)));
        assert!(!refused(many(INDEXES_MAX)));
        assert!(!refused(Ask::All));
        let (mut validate, _outcomes) = validate(Ask::All);
        validate.job = 8;
        assert!(Question::new(validate, 0).is_err());
    }

    #[test]
    fn a_question_is_late_after_its_deadline_and_says_so() {
        let (mut question, outcomes) = open(Ask::All);
        assert_eq!(question.until_ms(), 1_000 + ANSWER_DEADLINE_MS);
        question.comes_large();
        assert_eq!(question.until_ms(), 1_000 + LARGE_ANSWER_DEADLINE_MS);
        question.unanswered(ValidateOutcome::Late);
        assert_eq!(outcomes.try_recv().expect("one").open(), ValidateOutcome::Late);
        let (question, outcomes) = open(Ask::All);
        question.unanswered(ValidateOutcome::SessionEnded);
        assert_eq!(outcomes.try_recv().expect("one").open(), ValidateOutcome::SessionEnded);
    }

    #[test]
    fn a_large_answer_is_opened_by_who_asked() {
        let key = ChannelKey::from_bytes([4; 32]);
        let nonce = Nonce::gateway_to_pool(1, &[2; 32]);
        let all = [0x50, 0x92, 3, 1, 1, 0, 1, 0, 0, 0xaa, 0xfe];
        let mut frame = [&[0; HEADER_LEN + MAC_LEN][..], &all].concat();
        key.seal(&nonce, &mut frame[HEADER_LEN..]);
        let budget = LargeAnswers::default();
        for (bit, expected) in [(0, transactions(&[&[0xaa]])), (1, ValidateOutcome::Contradictory)] {
            frame[HEADER_LEN] ^= bit;
            let (question, outcomes) = open(Ask::All);
            let is_forged = Arc::new(AtomicBool::new(false));
            let pieces = LargeFrame::begin(frame.len(), &frame, Some(Purpose::Check), &budget).whole();
            question.answered_sealed(key.clone(), nonce.clone(), pieces.expect("room"), is_forged.clone());
            assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX - 1);
            assert_eq!(outcomes.try_recv().expect("one").open(), expected);
            assert_eq!(is_forged.load(Ordering::Relaxed), bit == 1);
            assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX);
        }
        let (question, outcomes) = open(Ask::All);
        question.answered_in_vain();
        assert_eq!(outcomes.try_recv().expect("one").open(), ValidateOutcome::NoRoom);
    }

    #[test]
    fn a_late_answer_is_one_however_much_is_to_be_asked_and_silence_is_late_again_in_time() {
        let mut owed = OwedAnswer::new(1_000);
        let again_ms = 1_000 + LARGE_ANSWER_DEADLINE_MS;
        for now_ms in [1_000, 1_001, again_ms - 1] {
            assert_eq!(owed.instead_of_asking(now_ms), ValidateOutcome::Busy);
        }
        assert_eq!(owed.instead_of_asking(again_ms), ValidateOutcome::Late);
        assert_eq!(owed.instead_of_asking(again_ms), ValidateOutcome::Busy);
        // However long nobody asked, it is once more alone.
        assert_eq!(owed.instead_of_asking(10 * again_ms), ValidateOutcome::Late);
        assert_eq!(owed.instead_of_asking(10 * again_ms + 1), ValidateOutcome::Busy);
    }
}
