//! What is said in a session: frames in, answers out. No socket here; [`super::session`] moves the bytes.

use std::cell::RefCell;
use std::rc::Rc;

use glommio::net::TcpStream;

use super::Shard;
use super::due::{Accepted, DueEntry};
use super::gateways::Gateway;
use super::handshake::end_of_inbound;
use super::mailbox::Mailbox;
use super::question::Question;
use super::session::Opening;
use super::slots::SlotKey;
use crate::ledger::{CandidateRow, Entry, MinerRow, ShareEntry};
use crate::telemetry::{Bound, EndReason};
use crate::wire::{
    ChannelKey, Coinbaser, CoinbaserRequest, FromGateway, HEADER_LEN, Inbound, LARGE_MAX, MINING_MAX, Opened, Outbound,
    Reason, Share, ShareResponse, Status,
};
use crate::work::{Context, GatewayMemory, Jobs, MinerRef, Refusal, Terms, judge};

/// What the session needs before it can hear more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes.
    Bytes,
    /// Room in the ring: a share was opened and waits.
    Room,
    /// A frame of this many bytes, header included, too long for the shard's buffer.
    Large(usize),
}

pub(super) struct Dialogue {
    shard: Rc<Shard>,
    mailbox: Rc<Mailbox>,
    slot: SlotKey,
    gateway_key: [u8; 32],
    gateway: Rc<RefCell<Gateway>>,
    inbound: Inbound,
    outbound: Outbound,
    key: ChannelKey,
    /// Keys for early frames; none once the session's own key is proved.
    former: Vec<ChannelKey>,
    terms: Option<Terms>,
    signed_config: Vec<u8>,
    jobs: Jobs,
    /// The plaintext of a share that found the ring full, and when its frame was complete.
    waiting: Option<(Vec<u8>, u64)>,
    last_coinbaser_id: u8,
    question: Option<Question>,
    /// When the frames of the answers in this turn's output were complete, ns of the shard's clock.
    answered: Vec<u64>,
}

impl Dialogue {
    /// Says the handshake response into `out`; gives back the connection and the bytes read behind HELLO.
    pub fn open(shard: &Rc<Shard>, slot: SlotKey, opening: Opening, out: &mut Vec<u8>) -> (TcpStream, Vec<u8>, Self) {
        let Opening {
            stream,
            hello,
            behind,
            skipped,
            key,
            response,
            signed_config,
            terms,
        } = opening;
        let gateway_key = hello.long_term.ed25519;
        let gateway = shard.gateways.borrow().find(&gateway_key).unwrap_or_else(|| {
            let memory = GatewayMemory::new();
            Rc::new(RefCell::new(Gateway::new(memory)))
        });
        let former = gateway.borrow_mut().begin_session(&key);
        let mailbox = shard.slots.borrow().find(slot).cloned().expect("the session was registered just now");
        let mut outbound = Outbound::pool(&hello);
        outbound.response(&response, out);
        let dialogue = Self {
            shard: shard.clone(),
            mailbox,
            slot,
            gateway_key,
            gateway,
            inbound: Inbound::new(&hello, skipped),
            outbound,
            key,
            former,
            terms: Some(terms),
            signed_config,
            jobs: Jobs::new(),
            waiting: None,
            last_coinbaser_id: 0,
            question: None,
            answered: Vec::new(),
        };
        (stream, behind, dialogue)
    }

    /// Encodes what others on the shard have left for this session.
    pub fn say_what_is_due(&mut self, out: &mut Vec<u8>) {
        let mailbox = self.mailbox.clone();
        if mailbox.take_config_durable() {
            self.outbound.mining_presigned(&self.key, &self.signed_config, out);
            self.signed_config = Vec::new();
        }
        mailbox.take_answers(|accepted| self.accept(accepted, out));
        if mailbox.take_ping() {
            self.outbound.ping(out);
            self.shard.telemetry.pings.add(1);
        }
        for line in mailbox.take_lines() {
            self.outbound.info(&self.key, &line, out);
        }
        if let Some(validate) = mailbox.take_question() {
            self.ask(validate, out);
        }
        if let Some(question) = self.question.take_if(|question| question.is_late(self.shard.now_ms())) {
            question.late();
        }
    }

    /// Opens and answers every whole frame in `bytes`. Says how many bytes it took and what it needs to go on.
    ///
    /// # Errors
    /// Why the session must end.
    pub fn hear(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<(usize, Next), EndReason> {
        if let Some((plain, complete_ns)) = self.waiting.take() {
            if !self.shard.takes_a_share() {
                self.waiting = Some((plain, complete_ns));
                return Ok((0, Next::Room));
            }
            self.hear_message(&plain, complete_ns, out)?;
        }
        let complete_ns = self.shard.now_ns();
        let mut consumed = 0;
        loop {
            let rest = &mut bytes[consumed..];
            let payload_max = if self.question.is_some() { LARGE_MAX } else { MINING_MAX };
            let Some(len) = self.inbound.frame_len(rest, payload_max).map_err(end_of_inbound)? else {
                return Ok((consumed, Next::Bytes));
            };
            if len > rest.len() {
                let large = len > HEADER_LEN + MINING_MAX;
                return Ok((consumed, if large { Next::Large(len) } else { Next::Bytes }));
            }
            let opened = self.inbound.open(&mut rest[..len], &self.key, &self.former);
            consumed += len;
            self.shard.telemetry.frames_in.add(1);
            match opened.map_err(end_of_inbound)? {
                Opened::Skipped => self.shard.telemetry.early_skipped.add(1),
                Opened::Plain { plain, early, first } => {
                    if early {
                        self.shard.telemetry.early_opened.add(1);
                    }
                    if first {
                        self.prove();
                    }
                    if is_share(plain) && !self.shard.takes_a_share() {
                        self.waiting = Some((plain.to_vec(), complete_ns));
                        return Ok((consumed, Next::Room));
                    }
                    self.hear_message(plain, complete_ns, out)?;
                }
            }
        }
    }

    /// Asks the gateway about a job, where no question is open.
    fn ask(&mut self, validate: Validate, out: &mut Vec<u8>) {
        if self.question.is_some() {
            return question::reply(&validate, ValidateOutcome::Busy);
        }
        let now_ms = self.shard.now_ms();
        self.question = Question::open(validate, &self.shard.settings.large_answers, now_ms);
        if let Some(question) = &self.question {
            self.mailbox.answer_until_ms.set(Some(now_ms + ANSWER_DEADLINE_MS));
            self.outbound.mining(&self.key, &question.message(), out);
        }
    }

    /// Tells the gateway's log why the session ends, where that helps.
    pub fn say_why(&mut self, reason: EndReason, out: &mut Vec<u8>) {
        if let Some(line) = reason.line_for_gateway() {
            self.outbound.info(&self.key, line, out);
        }
    }

    /// Records the time to the written answer; an output that the socket has not taken whole is not written yet, and
    /// its answers are recorded with the turn that it leaves with.
    pub fn note_answers_written(&mut self, unsent: bool) {
        if unsent || self.answered.is_empty() {
            return;
        }
        let now_ns = self.shard.now_ns();
        for complete_ns in self.answered.drain(..) {
            self.shard.telemetry.frame_to_answer.record(now_ns.saturating_sub(complete_ns));
        }
        self.answered.shrink_to(ANSWERED_KEPT);
    }

    pub fn close(&mut self) {
        if let Some(question) = self.question.take() {
            question.session_ended();
        }
        self.gateway.borrow_mut().end_session(self.slot, self.shard.unix_s());
    }

    /// The first good frame under the session's key proves who is there: only now does this session count for its
    /// gateway and displace an older one.
    fn prove(&mut self) {
        self.former.clear();
        let shard = self.shard.clone();
        let mut gateways = shard.gateways.borrow_mut();
        match gateways.find(&self.gateway_key) {
            Some(known) if !Rc::ptr_eq(&known, &self.gateway) => {
                // Another first session of this gateway was proved meanwhile: its memory is the one that counts.
                known.borrow_mut().begin_session(&self.key);
                self.gateway = known;
            }
            Some(_) => {}
            None => {
                if !gateways.remember(self.gateway_key, self.gateway.clone(), shard.unix_s()) {
                    shard.telemetry.bounds[Bound::Gateways].add(1);
                }
            }
        }
        let mut gateway = self.gateway.borrow_mut();
        if let Some(terms) = self.terms.take() {
            gateway.memory.learn_terms(terms, shard.unix_s());
        }
        if let Some(displaced) = gateway.prove_session(&self.key, self.slot)
            && let Some(older) = shard.slots.borrow().find(displaced)
        {
            older.end(EndReason::Displaced);
        }
    }

    fn hear_message(&mut self, plain: &[u8], complete_ns: u64, out: &mut Vec<u8>) -> Result<(), EndReason> {
        match FromGateway::decode(plain).map_err(|_| EndReason::BadMessage)? {
            FromGateway::Share(share) => self.hear_share(&share, complete_ns, out),
            FromGateway::CoinbaserRequest(request) => self.dictate(&request, out),
            FromGateway::Validation(answer) => match self.question.take() {
                Some(question) => question.answered(&answer, plain.len()),
                // Its question may have been given up as late.
                None => self.shard.telemetry.unasked_validations.add(1),
            },
        }
        Ok(())
    }

    fn hear_share(&mut self, share: &Share<'_>, complete_ns: u64, out: &mut Vec<u8>) {
        let shard = self.shard.clone();
        let judged = {
            let context = Context {
                chain: &shard.settings.chain,
                now: shard.unix_s(),
                miners: &shard.miners.borrow(),
            };
            judge(share, &mut self.jobs, &mut self.gateway.borrow_mut().memory, &context)
        };
        shard.telemetry.frame_to_verdict.record(shard.now_ns().saturating_sub(complete_ns));
        if let Some(candidate) = judged.candidate {
            // Durable before anything else, whatever the verdict on it as a share.
            shard.telemetry.candidates.add(1);
            let row = CandidateRow::new(candidate, self.gateway_key, shard.unix_ms());
            shard.push(Entry::Candidate(Box::new(row)), DueEntry::Nobody);
        }
        let accepted = judged.verdict.and_then(|accepted| {
            let miner = match accepted.miner {
                MinerRef::Known(miner) => miner,
                MinerRef::New => self.learn_miner(share.username)?,
            };
            Ok((accepted, miner))
        });
        match accepted {
            Ok((accepted, miner)) => {
                let entry = ShareEntry {
                    prime_id: accepted.prime_id,
                    hash64: accepted.hash64,
                    parent: accepted.parent,
                    pot: accepted.pot,
                    miner: miner.0,
                    time_ms: shard.unix_ms(),
                    enqueued_ns: shard.now_ns(),
                };
                let answer = Accepted {
                    nonce: share.nonce,
                    target_pot: share.target_pot,
                    job_id: share.job_id,
                    complete_ns,
                };
                shard.push(Entry::Share(entry), DueEntry::Answer { to: self.slot, answer });
                self.mailbox.under_way.set(self.mailbox.under_way.get() + 1);
            }
            Err(refusal) => self.refuse(share, refusal, complete_ns, out),
        }
    }

    /// A payee or worker row is made by an accepted share alone, and before it.
    fn learn_miner(&self, username: &[u8]) -> Result<crate::work::MinerId, Refusal> {
        let (id, new) = self.shard.miners.borrow_mut().learn(username)?;
        if let Some(new) = new {
            let row = MinerRow {
                script: new.script,
                worker: new.worker,
            };
            let entry = Entry::Miner {
                local: id.0,
                miner: Box::new(row),
            };
            self.shard.push(entry, DueEntry::Nobody);
        }
        Ok(id)
    }

    fn accept(&mut self, accepted: Accepted, out: &mut Vec<u8>) {
        let response = ShareResponse {
            status: Status::Accepted,
            reason: 0,
            nonce: accepted.nonce,
            target_pot: accepted.target_pot,
            job_id: accepted.job_id,
        };
        self.outbound.mining(&self.key, &response, out);
        self.answered.push(accepted.complete_ns);
    }

    fn refuse(&mut self, share: &Share<'_>, refusal: Refusal, complete_ns: u64, out: &mut Vec<u8>) {
        self.shard.telemetry.shares_refused[refusal.reason].add(1);
        if let Some(bound) = refusal.bound {
            self.shard.telemetry.bounds[Bound::from(bound)].add(1);
        }
        let response = ShareResponse {
            status: Status::Rejected,
            reason: refusal.reason.code(),
            nonce: share.nonce,
            target_pot: share.target_pot,
            job_id: share.job_id,
        };
        self.outbound.mining(&self.key, &response, out);
        self.answered.push(complete_ns);
    }

    /// Until the books exist a split has no outputs: all goes to the pool's script.
    fn dictate(&mut self, request: &CoinbaserRequest<'_>, out: &mut Vec<u8>) {
        self.shard.telemetry.coinbaser_requests.add(1);
        self.last_coinbaser_id = self.last_coinbaser_id % u8::MAX + 1;
        let split = Coinbaser::without_outputs(request.value, self.last_coinbaser_id);
        self.outbound.mining(&self.key, &split, out);
    }
}
