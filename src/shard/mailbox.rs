//! What the rest of a shard leaves for one session, and what it may see of it.
//!
//! One task owns a session's reads, writes and nonces. Everything else on the shard (the task that releases answers,
//! the one that watches deadlines, commands) writes here and wakes that task.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use super::due::Accepted;
use super::inbox::Validate;
use super::tasks::{FRAME_DEADLINE_MS, PING_AFTER_MS, SILENT_AFTER_MS};
use crate::telemetry::EndReason;

/// Answers whose room a session keeps between bursts.
const ANSWERS_KEPT: usize = 256;

/// Lines for the gateway's log that may wait for a session.
const LINES_MAX: usize = 8;

pub(super) struct Mailbox {
    waker: RefCell<Option<Waker>>,
    answers: RefCell<Vec<Accepted>>,
    lines: RefCell<Vec<Arc<str>>>,
    question: RefCell<Option<Validate>>,
    /// The first reason to end that anybody gave.
    end: Cell<Option<EndReason>>,
    config_durable: Cell<bool>,
    ping_due: Cell<bool>,
    draining: Cell<bool>,

    /// Records pushed for this session that are not answered yet.
    pub under_way: Cell<u32>,
    /// When something was last sent, ms of the shard's clock.
    pub sent_ms: Cell<u64>,
    /// Until when an open question to the gateway may be answered, ms of the shard's clock.
    pub answer_until_ms: Cell<Option<u64>>,
    /// When a whole frame was last received, ms of the shard's clock.
    heard_ms: Cell<u64>,
    /// Since when a frame has been incomplete, ms of the shard's clock.
    frame_since_ms: Cell<Option<u64>>,
}

impl Mailbox {
    pub fn new(now_ms: u64) -> Self {
        Self {
            waker: RefCell::new(None),
            answers: RefCell::new(Vec::new()),
            lines: RefCell::new(Vec::new()),
            question: RefCell::new(None),
            end: Cell::new(None),
            config_durable: Cell::new(false),
            ping_due: Cell::new(false),
            draining: Cell::new(false),
            under_way: Cell::new(0),
            sent_ms: Cell::new(now_ms),
            answer_until_ms: Cell::new(None),
            heard_ms: Cell::new(now_ms),
            frame_since_ms: Cell::new(None),
        }
    }

    // For the rest of the shard.

    pub fn answer(&self, answer: Accepted) {
        self.answers.borrow_mut().push(answer);
        self.wake();
    }

    pub fn config_is_durable(&self) {
        self.config_durable.set(true);
        self.wake();
    }

    /// Drops the line where the session has not sent the ones before it.
    pub fn info(&self, line: Arc<str>) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push(line);
        }
        drop(lines);
        self.wake();
    }

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

    pub fn end(&self, reason: EndReason) {
        if self.end.get().is_none() {
            self.end.set(Some(reason));
        }
        self.wake();
    }

    /// Ends the session where a deadline has passed, or has it say PING, or give a question up.
    pub fn check_deadlines(&self, now_ms: u64) {
        let passed = |since_ms: u64, limit_ms: u64| now_ms.saturating_sub(since_ms) >= limit_ms;
        if passed(self.heard_ms.get(), SILENT_AFTER_MS) {
            self.end(EndReason::Silent);
        } else if self.frame_since_ms.get().is_some_and(|since_ms| passed(since_ms, FRAME_DEADLINE_MS)) {
            self.end(EndReason::FrameDeadline);
        } else if self.answer_until_ms.get().is_some_and(|until_ms| now_ms >= until_ms) {
            self.wake();
        }
        if passed(self.sent_ms.get(), PING_AFTER_MS) {
            self.ping_due.set(true);
            self.wake();
        }
    }

    pub fn drain(&self) {
        self.draining.set(true);
        self.wake();
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
        }
        self.frame_since_ms.set(match self.frame_since_ms.get() {
            Some(since_ms) if incomplete && !whole => Some(since_ms),
            _ => incomplete.then_some(now_ms),
        });
    }

    /// Hands every answer that is due to `encode`, oldest first.
    pub fn take_answers(&self, mut encode: impl FnMut(Accepted)) {
        let mut answers = self.answers.borrow_mut();
        if answers.is_empty() {
            return;
        }
        let count = u32::try_from(answers.len()).expect("no longer than the ring");
        self.under_way.set(self.under_way.get() - count);
        answers.drain(..).for_each(&mut encode);
        answers.shrink_to(ANSWERS_KEPT);
    }

    pub fn take_lines(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.lines.borrow_mut())
    }

    pub fn take_question(&self) -> Option<Validate> {
        self.question.borrow_mut().take()
    }

    pub fn take_config_durable(&self) -> bool {
        self.config_durable.replace(false)
    }

    pub fn take_ping(&self) -> bool {
        self.ping_due.replace(false)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub fn end_reason(&self) -> Option<EndReason> {
        self.end.get()
    }
}
