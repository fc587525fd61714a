//! The questions of one session to its gateway (protocol section 7): the one that is open, and those that were given up and whose
//! answers may still come.
//!
//! A gateway answers in the order that it was asked in. One answer with transactions at a time may be under way: two of them can
//! overflow its buffer. Short ids are 98 kB at most, so a block of ours does not wait for those that a check has asked for: what it
//! needs is asked for behind them, and the check asks again. Behind transactions it waits, and that question is not given up early
//! for it: it cannot be taken back, so its answer fills the gateway's buffer all the same. An honest one comes within a minute; where
//! none comes, nothing more is asked of the session, and the gateway's block is the one that is not heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::inbox::Validate;
use super::large::Pieces;
use super::question::{self, Kind, OwedAnswer, Question};
use crate::wire::{ChannelKey, HEADER_LEN, MINING_MAX, Nonce, ValidationAnswer, ValidationAsk};
use crate::work::{Purpose, ValidateOutcome};

#[derive(Default)]
pub(super) struct Questions {
    open: Option<Question>,
    owed: Owed,
    /// Whose answer the frame is that is too long for the shard's buffer, while it arrives.
    arriving: Option<Arriving>,
    /// Set by who opens a large answer, where it is not of this session; none before there was one.
    is_forged: Option<Arc<AtomicBool>>,
}

/// Answers that may still come to questions that were given up; of each kind there is one at most.
///
/// Nothing that is large is asked while transactions are owed, nor short ids while those are. So an answer of a kind that is owed is
/// the one that is owed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owed {
    ids: Option<OwedAnswer>,
    transactions: Option<OwedAnswer>,
}

impl Owed {
    /// What keeps a question of this purpose from being asked.
    fn stands_before(&mut self, purpose: Purpose) -> Option<&mut OwedAnswer> {
        let ids = self.ids.as_mut().filter(|_| purpose == Purpose::Check);
        self.transactions.as_mut().or(ids)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arriving {
    Awaited,
    Owed(Kind),
}

/// What a frame was that was too long for the shard's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LargeCame {
    Answer,
    /// An answer for which there was no room.
    InVain,
    /// Nobody waited for it any more.
    Unasked,
}

impl Questions {
    /// Takes a question, to be said at once where this gives it; else who asked has heard why not.
    pub fn ask(&mut self, validate: Validate, now_ms: u64) -> Option<ValidationAsk<'_>> {
        let purpose = validate.purpose;
        let question = match Question::new(validate, now_ms) {
            Ok(question) => question,
            Err(validate) => {
                question::reply(&validate, ValidateOutcome::Unaskable);
                return None;
            }
        };
        let gives_way = |open: &mut Question| purpose == Purpose::Block && open.kind() == Kind::Ids;
        if let Some(given_up) = self.open.take_if(gives_way) {
            self.owe(given_up.kind(), now_ms);
            given_up.unanswered(ValidateOutcome::Busy);
        }
        if self.open.is_some() {
            question.unanswered(ValidateOutcome::Busy);
            return None;
        }
        if let Some(owed) = self.owed.stands_before(purpose) {
            question.unanswered(owed.instead_of_asking(now_ms));
            return None;
        }
        Some(self.open.insert(question).message())
    }

    /// Until when the open one may be answered, ms of the shard's clock.
    pub fn until_ms(&self) -> Option<u64> {
        self.open.as_ref().map(Question::until_ms)
    }

    /// Bytes of a frame behind its header, as long as something is to be answered.
    pub fn payload_max(&self) -> usize {
        let owed = &self.owed;
        let longest = match &self.open {
            Some(open) => open.kind(),
            None if owed.transactions.is_some() => Kind::Transactions,
            None if owed.ids.is_some() => Kind::Ids,
            None => return MINING_MAX,
        };
        longest.payload_max()
    }

    /// Compares an answer with what was asked and tells who did. False: nobody waits for it.
    pub fn hear(&mut self, answer: &ValidationAnswer<'_>) -> bool {
        let kind = Kind::of_answer(answer);
        if kind == Kind::Ids && self.owed.ids.take().is_some() {
            return false;
        }
        let open = self.open.take();
        if open.is_some() || kind == Kind::Transactions {
            // What stood before it in the order has come, or never will.
            self.owed = Owed::default();
        }
        let is_awaited = open.is_some();
        if let Some(open) = open {
            open.answered(answer);
        }
        is_awaited
    }

    /// A frame of `len` bytes, header included, begins that is too long for the shard's buffer. What for it is kept; where it is for
    /// nobody, not at all. Which answer it is only who opens it can tell, so it is by the order, and by its length.
    pub fn large_begins(&mut self, len: usize) -> Option<Purpose> {
        let may_be_ids = len <= HEADER_LEN + Kind::Ids.payload_max();
        let arriving = match &mut self.open {
            _ if self.owed.ids.is_some() && may_be_ids => Arriving::Owed(Kind::Ids),
            Some(open) => {
                open.comes_large();
                Arriving::Awaited
            }
            None => Arriving::Owed(Kind::Transactions),
        };
        self.arriving = Some(arriving);
        let awaited = self.open.as_ref().filter(|_| arriving == Arriving::Awaited);
        awaited.map(Question::purpose)
    }

    /// Whether somebody waits for the large frame that arrives.
    pub fn awaits_large(&self) -> bool {
        self.arriving == Some(Arriving::Awaited)
    }

    /// All of that has come. `frame`: as far as it was kept.
    pub fn hear_large(&mut self, frame: Option<Pieces>, key: &ChannelKey, nonce: Nonce) -> LargeCame {
        let is_awaited = self.awaits_large();
        match self.arriving.take() {
            Some(Arriving::Owed(Kind::Ids)) => self.owed.ids = None,
            _ => self.owed = Owed::default(),
        }
        match (self.open.take_if(|_| is_awaited), frame) {
            (Some(open), Some(frame)) => {
                let is_forged = self.is_forged.get_or_insert_default().clone();
                open.answered_sealed(key.clone(), nonce, frame, is_forged);
                LargeCame::Answer
            }
            (Some(open), None) => {
                open.answered_in_vain();
                LargeCame::InVain
            }
            (None, _) => LargeCame::Unasked,
        }
    }

    /// Whether a large answer was found not to be of the session.
    pub fn is_forged(&self) -> bool {
        self.is_forged
            .as_ref()
            .is_some_and(|forged| forged.load(Ordering::Relaxed))
    }

    /// Gives the open one up where its time is over.
    pub fn give_up_late(&mut self, now_ms: u64) {
        if let Some(late) = self.open.take_if(|open| now_ms >= open.until_ms()) {
            self.owe(late.kind(), now_ms);
            late.unanswered(ValidateOutcome::Late);
        }
    }

    pub fn session_ended(&mut self) {
        if let Some(open) = self.open.take() {
            open.unanswered(ValidateOutcome::SessionEnded);
        }
    }

    /// Nobody waits for this answer any more.
    fn owe(&mut self, kind: Kind, now_ms: u64) {
        let owed = Some(OwedAnswer::new(now_ms));
        match kind {
            Kind::Ids => self.owed.ids = owed,
            Kind::Transactions => self.owed.transactions = owed,
        }
        if self.arriving == Some(Arriving::Awaited) {
            self.arriving = Some(Arriving::Owed(kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};

    use super::*;
    use crate::shard::inbox::{Reply, ReplyTo};
    use crate::shard::large::{LargeAnswers, LargeFrame};
    use crate::shard::question::{ANSWER_DEADLINE_MS, LARGE_ANSWER_DEADLINE_MS};
    use crate::wire::{FromGateway, LARGE_MAX};
    use crate::work::{Answer, Ask};

    const IDS: [u8; 21] = [0x50, 0x90, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const ALL: [u8; 11] = [0x50, 0x92, 3, 1, 1, 0, 1, 0, 0, 0xaa, 0xfe];

    /// A session's questions, on slot 3.
    #[derive(Default)]
    struct World(Questions);

    impl World {
        /// Whether it is said, and who hears what comes of it.
        fn ask(&mut self, ask: Ask, purpose: Purpose, now_ms: u64) -> (bool, Receiver<Reply>) {
            let (reply, outcomes) = mpsc::channel();
            let validate = Validate {
                gateway: [7; 32],
                job: 3,
                ask,
                purpose,
                reply: ReplyTo::new(move |outcome| drop(reply.send(outcome))),
            };
            (self.0.ask(validate, now_ms).is_some(), outcomes)
        }

        fn asked(&mut self, ask: Ask, purpose: Purpose, now_ms: u64) -> Receiver<Reply> {
            let (is_said, outcomes) = self.ask(ask, purpose, now_ms);
            assert!(is_said);
            outcomes
        }

        fn refused(&mut self, ask: Ask, purpose: Purpose) -> ValidateOutcome {
            let (is_said, outcomes) = self.ask(ask, purpose, 0);
            assert!(!is_said);
            heard(&outcomes)
        }

        fn hear(&mut self, plain: &[u8]) -> bool {
            match FromGateway::decode(plain) {
                Ok(FromGateway::Validation(answer)) => self.0.hear(&answer),
                other => panic!("no answer: {other:?}"),
            }
        }

        /// A large frame comes as a whole. What for it is kept, and what it was.
        fn hear_large(&mut self, len: usize) -> (Option<Purpose>, LargeCame) {
            let awaited = self.0.large_begins(len);
            (awaited, self.end_large(len, awaited))
        }

        fn end_large(&mut self, len: usize, awaited: Option<Purpose>) -> LargeCame {
            let frame = LargeFrame::begin(len, &vec![0; len], awaited, &LargeAnswers::default());
            let nonce = Nonce::gateway_to_pool(1, &[2; 32]);
            self.0
                .hear_large(frame.whole(), &ChannelKey::from_bytes([4; 32]), nonce)
        }
    }

    fn heard(outcomes: &Receiver<Reply>) -> ValidateOutcome {
        outcomes.try_recv().expect("one outcome").open()
    }

    fn is_open(outcomes: &Receiver<Reply>) -> bool {
        outcomes.try_recv().is_err()
    }

    fn one_transaction() -> ValidateOutcome {
        ValidateOutcome::Answered(Answer::Transactions(vec![1, 0, 0, 0xaa]))
    }

    #[test]
    fn a_block_does_not_wait_for_the_short_ids_of_a_check() {
        let mut world = World::default();
        let check = world.asked(Ask::ShortIds, Purpose::Check, 0);
        let block = world.asked(Ask::All, Purpose::Block, 29_000);
        assert_eq!(heard(&check), ValidateOutcome::Busy);
        // It has a time of its own.
        assert_eq!(world.0.until_ms(), Some(29_000 + ANSWER_DEADLINE_MS));
        assert_eq!(world.0.payload_max(), LARGE_MAX);
        // That the check is not answered is no fault of the gateway's.
        assert_eq!(world.refused(Ask::ShortIds, Purpose::Check), ValidateOutcome::Busy);
        assert_eq!(world.refused(Ask::All, Purpose::Block), ValidateOutcome::Busy);
        // They come in the order that they were asked for.
        assert!(!world.hear(&IDS) && is_open(&block));
        assert_eq!(world.refused(Ask::ShortIds, Purpose::Check), ValidateOutcome::Busy);
        assert!(world.hear(&ALL));
        assert_eq!(heard(&block), one_transaction());
        world.asked(Ask::ShortIds, Purpose::Check, 0);
    }

    #[test]
    fn ids_that_a_gateway_refuses_or_leaves_out_are_not_taken_for_the_block() {
        let refusal = [0x50, 0x90, 3, 0xf0];
        for first in [Some(&refusal[..]), None] {
            let mut world = World::default();
            world.asked(Ask::ShortIds, Purpose::Check, 0);
            let block = world.asked(Ask::All, Purpose::Block, 0);
            if let Some(first) = first {
                assert!(!world.hear(first));
            }
            assert!(world.hear(&ALL));
            assert_eq!(heard(&block), one_transaction());
            assert_eq!(world.0.owed, Owed::default(), "what stood before it never comes");
        }
    }

    #[test]
    fn large_answers_are_told_apart_by_their_order_and_length() {
        let (of_ids, of_all) = (50_000, 200_000);
        let mut world = World::default();
        world.asked(Ask::ShortIds, Purpose::Check, 0);
        let block = world.asked(Ask::All, Purpose::Block, 0);
        assert_eq!(world.hear_large(of_ids), (None, LargeCame::Unasked));
        assert_eq!(world.0.until_ms(), Some(ANSWER_DEADLINE_MS), "nothing of it has begun");
        // Of the same length, it is behind them.
        assert_eq!(world.hear_large(of_ids), (Some(Purpose::Block), LargeCame::Answer));
        assert!(!is_open(&block));
        // One that is too long for ids is none.
        world.asked(Ask::ShortIds, Purpose::Check, 0);
        let block = world.asked(Ask::All, Purpose::Block, 0);
        assert_eq!(world.hear_large(of_all), (Some(Purpose::Block), LargeCame::Answer));
        assert!(!is_open(&block));
        let check = world.asked(Ask::ShortIds, Purpose::Check, 0);
        assert_eq!(world.hear_large(of_ids), (Some(Purpose::Check), LargeCame::Answer));
        assert!(!is_open(&check));
    }

    #[test]
    fn ids_that_have_begun_to_come_are_let_go_for_a_block() {
        let mut world = World::default();
        let check = world.asked(Ask::ShortIds, Purpose::Check, 0);
        let awaited = world.0.large_begins(50_000);
        assert!(awaited == Some(Purpose::Check) && world.0.awaits_large());
        let block = world.asked(Ask::All, Purpose::Block, 0);
        assert_eq!(heard(&check), ValidateOutcome::Busy);
        assert!(!world.0.awaits_large());
        assert_eq!(world.end_large(50_000, awaited), LargeCame::Unasked);
        assert_eq!(world.hear_large(40_000), (Some(Purpose::Block), LargeCame::Answer));
        assert!(!is_open(&block));
    }

    #[test]
    fn one_large_answer_at_a_time_is_under_way() {
        for (ask, purpose) in [
            (Ask::All, Purpose::Check),
            (Ask::ByIndex(vec![1]), Purpose::Check),
            (Ask::All, Purpose::Block),
        ] {
            let mut world = World::default();
            let first = world.asked(ask, purpose, 0);
            assert_eq!(world.refused(Ask::All, Purpose::Block), ValidateOutcome::Busy);
            assert_eq!(world.refused(Ask::ShortIds, Purpose::Check), ValidateOutcome::Busy);
            world.0.give_up_late(ANSWER_DEADLINE_MS - 1);
            assert!(is_open(&first));
            world.0.give_up_late(ANSWER_DEADLINE_MS);
            assert_eq!(heard(&first), ValidateOutcome::Late);
            assert_eq!((world.0.until_ms(), world.0.payload_max()), (None, LARGE_MAX));
            for purpose in [Purpose::Block, Purpose::Check] {
                assert_eq!(world.refused(Ask::All, purpose), ValidateOutcome::Busy);
            }
            assert_eq!(world.hear_large(50_000), (None, LargeCame::Unasked));
            assert_eq!(world.0.payload_max(), MINING_MAX);
            world.asked(Ask::All, Purpose::Block, 0);
        }
    }

    #[test]
    fn a_large_answer_that_is_given_up_while_it_comes_is_passed_over() {
        let mut world = World::default();
        let block = world.asked(Ask::All, Purpose::Block, 0);
        let awaited = world.0.large_begins(200_000);
        assert_eq!(world.0.until_ms(), Some(LARGE_ANSWER_DEADLINE_MS));
        world.0.give_up_late(LARGE_ANSWER_DEADLINE_MS);
        assert!(heard(&block) == ValidateOutcome::Late && !world.0.awaits_large());
        assert_eq!(world.end_large(200_000, awaited), LargeCame::Unasked);
        world.asked(Ask::ShortIds, Purpose::Check, 0);
    }

    #[test]
    fn short_ids_that_are_late_keep_checks_waiting_and_no_block() {
        let mut world = World::default();
        let check = world.asked(Ask::ShortIds, Purpose::Check, 0);
        world.0.give_up_late(ANSWER_DEADLINE_MS);
        assert_eq!(heard(&check), ValidateOutcome::Late);
        assert!(world.0.payload_max() < 100_000, "no more may come than ids are");
        assert_eq!(world.refused(Ask::ShortIds, Purpose::Check), ValidateOutcome::Busy);
        let block = world.asked(Ask::All, Purpose::Block, 0);
        world.0.give_up_late(ANSWER_DEADLINE_MS);
        assert_eq!(heard(&block), ValidateOutcome::Late);
        // Both are owed now.
        assert_eq!(world.hear_large(50_000), (None, LargeCame::Unasked));
        assert_eq!(world.refused(Ask::All, Purpose::Block), ValidateOutcome::Busy);
        assert_eq!(world.hear_large(50_000), (None, LargeCame::Unasked));
        let block = world.asked(Ask::All, Purpose::Block, 0);
        world.0.session_ended();
        assert_eq!(heard(&block), ValidateOutcome::SessionEnded);
    }

    #[test]
    fn an_answer_without_a_question_is_nobodys() {
        let mut world = World::default();
        assert!(!world.hear(&IDS) && !world.hear(&ALL));
        assert_eq!(world.0.payload_max(), MINING_MAX);
        let (is_said, outcomes) = world.ask(Ask::ByIndex(vec![1, 1]), Purpose::Check, 0);
        assert!(!is_said);
        assert_eq!(heard(&outcomes), ValidateOutcome::Unaskable);
    }
}
