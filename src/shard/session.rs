//! One session: a task that owns its connection's reads, writes and nonces.
//!
//! Each time it runs it encodes what is due, reads what has come, judges it, and sends all answers in one write.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_lite::future::poll_fn;
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::Shard;
use super::arrival::Arrivals;
use super::dialogue::{Dialogue, Next};
use super::due::DueEntry;
use super::guarding::Watch;
use super::large::LargeFrame;
use super::mailbox::Mailbox;
use super::places::Place;
use super::reading::has_more;
use super::slots::SlotKey;
use crate::identity::KeyTally;
use crate::ledger::{Entry, SessionRow};
use crate::telemetry::{Bound, EndReason};
use crate::wire::{ChannelKey, HEADER_LEN, Hello, MINING_MAX, SessionSigner, Skipped};
use crate::work::Terms;

/// Bytes read at once, into a buffer of the shard.
pub const READ_BYTES: usize = 16 * 1_024;

/// The longest frame that is not an answer to a question of ours, header included.
pub(super) const FRAME_MAX: usize = HEADER_LEN + MINING_MAX;

/// The shard's read buffer holds what a session had left over and one read more. Left over to read on to is less than
/// one frame.
const READ_BUFFER: usize = FRAME_MAX + READ_BYTES;

/// Bytes of room for the start of a frame that a session keeps between reads: most reads end within a frame, and none is
/// longer that brings no section.
const PENDING_KEPT: usize = 512;

/// Bytes of output one turn of a session usually stays below; more makes the buffer grow once.
const OUT_BUFFER: usize = 64 * 1_024;

/// Output that the peer has not taken. Past it the session ends: some 2,000 answers.
pub const UNSENT_MAX: usize = 64 * 1_024;

/// Reads in a row before other sessions have their turn.
const READS_PER_TURN: usize = 4;

/// How long a session that has said its last word waits for the peer to close, in ms. Closing first, with bytes unread,
/// would reset the connection and could take the last answers with it.
pub const LEAVE_MS: u64 = 2_000;

/// Buffers that belong to the shard: a session owns none while it rests but [`PENDING_KEPT`].
pub(super) struct Buffers {
    read: Box<[u8]>,
    out: Output,
}

/// What one turn of a session says.
#[derive(Default)]
pub(super) struct Output {
    /// Whole frames.
    pub bytes: Vec<u8>,
    /// When the frames were complete that are answered in `bytes`, ns of the shard's clock.
    pub answered: Vec<u64>,
    /// What of `bytes` was not counted for the gateway's address yet.
    pub answers: Answers,
}

/// How much of what a turn says are answers. What the pool says of its own accord is none: new blocks, CONFIG, PING, lines.
#[derive(Default)]
pub(super) struct Answers {
    pub bytes: usize,
    pub with_split: bool,
}

impl Output {
    /// Says what the gateway has asked for, or brought a share for.
    pub fn answer(&mut self, say: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        say(&mut self.bytes);
        self.answers.bytes += self.bytes.len() - before;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.answered.clear();
        self.answers = Answers::default();
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            read: vec![0; READ_BUFFER].into_boxed_slice(),
            out: Output {
                bytes: Vec::with_capacity(OUT_BUFFER),
                ..Output::default()
            },
        }
    }
}

/// All that a session starts with.
pub(super) struct Opening {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub accepted: Instant,
    pub watch: Watch,
    pub hello: Box<Hello>,
    /// The pool's key that the gateway has.
    pub pool_key: Arc<KeyTally>,
    /// What was read behind HELLO.
    pub behind: Vec<u8>,
    pub skipped: Skipped,
    pub key: ChannelKey,
    /// The sealed handshake response.
    pub response: Vec<u8>,
    /// CONFIG with its signature, to be sent when the row of its `prime_id` is durable.
    pub signed_config: Vec<u8>,
    pub terms: Terms,
    /// Signs a CONFIG that follows.
    pub signer: SessionSigner,
}

pub(super) struct Session {
    shard: Rc<Shard>,
    mailbox: Rc<Mailbox>,
    slot: SlotKey,
    place: Place,
    stream: TcpStream,
    dialogue: Dialogue,
    watch: Watch,
    /// Read and not yet consumed: an incomplete frame, or what stands behind a share that found the ring full.
    pending: Vec<u8>,
    /// `pending` may hold whole frames.
    pending_is_whole: bool,
    arrivals: Arrivals,
    /// A frame too long for the shard's buffer, while it arrives.
    large: Option<LargeFrame>,
    unsent: Output,
    leaving: Option<Leaving>,
}

/// The last word is said, or on its way.
#[derive(Clone, Copy)]
struct Leaving {
    reason: EndReason,
    /// The peer has been told that nothing follows.
    shut: bool,
}

impl Session {
    /// Registers the session and starts its task. The caller has made sure of room for one entry.
    pub fn spawn(shard: &Rc<Shard>, opening: Opening, place: Place) {
        let mailbox = Rc::new(Mailbox::new(shard.now_ms()));
        place.begin(opening.peer.ip().into(), mailbox.clone(), mailbox.begun_ms);
        let slot = shard.slots.borrow_mut().insert(mailbox.clone());
        shard.telemetry.sessions.set(shard.slots.borrow().len() as u64);
        let row = SessionRow::new(&opening.hello.long_term, &opening.terms, shard.unix_ms())
            .begun_by(&opening.hello.session.ed25519);
        let key = Some(Box::new(opening.key.clone()));
        shard.push(Entry::Session(Box::new(row), key), DueEntry::Config { to: slot });
        shard.wake_writer();

        let now_ns = shard.now_ns();
        let age_ns = u64::try_from(opening.accepted.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let arrivals = Arrivals::new(now_ns.saturating_sub(age_ns), now_ns);
        let mut unsent = Output::default();
        let (stream, watch, pending, dialogue) = Dialogue::open(shard, slot, mailbox.clone(), opening, &mut unsent);
        let session = Rc::new(RefCell::new(Session {
            shard: shard.clone(),
            mailbox: mailbox.clone(),
            slot,
            place,
            stream,
            dialogue,
            watch,
            pending,
            pending_is_whole: true,
            arrivals,
            large: None,
            unsent,
            leaving: None,
        }));
        mailbox.serve(Rc::downgrade(&session));
        if shard.is_stopping() {
            // Its HELLO was under way. It has its CONFIG, so that its gateway comes back at once.
            shard.drain_session(&mailbox);
        }
        shard.spawn_newcomer(Self::begin(session));
    }

    /// Serves a newcomer beside handshakes, behind those that mine: its CONFIG, its first split, and its first work with
    /// coinbases nobody has proved yet cost more than a hundred shares. Its first accepted share makes it one of them.
    async fn begin(session: Rc<RefCell<Self>>) {
        let ended = poll_fn(|cx| {
            let mut session = session.borrow_mut();
            match session.turn(cx) {
                Poll::Ready(reason) => Poll::Ready(Some(reason)),
                Poll::Pending if session.mailbox.has_mined() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match ended.await {
            Some(reason) => Self::close(session, reason).await,
            // Its first turn there looks at everything again, so nothing that comes meanwhile is missed.
            None => {
                session.borrow().place.has_mined();
                session.borrow().shard.spawn_session(Self::run(session.clone()));
            }
        }
    }

    async fn run(session: Rc<RefCell<Self>>) {
        let reason = poll_fn(|cx| session.borrow_mut().turn(cx)).await;
        Self::close(session, reason).await;
    }

    async fn close(session: Rc<RefCell<Self>>, reason: EndReason) {
        let Some(session) = Rc::into_inner(session) else {
            unreachable!("others hold a session for one call alone");
        };
        let Session {
            shard,
            mailbox,
            slot,
            place,
            stream,
            dialogue,
            watch,
            ..
        } = session.into_inner();
        drop(stream);
        watch.ended(&shard, reason, mailbox.has_mined(), dialogue.owes_proof());
        let marks = dialogue.close();
        // Counted before the slot is free, so that the shard is not taken for empty between the two.
        let _ending = shard.count_in(|shard| &shard.ending);
        shard.slots.borrow_mut().remove(slot);
        drop(place);
        // It may have been let in once more by what its own last turn set free.
        shard.end_turn(&mailbox);
        shard.telemetry.sessions.set(shard.slots.borrow().len() as u64);
        shard.telemetry.ends[reason].add(1);
        tracing::debug!(reason = reason.label(), "session ended");
        marks.push(&shard).await;
    }

    /// Says the answers that are due.
    pub fn answer(&mut self) {
        if !self.say_now(Dialogue::say_what_is_due) {
            self.mailbox.wake();
        }
    }

    /// Goes on with the split that the gateway waits for. A socket that has not taken what was said before gets none yet, so
    /// that a gateway which does not read has one in our memory at most.
    pub fn dictate(&mut self) {
        if !self.unsent.bytes.is_empty() {
            return self.dialogue.hold_split();
        }
        self.say_now(|dialogue, out| {
            // CONFIG, where that is due, comes before any split.
            dialogue.say_what_is_due(out);
            dialogue.dictate(out);
        });
    }

    /// The ledger holds a split of this session.
    pub fn split_is_durable(&mut self, coinbaser_id: u8) {
        if self.dialogue.note_durable_split(coinbaser_id) {
            self.dictate();
        }
    }

    /// Has something said in the place of the session's task and as that would. What does not go off at once is left to the
    /// task, and so is all where there is more to do than to talk: then this is false.
    fn say_now(&mut self, say: impl FnOnce(&mut Dialogue, &mut Output)) -> bool {
        let waker = self.mailbox.waker();
        let Some(waker) = waker.filter(|_| self.leaving.is_none() && !self.mailbox.is_stopping()) else {
            return false;
        };
        let shard = self.shard.clone();
        let Buffers { out, .. } = &mut *shard.buffers.borrow_mut();
        out.clear();
        say(&mut self.dialogue, out);
        // Where the socket takes no more, it wakes the task.
        if let Err(reason) = self.send(&mut Context::from_waker(&waker), out) {
            self.mailbox.end(reason);
        }
        true
    }

    /// One turn of the task: all that can be done without waiting.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        self.mailbox.attend(cx.waker());
        let shard = self.shard.clone();
        let Buffers { read, out } = &mut *shard.buffers.borrow_mut();
        out.clear();
        let ended = match self.leaving {
            _ if self.mailbox.is_cut() => Poll::Ready(self.cut_reason()),
            None => self.talk(cx, read, out),
            Some(leaving) => self.leave(cx, read, leaving),
        };
        shard.end_turn(&self.mailbox);
        ended
    }

    fn cut_reason(&self) -> EndReason {
        let leaving = self.leaving.map(|leaving| leaving.reason);
        leaving.or(self.mailbox.end_reason()).unwrap_or(EndReason::Drained)
    }

    fn talk(&mut self, cx: &mut Context<'_>, read: &mut [u8], out: &mut Output) -> Poll<EndReason> {
        self.dialogue.say_what_is_due(out);
        let mut end = self.mailbox.end_reason();
        if end.is_none() && !self.mailbox.is_draining() {
            end = self.listen(cx, read, out).err();
            if !self.dialogue.push_proof() {
                self.shard.stand_in_line(self.slot, &self.mailbox);
            }
            // One wake of the writer covers all that this turn pushed.
            self.shard.wake_writer();
        }
        if let Some(reason) = end {
            self.dialogue.say_why(reason, out);
        }
        if let Err(unsendable) = self.send(cx, out) {
            return Poll::Ready(end.unwrap_or(unsendable));
        }
        let is_done = self.mailbox.is_draining() && self.dialogue.is_configured() && self.mailbox.under_way.get() == 0;
        if is_done && !self.unsent.bytes.is_empty() && self.mailbox.is_deaf() {
            // Everybody else would wait for it as long as a drain may take.
            return Poll::Ready(end.unwrap_or(EndReason::Drained));
        }
        let drained = is_done && self.unsent.bytes.is_empty();
        match end.or(drained.then_some(EndReason::Drained)) {
            None => Poll::Pending,
            Some(reason) if reason == EndReason::Drained || reason.line_for_gateway().is_some() => {
                let leaving = Leaving { reason, shut: false };
                self.leaving = Some(leaving);
                self.mailbox.leave_until_ms.set(Some(self.shard.now_ms() + LEAVE_MS));
                self.leave(cx, read, leaving)
            }
            Some(reason) => Poll::Ready(reason),
        }
    }

    /// Sends what is left, says that nothing follows, and reads into the void until the peer has closed as well.
    fn leave(&mut self, cx: &mut Context<'_>, read: &mut [u8], leaving: Leaving) -> Poll<EndReason> {
        let Leaving { reason, mut shut } = leaving;
        let is_late = |until_ms| self.shard.now_ms() >= until_ms;
        if self.mailbox.leave_until_ms.get().is_none_or(is_late) || self.send(cx, &mut Output::default()).is_err() {
            return Poll::Ready(reason);
        }
        if self.unsent.bytes.is_empty() && !shut {
            // Shuts down the writing half and does not wait.
            if let Poll::Ready(Err(_)) = Pin::new(&mut self.stream).poll_close(cx) {
                return Poll::Ready(reason);
            }
            shut = true;
            self.leaving = Some(Leaving { reason, shut });
        }
        for _ in 0..READS_PER_TURN {
            match Pin::new(&mut self.stream).poll_read(cx, &mut read[..READ_BYTES]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(count) => {
                    if self.received(count, READ_BYTES).is_err() {
                        return Poll::Ready(reason);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Consumes what was left over, then reads for as long as there is something to read and room for it.
    fn listen(&mut self, cx: &mut Context<'_>, read: &mut [u8], out: &mut Output) -> Result<(), EndReason> {
        if self.mailbox.slowed_until_ms.get() != 0 {
            self.arrivals.hold();
            return Ok(());
        }
        if self.pending_is_whole {
            let held = self.hold(read);
            self.consume(&mut read[..held], out)?;
        }
        for _ in 0..READS_PER_TURN {
            if self.pending_is_whole || self.mailbox.slowed_until_ms.get() != 0 {
                self.arrivals.hold();
                return Ok(());
            }
            if self.large.is_some() {
                if self.read_large(cx, read)?.is_pending() {
                    return Ok(());
                }
                continue;
            }
            let held = self.pending.len();
            match Pin::new(&mut self.stream).poll_read(cx, &mut read[held..held + READ_BYTES]) {
                Poll::Pending => {
                    self.nothing_came();
                    return Ok(());
                }
                Poll::Ready(count) => {
                    let count = self.received(count, READ_BYTES)?;
                    self.hold(read);
                    self.consume(&mut read[..held + count], out)?;
                }
            }
        }
        // More may have come: queue up behind the other sessions.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Moves the pending bytes to the front of the shard's buffer.
    fn hold(&mut self, read: &mut [u8]) -> usize {
        let held = self.pending.len();
        read[..held].copy_from_slice(&self.pending);
        self.pending.clear();
        held
    }

    /// A read of at most `room` bytes has ended.
    fn received(&mut self, count: std::io::Result<usize>, room: usize) -> Result<usize, EndReason> {
        match count {
            Ok(0) => Err(EndReason::PeerClosed),
            Ok(count) => {
                let now_ns = self.shard.now_ns();
                let stall = self.shard.beats.last_stall(now_ns);
                self.arrivals.read(count == room, now_ns, stall);
                self.shard.telemetry.bytes_in.add(count as u64);
                Ok(count)
            }
            Err(_) => Err(EndReason::ReadError),
        }
    }

    /// There was nothing to read; but at the end of a stall that may be what was known before.
    fn nothing_came(&mut self) {
        let now_ns = self.shard.now_ns();
        if !self.shard.beats.is_overdue(now_ns) || !has_more(&self.stream).unwrap_or(false) {
            self.arrivals.nothing_came(now_ns);
        }
    }

    /// Hears every whole frame in `bytes` and keeps the rest.
    fn consume(&mut self, bytes: &mut [u8], out: &mut Output) -> Result<(), EndReason> {
        let frames_before = self.shard.telemetry.frames_in.value();
        let (consumed, next) = self.dialogue.hear(bytes, self.arrivals.last(), out)?;
        if consumed > 0 {
            let frames = self.shard.telemetry.frames_in.value().wrapping_sub(frames_before);
            let came = (consumed, u32::try_from(frames).unwrap_or(u32::MAX));
            self.watch
                .hear(&self.shard, &self.mailbox, &mut self.dialogue, came, out)?;
        }
        let rest = &bytes[consumed..];
        let waits_for_room = matches!(next, Next::Room);
        self.pending_is_whole = waits_for_room;
        if let Next::Large { len, awaited } = next {
            let budget = &self.shard.settings.large_answers;
            self.large = Some(LargeFrame::begin(len, rest, awaited, budget));
        } else if !rest.is_empty() {
            self.pending.reserve_exact(rest.len().max(PENDING_KEPT));
            self.pending.extend_from_slice(rest);
        } else {
            self.pending.shrink_to(PENDING_KEPT);
        }
        if waits_for_room && self.shard.stand_in_line(self.slot, &self.mailbox) {
            self.shard.telemetry.bounds[Bound::RingFull].add(1);
        }
        let incomplete = !rest.is_empty() && !waits_for_room;
        self.mailbox.note_frame(consumed > 0, incomplete, self.shard.now_ms());
        Ok(())
    }

    /// Reads a long answer to a question of ours straight into the room made for it, or past it, where there is none.
    fn read_large(&mut self, cx: &mut Context<'_>, read: &mut [u8]) -> Result<Poll<()>, EndReason> {
        let Some(mut large) = self.large.take() else {
            return Ok(Poll::Ready(()));
        };
        if !self.dialogue.awaits_large() {
            large.let_go();
        }
        let missing = large.missing();
        let space = large.space(&self.shard.settings.large_answers);
        let space = space.unwrap_or(&mut read[..missing.min(READ_BYTES)]);
        let room = space.len();
        let Poll::Ready(count) = Pin::new(&mut self.stream).poll_read(cx, space) else {
            self.nothing_came();
            self.large = Some(large);
            return Ok(Poll::Pending);
        };
        let is_piece = large.fill(self.received(count, room)?);
        if large.missing() > 0 {
            if is_piece {
                self.mailbox.note_piece(self.shard.now_ms());
            }
            self.large = Some(large);
        } else {
            self.dialogue.hear_large(large)?;
            self.mailbox.note_frame(true, false, self.shard.now_ms());
        }
        Ok(Poll::Ready(()))
    }

    /// Sends what earlier turns left, then this turn's output: one write where the socket takes it.
    fn send(&mut self, cx: &mut Context<'_>, out: &mut Output) -> Result<(), EndReason> {
        self.watch.answer(&self.shard, &self.mailbox, &mut self.dialogue, out);
        let mut sent = 0;
        if self.unsent.bytes.is_empty() {
            if out.bytes.is_empty() {
                return Ok(());
            }
            sent = self.write(cx, &out.bytes)?;
        }
        if sent < out.bytes.len() {
            self.unsent.bytes.extend_from_slice(&out.bytes[sent..]);
            self.unsent.answered.append(&mut out.answered);
        }
        // Before the bound is looked at: what the socket takes now is not unsent.
        while !self.unsent.bytes.is_empty() {
            let unsent = std::mem::take(&mut self.unsent.bytes);
            let sent = self.write(cx, &unsent);
            self.unsent.bytes = unsent;
            match sent? {
                0 if self.unsent.bytes.len() > UNSENT_MAX => {
                    self.shard.telemetry.bounds[Bound::UnsentOutput].add(1);
                    return Err(EndReason::UnsentOutput);
                }
                0 => return Ok(()),
                sent => drop(self.unsent.bytes.drain(..sent)),
            }
        }
        let now_ns = self.shard.now_ns();
        for complete_ns in self.unsent.answered.iter().chain(&out.answered) {
            self.shard
                .telemetry
                .frame_to_answer
                .record(now_ns.saturating_sub(*complete_ns));
        }
        out.answered.clear();
        let was_unsent = self.unsent.bytes.capacity() > 0;
        self.unsent = Output::default();
        self.dialogue.all_is_sent();
        if was_unsent && self.dialogue.waits_for_split() {
            self.shard.ask_for_split(self.slot, &self.mailbox);
        }
        Ok(())
    }

    /// How many bytes the socket took; 0 means that the task is woken when it takes more.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, EndReason> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(sent)) => {
                self.shard.telemetry.bytes_out.add(sent as u64);
                self.shard.telemetry.writes.add(1);
                self.mailbox.sent_ms.set(self.shard.now_ms());
                Ok(sent)
            }
            Poll::Ready(Err(_)) => Err(EndReason::WriteError),
            Poll::Pending => Ok(0),
        }
    }
}
