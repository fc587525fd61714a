//! What the rest of a shard leaves for one session, and what it may see of it.
//!
//! One task owns a session's reads, writes and nonces. Everything else on the shard (the one that watches deadlines,
//! commands) writes here and wakes that task; the tasks that release answers and dictate splits have the session say them.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;

use super::due::Accepted;
use super::inbox::Validate;
use super::session::{LEAVE_MS, Session};
use super::tasks::{FRAME_DEADLINE_MS, PING_AFTER_MS, SILENT_AFTER_MS};
use crate::telemetry::EndReason;
use crate::work::{Checked, Done, MinDiff, SteerRule, Steerer};

/// Answers whose room a session keeps while it rests: 1.5 KiB.
const ANSWERS_KEPT: usize = 64;

/// Lines for the gateway's log that may wait for a session.
const LINES_MAX: usize = 8;

/// For how long an answer may be later while it is we who do not read, in ms: a hold takes 10 s at most, a disk that hangs 20.
const ANSWER_HELD_MS: u64 = 30_000;

pub(super) struct Mailbox {
    session: RefCell<Weak<RefCell<Session>>>,
    waker: RefCell<Option<Waker>>,
    answers: RefCell<Vec<Accepted>>,
    /// There were answers since deadlines were last looked at: what room they took is taken again.
    has_answered: Cell<bool>,
    lines: RefCell<Vec<Arc<str>>>,
    question: RefCell<Option<Validate>>,
    checked: RefCell<Vec<Checked>>,
    /// The first reason to end that anybody gave.
    end: Cell<Option<EndReason>>,
    cut: Cell<bool>,
    config_durable: Cell<bool>,
    ping_due: Cell<bool>,
    /// There is a new block that the gateway has not heard of; when the pool did, ns of the shard's clock.
    new_block_ns: Cell<Option<u64>>,
    /// Since when the session reads no more and answers what is under way, ms of the shard's clock.
    draining_since_ms: Cell<Option<u64>>,
    /// What [`Self::overdue`] said at the last look, where nothing whole has come since.
    was_overdue: Cell<Option<Overdue>>,
    /// An open question is to be given up.
    question_is_late: Cell<bool>,
    /// The peer takes nothing of what was said, and the session drains.
    is_deaf: Cell<bool>,
    /// The pool's keys have changed since the session looked at them; true at its start.
    keys_changed: Cell<bool>,
    /// The same of the policy.
    policy_changed: Cell<bool>,

    /// Stands among those who wait for a split to be dictated.
    pub asks: Cell<bool>,
    /// Stands in line for room in the ring, so it has stopped reading of its own accord.
    pub in_line: Cell<bool>,
    /// Room in the ring that is kept for the session until its task has run, in entries.
    pub turn: Cell<usize>,
    /// Shares pushed for this session that are not answered yet.
    pub under_way: Cell<u32>,
    /// A share of the session was accepted.
    has_mined: Cell<bool>,
    /// Accepted shares that were said to be so.
    done: Cell<Done>,
    /// None where nobody steers.
    steerer: RefCell<Option<Steerer>>,
    /// The difficulty that the gateway should be told.
    new_min_diff: Cell<Option<MinDiff>>,
    /// When the session began, ms of the shard's clock.
    pub begun_ms: u64,
    /// Until when a guard has the session not be read, ms of the shard's clock; 0 where none does.
    pub slowed_until_ms: Cell<u64>,
    /// When something was last sent, ms of the shard's clock.
    pub sent_ms: Cell<u64>,
    /// Until when an open question to the gateway may be answered, ms of the shard's clock.
    pub answer_until_ms: Cell<Option<u64>>,
    /// Until when the session, having said its last word, waits for the peer to close, ms of the shard's clock.
    pub leave_until_ms: Cell<Option<u64>>,
    /// When a whole frame was last received, ms of the shard's clock.
    heard_ms: Cell<u64>,
    /// Since when a frame has been incomplete, ms of the shard's clock.
    frame_since_ms: Cell<Option<u64>>,
}

/// What a session, or its peer, had a time for that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overdue {
    Ends(EndReason),
    Answer,
    /// To take what was said, while the session drains.
    Reading,
}

/// A line was not taken: too many wait before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyLines;

impl Mailbox {
    pub fn new(now_ms: u64) -> Self {
        Self {
            session: RefCell::default(),
            waker: RefCell::new(None),
            answers: RefCell::new(Vec::new()),
            has_answered: Cell::new(false),
            lines: RefCell::new(Vec::new()),
            question: RefCell::new(None),
            checked: RefCell::default(),
            end: Cell::new(None),
            cut: Cell::new(false),
            config_durable: Cell::new(false),
            ping_due: Cell::new(false),
            new_block_ns: Cell::new(None),
            draining_since_ms: Cell::new(None),
            was_overdue: Cell::new(None),
            question_is_late: Cell::new(false),
            is_deaf: Cell::new(false),
            keys_changed: Cell::new(true),
            policy_changed: Cell::new(true),
            asks: Cell::new(false),
            in_line: Cell::new(false),
            turn: Cell::new(0),
            under_way: Cell::new(0),
            has_mined: Cell::new(false),
            done: Cell::default(),
            steerer: RefCell::default(),
            new_min_diff: Cell::default(),
            begun_ms: now_ms,
            slowed_until_ms: Cell::new(0),
            sent_ms: Cell::new(now_ms),
            answer_until_ms: Cell::new(None),
            leave_until_ms: Cell::new(None),
            heard_ms: Cell::new(now_ms),
            frame_since_ms: Cell::new(None),
        }
    }

    // For the rest of the shard.

    /// Whom to ask to say its answers and splits now.
    pub fn serve(&self, session: Weak<RefCell<Session>>) {
        *self.session.borrow_mut() = session;
    }

    /// The session itself, unless it has ended.
    pub fn session(&self) -> Option<Rc<RefCell<Session>>> {
        self.session.borrow().upgrade()
    }

    /// Leaves an answer. True: it is the first that the session has to say.
    pub fn answer(&self, answer: Accepted) -> bool {
        let mut answers = self.answers.borrow_mut();
        answers.push(answer);
        answers.len() == 1
    }

    /// The waker of the session's task, once it has run.
    pub fn waker(&self) -> Option<Waker> {
        self.waker.borrow().clone()
    }

    pub fn config_is_durable(&self) {
        self.config_durable.set(true);
        self.wake();
    }

    /// Has the gateway told of a new block that the pool heard of at `heard_ns`; once, however many there were.
    pub fn new_block(&self, heard_ns: u64) {
        self.new_block_ns.set(Some(heard_ns));
        self.wake();
    }

    pub fn policy_changed(&self) {
        self.policy_changed.set(true);
        self.wake();
    }

    pub fn keys_changed(&self) {
        self.keys_changed.set(true);
        self.wake();
    }

    /// # Errors
    /// The session has not sent the lines before it; this one is dropped.
    pub fn info(&self, line: Arc<str>) -> Result<(), TooManyLines> {
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= LINES_MAX {
            return Err(TooManyLines);
        }
        lines.push(line);
        drop(lines);
        self.wake();
        Ok(())
    }

    /// # Errors
    /// Gives the question back where one waits already.
    pub fn ask(&self, question: Validate) -> Result<(), Validate> {
        let mut waiting = self.question.borrow_mut();
        if waiting.is_some() {
            return Err(question);
        }
        *waiting = Some(question);
        drop(waiting);
        self.wake();
        Ok(())
    }

    /// # Errors
    /// The session has not heard of those before it; this one is dropped.
    pub fn checked(&self, checked: Checked) -> Result<(), TooManyLines> {
        let mut waiting = self.checked.borrow_mut();
        if waiting.len() >= LINES_MAX {
            return Err(TooManyLines);
        }
        waiting.push(checked);
        drop(waiting);
        self.wake();
        Ok(())
    }

    /// The first reason stands.
    pub fn end(&self, reason: EndReason) {
        if self.end.get().is_none() {
            self.end.set(Some(reason));
        }
        self.wake();
    }

    /// Closes the session as it is, whatever it has not sent.
    pub fn cut(&self) {
        self.cut.set(true);
        self.wake();
    }

    /// Stops the reading; what is under way is still answered.
    pub fn drain(&self, now_ms: u64) {
        self.draining_since_ms.set(Some(now_ms));
        self.wake();
    }

    /// Ends the session where a deadline has passed, or has it say PING, give a question up, or close. The peer's deadlines have
    /// to be over at two looks in a row: between them the session reads what lies in the kernel, and has it take what it may. That
    /// was in time, and after a stall of the shard, or of the whole process, it was not read before the first look.
    pub fn check_deadlines(&self, now_ms: u64) {
        if !self.has_answered.replace(false) {
            self.answers.borrow_mut().shrink_to(ANSWERS_KEPT);
        }
        if let Some(until_ms) = self.leave_until_ms.get() {
            if now_ms >= until_ms {
                self.wake();
            }
            return;
        }
        let slowed_until_ms = self.slowed_until_ms.get();
        if slowed_until_ms != 0 && now_ms >= slowed_until_ms {
            self.slowed_until_ms.set(0);
            self.wake();
        }
        let is_held = self.in_line.get() || slowed_until_ms != 0;
        if is_held {
            // It is we who do not read.
            self.heard_ms.set(now_ms);
            self.frame_since_ms.set(self.frame_since_ms.get().map(|_| now_ms));
        }
        let overdue = self.overdue(is_held, now_ms);
        let was_overdue = self.was_overdue.replace(overdue);
        if let Some(overdue) = overdue {
            if was_overdue == Some(overdue) {
                self.act_on(overdue);
                self.was_overdue.set(None);
            }
            self.wake();
        }
        if has_passed(self.sent_ms.get(), PING_AFTER_MS, now_ms) {
            self.ping_due.set(true);
            self.wake();
        }
    }

    fn overdue(&self, is_held: bool, now_ms: u64) -> Option<Overdue> {
        let passed = |since_ms, limit_ms| has_passed(since_ms, limit_ms, now_ms);
        if let Some(since_ms) = self.draining_since_ms.get() {
            // It is we who do not read.
            let is_deaf = self.under_way.get() == 0 && passed(since_ms.max(self.sent_ms.get()), LEAVE_MS);
            return is_deaf.then_some(Overdue::Reading);
        }
        if passed(self.heard_ms.get(), SILENT_AFTER_MS) {
            return Some(Overdue::Ends(EndReason::Silent));
        }
        let frame_since_ms = self.frame_since_ms.get();
        if frame_since_ms.is_some_and(|since_ms| passed(since_ms, FRAME_DEADLINE_MS)) {
            return Some(Overdue::Ends(EndReason::FrameDeadline));
        }
        // While we do not read, the answer may lie in the kernel.
        let held_ms = if is_held { ANSWER_HELD_MS } else { 0 };
        let answer_until_ms = self.answer_until_ms.get();
        answer_until_ms
            .filter(|until_ms| now_ms >= until_ms.saturating_add(held_ms))
            .map(|_| Overdue::Answer)
    }

    fn act_on(&self, overdue: Overdue) {
        match overdue {
            Overdue::Ends(reason) => self.end(reason),
            Overdue::Answer => self.question_is_late.set(true),
            Overdue::Reading => self.is_deaf.set(true),
        }
    }

    /// Has the session steered from now on; its CONFIG says `min_diff`.
    pub fn steer_by(&self, rule: SteerRule, min_diff: MinDiff, now_ms: u64) {
        *self.steerer.borrow_mut() = Some(Steerer::new(rule, min_diff, now_ms));
    }

    /// Looks whether the gateway should be told another difficulty, and has the session say what waits. Gives the pot in
    /// force, where the session is steered.
    pub fn steer(&self, now_ms: u64) -> Option<u8> {
        let mut steerer = self.steerer.borrow_mut();
        let steerer = steerer.as_mut()?;
        if self.has_mined.get() && !self.is_stopping() {
            self.new_min_diff.set(steerer.look(self.done.get(), now_ms));
            if self.new_min_diff.get().is_some() || self.config_durable.get() {
                self.wake();
            }
        }
        Some(steerer.min_diff().pot())
    }

    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    // For the session's own task.

    /// Remembers whom to wake.
    pub fn attend(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        match &mut *kept {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }

    /// Notes whether a read brought whole frames, and whether it left a frame incomplete.
    pub fn note_frame(&self, whole: bool, incomplete: bool, now_ms: u64) {
        if whole {
            self.heard_ms.set(now_ms);
            self.note_alive();
        }
        self.frame_since_ms.set(match self.frame_since_ms.get() {
            Some(since_ms) if incomplete && !whole => Some(since_ms),
            _ => incomplete.then_some(now_ms),
        });
    }

    /// Another piece of a large frame has come: it has its deadline for the next one.
    pub fn note_piece(&self, now_ms: u64) {
        self.frame_since_ms.set(Some(now_ms));
        self.note_alive();
    }

    /// What was to end the session has to be overdue twice again. A question has not: other frames are no answer to it.
    fn note_alive(&self) {
        if let Some(Overdue::Ends(_)) = self.was_overdue.get() {
            self.was_overdue.set(None);
        }
    }

    /// Hands every answer that is due to `encode`, oldest first.
    pub fn take_answers(&self, encode: impl FnMut(Accepted)) {
        let mut answers = self.answers.borrow_mut();
        if answers.is_empty() {
            return;
        }
        let count = u32::try_from(answers.len()).expect("no longer than the ring");
        self.under_way.set(self.under_way.get() - count);
        self.has_mined.set(true);
        let mut done = self.done.get();
        done.shares += u64::from(count);
        done.work += answers.iter().map(|answer| 1_u128 << answer.target_pot).sum::<u128>();
        self.done.set(done);
        answers.drain(..).for_each(encode);
        self.has_answered.set(true);
    }

    /// Whether a share of the session was accepted, and said to be.
    pub fn has_mined(&self) -> bool {
        self.has_mined.get()
    }

    pub fn take_lines(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.lines.borrow_mut())
    }

    pub fn take_question(&self) -> Option<Validate> {
        self.question.borrow_mut().take()
    }

    pub fn take_checked(&self) -> Vec<Checked> {
        std::mem::take(&mut *self.checked.borrow_mut())
    }

    pub fn take_new_min_diff(&self) -> Option<MinDiff> {
        self.new_min_diff.take()
    }

    /// CONFIG with this difficulty is on its way to the disk.
    pub fn told(&self, min_diff: MinDiff, now_ms: u64) {
        if let Some(steerer) = &mut *self.steerer.borrow_mut() {
            steerer.told(min_diff, self.done.get(), now_ms);
        }
    }

    pub fn take_config_durable(&self) -> bool {
        self.config_durable.replace(false)
    }

    pub fn take_new_block(&self) -> Option<u64> {
        self.new_block_ns.take()
    }

    pub fn take_policy_changed(&self) -> bool {
        self.policy_changed.replace(false)
    }

    pub fn take_keys_changed(&self) -> bool {
        self.keys_changed.replace(false)
    }

    pub fn take_question_late(&self) -> bool {
        self.question_is_late.replace(false)
    }

    pub fn take_ping(&self) -> bool {
        self.ping_due.replace(false)
    }

    /// The session is to end: there is more to do than to answer.
    pub fn is_stopping(&self) -> bool {
        self.is_draining() || self.cut.get() || self.end.get().is_some()
    }

    pub fn is_draining(&self) -> bool {
        self.draining_since_ms.get().is_some()
    }

    /// Whether the peer, which is to be left, takes nothing any more.
    pub fn is_deaf(&self) -> bool {
        self.is_deaf.get()
    }

    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    pub fn end_reason(&self) -> Option<EndReason> {
        self.end.get()
    }
}

fn has_passed(since_ms: u64, limit_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= limit_ms
}

#[cfg(test)]
mod tests;
