//! One session: a task that owns its connection's reads, writes and nonces.
//!
//! Each time it runs it encodes what is due, reads what has come, judges it, and sends all answers in one write.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::future::poll_fn;
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::Shard;
use super::dialogue::{Dialogue, Next};
use super::due::DueEntry;
use super::mailbox::Mailbox;
use super::slots::SlotKey;
use crate::ledger::{Entry, SessionRow};
use crate::telemetry::{Bound, EndReason};
use crate::wire::{ChannelKey, HEADER_LEN, Hello, MINING_MAX, SecretKeys, Skipped};
use crate::work::Terms;

/// Bytes read at once, into a buffer of the shard.
pub const READ_BYTES: usize = 16 * 1_024;

/// The longest frame that is not an answer to a question of ours.
const FRAME_MAX: usize = HEADER_LEN + MINING_MAX;

/// The shard's read buffer holds what a session had left over and one read more. Left over is an incomplete frame, or
/// all that stood behind a share that found the ring full: less than a frame and a read together.
pub(super) const READ_BUFFER: usize = FRAME_MAX + 2 * READ_BYTES;

/// Output that the peer has not taken. Past it the session ends: some 2,000 answers.
pub const UNSENT_MAX: usize = 64 * 1_024;

/// Reads in a row before other sessions have their turn.
const READS_PER_TURN: usize = 4;

/// All that a session starts with.
pub(super) struct Opening {
    pub stream: TcpStream,
    pub hello: Box<Hello>,
    /// What was read behind HELLO.
    pub behind: Vec<u8>,
    pub skipped: Skipped,
    pub key: ChannelKey,
    /// The sealed handshake response.
    pub response: Vec<u8>,
    /// CONFIG with its signature, to be sent when the row of its `prime_id` is durable.
    pub signed_config: Vec<u8>,
    pub terms: Terms,
}

pub(super) struct Session {
    shard: Rc<Shard>,
    mailbox: Rc<Mailbox>,
    slot: SlotKey,
    stream: TcpStream,
    dialogue: Dialogue,
    /// Read and not yet consumed: an incomplete frame, or what stands behind a share that found the ring full.
    pending: Vec<u8>,
    /// `pending` may hold whole frames.
    pending_is_whole: bool,
    /// A frame too long for the shard's buffer, while it arrives.
    large: Option<LargeFrame>,
    unsent: Vec<u8>,
}

struct LargeFrame {
    bytes: Vec<u8>,
    filled: usize,
}

impl Session {
    /// Registers the session and starts its task. The caller has made sure of room for one record.
    pub fn spawn(shard: &Rc<Shard>, opening: Opening) {
        let mailbox = Rc::new(Mailbox::new(shard.now_ms()));
        let slot = shard.slots.borrow_mut().insert(mailbox.clone());
        shard.telemetry.sessions.set(shard.slots.borrow().len() as u64);
        let row = SessionRow::new(&opening.hello.long_term, &opening.terms, shard.unix_ms());
        shard.push(Entry::Session(Box::new(row)), DueEntry::Config { to: slot });
        shard.ledger.borrow_mut().wake_writer();

        let mut unsent = Vec::new();
        let (stream, pending, dialogue) = Dialogue::open(shard, slot, opening, &mut unsent);
        let session = Session {
            shard: shard.clone(),
            mailbox,
            slot,
            stream,
            dialogue,
            pending,
            pending_is_whole: true,
            large: None,
            unsent,
        };
        shard.spawn_session(session.run());
    }

    async fn run(mut self) {
        let reason = poll_fn(|cx| self.turn(cx)).await;
        self.dialogue.close();
        self.shard.session_ended(self.slot, reason);
    }

    /// One turn of the task: all that can be done without waiting.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        self.mailbox.attend(cx.waker());
        let shard = self.shard.clone();
        let buffers = &mut *shard.buffers.borrow_mut();
        let (read, out) = (&mut buffers.read[..], &mut buffers.out);
        out.clear();

        self.dialogue.say_what_is_due(out);
        let mut end = self.mailbox.end_reason();
        if end.is_none() && !self.mailbox.is_draining() {
            end = self.listen(cx, read, out).err();
            // One wake of the writer covers all that this turn pushed.
            shard.ledger.borrow_mut().wake_writer();
        }
        if let Some(reason) = end {
            self.dialogue.say_why(reason, out);
        }

        let end = end.or(self.send(cx, out).err());
        self.dialogue.note_answers_written(!self.unsent.is_empty());
        let drained = self.mailbox.is_draining() && self.mailbox.under_way.get() == 0 && self.unsent.is_empty();
        match end.or(drained.then_some(EndReason::Drained)) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }

    /// Consumes what was left over, then reads for as long as there is something to read and room for it.
    fn listen(&mut self, cx: &mut Context<'_>, read: &mut [u8], out: &mut Vec<u8>) -> Result<(), EndReason> {
        if self.pending_is_whole {
            let held = self.hold(read);
            self.consume(&mut read[..held], out)?;
        }
        for _ in 0..READS_PER_TURN {
            if self.pending_is_whole {
                return Ok(());
            }
            if self.large.is_some() {
                if self.read_large(cx, out)?.is_pending() {
                    return Ok(());
                }
                continue;
            }
            let held = self.hold(read);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read[held..held + READ_BYTES]) {
                Poll::Pending => {
                    self.pending.extend_from_slice(&read[..held]);
                    return Ok(());
                }
                Poll::Ready(count) => {
                    let count = self.received(count)?;
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

    fn received(&self, count: std::io::Result<usize>) -> Result<usize, EndReason> {
        match count {
            Ok(0) => Err(EndReason::PeerClosed),
            Ok(count) => {
                self.shard.telemetry.bytes_in.add(count as u64);
                Ok(count)
            }
            Err(_) => Err(EndReason::ReadError),
        }
    }

    /// Hears every whole frame in `bytes` and keeps the rest.
    fn consume(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<(), EndReason> {
        let (consumed, next) = self.dialogue.hear(bytes, out)?;
        let rest = &bytes[consumed..];
        self.pending_is_whole = next == Next::Room;
        if let Next::Large(len) = next {
            let mut large = vec![0; len];
            large[..rest.len()].copy_from_slice(rest);
            self.large = Some(LargeFrame {
                bytes: large,
                filled: rest.len(),
            });
        } else if !rest.is_empty() {
            self.pending.extend_from_slice(rest);
        } else if self.pending.capacity() > 0 {
            // A session at rest owns no buffer.
            self.pending = Vec::new();
        }
        if next == Next::Room {
            self.shard.telemetry.bounds[Bound::RingFull].add(1);
            self.shard.wait_in_line(self.slot);
        }
        let incomplete = !rest.is_empty() && next != Next::Room;
        self.mailbox.note_frame(consumed > 0, incomplete, self.shard.now_ms());
        Ok(())
    }

    /// Reads a long answer to a question of ours straight into the buffer made for it.
    fn read_large(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Result<Poll<()>, EndReason> {
        let Some(large) = &mut self.large else {
            return Ok(Poll::Ready(()));
        };
        match Pin::new(&mut self.stream).poll_read(cx, &mut large.bytes[large.filled..]) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(count) => {
                let count = self.received(count)?;
                if let Some(large) = &mut self.large {
                    large.filled += count;
                }
            }
        }
        if let Some(mut large) = self.large.take_if(|large| large.filled == large.bytes.len()) {
            self.dialogue.hear(&mut large.bytes, out)?;
            self.mailbox.note_frame(true, false, self.shard.now_ms());
        }
        Ok(Poll::Ready(()))
    }

    /// Sends what earlier turns left, then this turn's output: one write where the socket takes it.
    fn send(&mut self, cx: &mut Context<'_>, out: &[u8]) -> Result<(), EndReason> {
        if out.is_empty() && self.unsent.is_empty() {
            return Ok(());
        }
        let mut rest = out;
        if self.unsent.is_empty() {
            rest = &rest[write(&self.shard, &mut self.stream, cx, rest)?..];
        }
        if self.unsent.len() + rest.len() > UNSENT_MAX {
            self.shard.telemetry.bounds[Bound::UnsentOutput].add(1);
            return Err(EndReason::UnsentOutput);
        }
        self.unsent.extend_from_slice(rest);
        while !self.unsent.is_empty() {
            let sent = write(&self.shard, &mut self.stream, cx, &self.unsent)?;
            if sent == 0 {
                return Ok(());
            }
            self.unsent.drain(..sent);
        }
        self.mailbox.sent_ms.set(self.shard.now_ms());
        self.unsent = Vec::new();
        Ok(())
    }
}

/// How many bytes the socket took; 0 means that the task is woken when it takes more.
fn write(shard: &Shard, stream: &mut TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, EndReason> {
    match Pin::new(stream).poll_write(cx, bytes) {
        Poll::Ready(Ok(sent)) => {
            shard.telemetry.bytes_out.add(sent as u64);
            shard.telemetry.writes.add(1);
            Ok(sent)
        }
        Poll::Ready(Err(_)) => Err(EndReason::WriteError),
        Poll::Pending => Ok(0),
    }
}
