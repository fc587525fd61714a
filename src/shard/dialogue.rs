//! What is said in a session: frames in, answers out. No socket here; [`super::session`] moves the bytes.

use std::cell::RefCell;
use std::rc::Rc;

use glommio::net::TcpStream;

use super::Shard;
use super::arrival::Came;
use super::dictation::Dictation;
use super::due::DueEntry;
use super::gateways::{Ended, Gateway, Gateways, Proved};
use super::guarding::Watch;
use super::handshake::end_of_inbound;
use super::inbox::Validate;
use super::large::LargeFrame;
use super::mailbox::Mailbox;
use super::policy::Origin;
use super::pool_keys::Told;
use super::question;
use super::questions::{LargeCame, Questions};
use super::session::{FRAME_MAX, Opening, Output};
use super::slots::SlotKey;
use super::split_use::SplitUse;
use super::steering::Retelling;
use super::stop::Phase;
use super::unproved::Newcomer;
use crate::identity::KeyUse;
use crate::ledger::{Entry, Mark, SessionMark};
use crate::telemetry::{Bound, EndReason};
use crate::wire::{ChannelKey, FromGateway, FromPool, Inbound, MAC_LEN, MINING_MAX, Opened, Outbound};
use crate::work::{Checked, Finding, Jobs, Purpose, TemplateChoice, Terms, ValidateOutcome};

/// The longest message that is not an answer to a question of ours.
const PLAIN_MAX: usize = MINING_MAX - MAC_LEN;

/// What the session needs before it can hear more.
pub(super) enum Next {
    /// More bytes.
    Bytes,
    /// Room in the ring: a share was opened and waits.
    Room,
    /// A frame of `len` bytes, header included, too long for the shard's buffer. One that nobody waits for any more is passed
    /// over.
    Large { len: usize, awaited: Option<Purpose> },
}

pub(super) struct Dialogue {
    pub(super) shard: Rc<Shard>,
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) slot: SlotKey,
    pub(super) gateway_key: [u8; 32],
    /// The pool's long-term key that the gateway has.
    pub(super) pool_key: KeyUse,
    pub(super) told_of_key: Option<Told>,
    pub(super) origin: Origin,
    /// Addresses of payees whom the policy does not admit, and the gateway has heard of.
    pub(super) told_of_payees: Vec<Box<[u8]>>,
    /// The gateway's Ed25519 key of this session.
    pub(super) session_key: [u8; 32],
    pub(super) gateway: Rc<RefCell<Gateway>>,
    pub(super) outbound: Outbound,
    pub(super) key: ChannelKey,
    pub(super) jobs: Jobs,
    inbound: Inbound,
    /// Keys for early frames; none once the session's own key is proved.
    former: Vec<ChannelKey>,
    pub(super) prime_id: u32,
    /// None once the gateway has learnt them, with the proof.
    terms: Option<Terms>,
    pub(super) proof: Proof,
    /// None where nobody steers.
    pub(super) retelling: Option<Retelling>,
    /// Empty once it was said.
    signed_config: Vec<u8>,
    /// A new block was told of, and the socket has not taken that yet; when the pool heard of it.
    told_of_block_ns: Option<u64>,
    /// The plaintext of a share that found the ring full.
    waiting: Option<Vec<u8>>,
    /// The split that the gateway waits for.
    pub(super) dictation: Dictation,
    pub(super) split_use: SplitUse,
    /// What the shares refused since the guards last looked weigh.
    pub(super) refused_weight: u32,
    questions: Questions,
}

/// Whether the gateway has shown that it is there, by a frame under the session's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Missing,
    /// Shown, and to be marked in the ledger.
    Unmarked {
        /// The gateway's last proven session before this one, by `prime_id`.
        replaces: Option<u32>,
    },
    Marked,
}

impl Proof {
    pub fn is_marked(self) -> bool {
        self == Self::Marked
    }
}

/// What the ledger has still to hear of sessions that have ended, by `prime_id`.
pub(super) struct LastMarks(Vec<(u32, Mark)>);

impl Dialogue {
    /// Says the handshake response into `out`; gives back the connection and the bytes read behind HELLO.
    pub fn open(
        shard: &Rc<Shard>,
        slot: SlotKey,
        mailbox: Rc<Mailbox>,
        opening: Opening,
        out: &mut Output,
    ) -> (TcpStream, Watch, Vec<u8>, Self) {
        let Opening {
            stream,
            peer,
            accepted: _,
            watch,
            hello,
            pool_key,
            behind,
            skipped,
            key,
            response,
            signed_config,
            terms,
            signer,
        } = opening;
        let min_diff = terms.min_diff;
        let retelling = shard.settings.steering.map(|rule| {
            mailbox.steer_by(rule, min_diff, shard.now_ms());
            Retelling::new(signer, hello.long_term, min_diff)
        });
        let gateway_key = hello.long_term.ed25519;
        let gateway = shard.gateways.borrow_mut().meet(gateway_key);
        // Of a stranger too: whoever recorded it may not use it again.
        gateway.borrow_mut().meet_hello(&hello.session.ed25519);
        let (former, displaced) = gateway.borrow_mut().begin_session(Newcomer {
            slot,
            terms: terms.clone(),
            key: key.clone(),
            from: peer.ip(),
        });
        if let Some(displaced) = displaced.and_then(|slot| shard.slots.borrow().find(slot).cloned()) {
            displaced.end(EndReason::Unproved);
        }
        let mut outbound = Outbound::pool(&hello);
        outbound.response(&response, &mut out.bytes);
        let dialogue = Self {
            shard: shard.clone(),
            mailbox,
            slot,
            gateway_key,
            pool_key: KeyUse::begin(pool_key, shard.index),
            told_of_key: None,
            origin: Origin::of(peer.ip(), &hello),
            told_of_payees: Vec::new(),
            session_key: hello.session.ed25519,
            gateway,
            outbound,
            key,
            jobs: jobs_of(shard, terms.prime_id),
            inbound: Inbound::new(&hello, skipped),
            former,
            prime_id: terms.prime_id,
            terms: Some(terms),
            proof: Proof::Missing,
            retelling,
            signed_config,
            told_of_block_ns: None,
            waiting: None,
            dictation: Dictation::default(),
            split_use: SplitUse::default(),
            refused_weight: 0,
            questions: Questions::default(),
        };
        (stream, watch, behind, dialogue)
    }

    /// Encodes what others on the shard have left for this session.
    pub fn say_what_is_due(&mut self, out: &mut Output) {
        let mailbox = self.mailbox.clone();
        if mailbox.take_config_durable() && !self.retelling.as_mut().is_some_and(Retelling::note_durable) {
            self.outbound
                .mining_presigned(&self.key, &self.signed_config, &mut out.bytes);
            self.signed_config = Vec::new();
        }
        if mailbox.take_policy_changed() {
            self.follow_policy();
        }
        if self.signed_config.is_empty() && mailbox.take_keys_changed() {
            self.say_newer_key(out);
        }
        mailbox.take_answers(|accepted| self.accept(accepted, out));
        if let Some(heard_ns) = mailbox.take_new_block()
            && self.signed_config.is_empty()
        {
            // A gateway that waits for its CONFIG makes its first templates after it.
            self.outbound.mining(&self.key, &FromPool::NewBlock, &mut out.bytes);
            self.told_of_block_ns = Some(heard_ns);
        }
        if self.questions.is_forged() {
            mailbox.end(EndReason::BadMac);
        }
        if mailbox.take_ping() {
            self.outbound.ping(&mut out.bytes);
            self.shard.telemetry.pings.add(1);
        }
        if self.is_configured() {
            for line in mailbox.take_lines() {
                self.outbound.info(&self.key, &line, &mut out.bytes);
            }
        }
        if let Some(validate) = mailbox.take_question() {
            self.ask(validate, out);
        }
        for checked in mailbox.take_checked() {
            self.hear_checked(checked, out);
        }
        if mailbox.take_question_late() {
            self.questions.give_up_late(self.shard.now_ms());
            self.note_open_question();
        }
        if self.retelling.is_some() {
            self.steer(out);
        }
    }

    /// Holds a job to what its template is: refuses its shares from now on, and tells the gateway why; or those of coinbases that
    /// do not fit. The slot may have another job by now. The gateway's memory has heard of it before.
    fn hear_checked(&mut self, checked: Checked, out: &mut Output) {
        let Checked {
            slot, number, template, ..
        } = checked;
        let is_withheld = self.gateway.borrow().memory.templates.is_withheld();
        match checked.found {
            Finding::Condemned(why) => {
                let condemned = self.jobs.condemn(&template);
                if condemned > 0 {
                    self.shard.telemetry.jobs_condemned.add(condemned as u64);
                    let line = format!("millrace: no block can come of job {slot}, its shares are refused: {why}");
                    self.outbound.info(&self.key, &line, &mut out.bytes);
                }
            }
            Finding::Unshown(why) if is_withheld => {
                self.jobs.withhold(slot, number);
                let line = format!(
                    "millrace: the transactions of job {slot} are not shown, shares are refused until some are: {why}"
                );
                self.outbound.info(&self.key, &line, &mut out.bytes);
            }
            Finding::Unshown(_) => {}
            Finding::Shown(room) => {
                self.jobs.hold_to(slot, number, room);
            }
            Finding::Unjudged => self.jobs.look_again(slot, number),
        }
        if !is_withheld {
            self.jobs.release();
        }
    }

    /// The socket has taken all that was said.
    pub fn all_is_sent(&mut self) {
        if let Some(heard_ns) = self.told_of_block_ns.take() {
            let waited_ns = self.shard.now_ns().saturating_sub(heard_ns);
            self.shard.telemetry.block_to_gateway.record(waited_ns);
        }
    }

    /// Opens and answers every whole frame in `bytes`, which `came` then. Says
    /// how many bytes it took and what it needs to go on.
    ///
    /// # Errors
    /// Why the session must end.
    pub fn hear(&mut self, bytes: &mut [u8], came: Came, out: &mut Output) -> Result<(usize, Next), EndReason> {
        if let Some(plain) = self.waiting.take() {
            if !self.shard.takes_a_share(&self.mailbox) {
                self.waiting = Some(plain);
                return Ok((0, Next::Room));
            }
            self.hear_message(&plain, came, out)?;
        }
        let mut consumed = 0;
        loop {
            let rest = &mut bytes[consumed..];
            let len = self.inbound.frame_len(rest, self.questions.payload_max());
            let Some(len) = len.map_err(|error| end_of_inbound(&self.shard, error))? else {
                return Ok((consumed, Next::Bytes));
            };
            let Some(frame) = rest.get_mut(..len) else {
                if len <= FRAME_MAX {
                    return Ok((consumed, Next::Bytes));
                }
                let awaited = self.questions.large_begins(len);
                self.note_open_question();
                return Ok((consumed, Next::Large { len, awaited }));
            };
            consumed += len;
            if !self.hear_frame(frame, came, out)? {
                return Ok((consumed, Next::Room));
            }
        }
    }

    /// The same for the one frame that [`Next::Large`] told of, now whole. It is passed on as it is: nothing but the answer
    /// to a question may be as large, and to open it takes longer than other sessions should wait.
    ///
    /// # Errors
    /// Nobody is asked before a frame under the session's key has come.
    pub fn hear_large(&mut self, frame: LargeFrame) -> Result<(), EndReason> {
        let nonce = self.inbound.pass_on().ok_or(EndReason::FrameTooLong)?;
        self.shard.telemetry.frames_in.add(1);
        match self.questions.hear_large(frame.whole(), &self.key, nonce) {
            LargeCame::Answer => {}
            LargeCame::InVain => self.shard.telemetry.bounds[Bound::LargeAnswers].add(1),
            LargeCame::Unasked => self.shard.telemetry.validations_unasked.add(1),
        }
        self.note_open_question();
        Ok(())
    }

    /// Whether somebody waits for the large frame that arrives.
    pub fn awaits_large(&self) -> bool {
        self.questions.awaits_large()
    }

    /// Tells the gateway's log why the session ends, where that helps.
    pub fn say_why(&mut self, reason: EndReason, out: &mut Output) {
        if let Some(line) = reason.line_for_gateway() {
            self.outbound.info(&self.key, line, &mut out.bytes);
        }
    }

    /// Says a line for the gateway's log.
    pub fn say_line(&mut self, line: &str, out: &mut Output) {
        self.outbound.info(&self.key, line, &mut out.bytes);
    }

    /// Whether CONFIG was said.
    pub fn is_configured(&self) -> bool {
        self.signed_config.is_empty()
    }

    /// Whether CONFIG was said, and no frame under the session's own key has come. One without CONFIG had nothing to say.
    pub fn owes_proof(&self) -> bool {
        self.is_configured() && self.proof == Proof::Missing
    }

    /// What the shares weigh that were refused since this was last asked, by [`crate::guard::refusal_weight`].
    pub fn take_refused_weight(&mut self) -> u32 {
        std::mem::take(&mut self.refused_weight)
    }

    /// Marks in the ledger that the session is proved, or that what its gateway was left is its own, where that is due. False:
    /// there is no room for it yet.
    pub fn push_proof(&mut self) -> bool {
        let due = match self.proof {
            Proof::Marked => false,
            Proof::Unmarked { .. } => true,
            Proof::Missing => self.gateway.borrow().has_unmarked(),
        };
        if due && self.shard.room_for(&self.mailbox) == 0 {
            return false;
        }
        if due && self.proof == Proof::Missing {
            let adopts = self.gateway.borrow_mut().take_unmarked();
            let mark = mark_of(&self.shard, self.prime_id, Mark::Adopted { adopts });
            self.shard.push_for(&self.mailbox, mark, DueEntry::Nobody);
        }
        if let Proof::Unmarked { replaces } = self.proof {
            let proven = Mark::Proven {
                key: Box::new(self.key.clone()),
                replaces,
                adopts: self.gateway.borrow_mut().take_adopted(),
            };
            let mark = mark_of(&self.shard, self.prime_id, proven);
            self.shard.push_for(&self.mailbox, mark, DueEntry::Nobody);
            self.proof = Proof::Marked;
        }
        true
    }

    /// The session has ended; its connection is closed.
    pub fn close(mut self) -> LastMarks {
        self.questions.session_ended();
        if let Some(validate) = self.mailbox.take_question() {
            question::reply(&validate, ValidateOutcome::SessionEnded);
        }
        let ended = Ended {
            session: self.slot,
            prime_id: self.prime_id,
            told: self.signed_config.is_empty(),
        };
        let mut gateways = self.shard.gateways.borrow_mut();
        gateways.end_session(&self.gateway_key, &self.gateway, ended, self.shard.steady_s());
        let gone = gateways.take_gone();
        drop(gateways);
        let key = Box::new(self.key);
        // These marks wait for room by themselves. Until they have it another session may count shares of what was adopted, so
        // what is unmarked stays so, and that session marks it once more before them.
        let adopts = self.gateway.borrow().adopted();
        let has_work = self.gateway.borrow().memory.has_work();
        let ended = Mark::Ended { has_work };
        let marks = match self.proof {
            Proof::Missing if gone.contains(&self.prime_id) => vec![],
            Proof::Unmarked { replaces } => vec![Mark::Proven { key, replaces, adopts }, ended],
            Proof::Missing if self.gateway.borrow().has_unmarked() => vec![Mark::Adopted { adopts }, ended],
            Proof::Missing | Proof::Marked => vec![ended],
        };
        let mut last = LastMarks::abandon(gone);
        // It may be among those that are gone: what became of it is said before.
        let own = marks.into_iter().map(|mark| (self.prime_id, mark));
        last.0.splice(..0, own);
        last
    }

    /// Opens one whole frame and answers it. False: it is a share, and waits for room in the ring.
    fn hear_frame(&mut self, frame: &mut [u8], came: Came, out: &mut Output) -> Result<bool, EndReason> {
        self.shard.telemetry.frames_in.add(1);
        let opened = self.inbound.open(frame, &self.key, &self.former);
        let (plain, early, first) = match opened.map_err(|error| end_of_inbound(&self.shard, error))? {
            Opened::Skipped => {
                self.shard.telemetry.early_skipped.add(1);
                return Ok(true);
            }
            Opened::Plain { plain, early, first } => (plain, early, first),
        };
        if early {
            self.shard.telemetry.early_opened.add(1);
            // Its shares may count from now on, so it is held to what known ones may take.
            self.remember(&mut self.shard.gateways.borrow_mut());
            self.adopt();
        }
        if first {
            self.prove();
        }
        if FromGateway::is_share(plain) {
            if plain.len() > PLAIN_MAX {
                return Err(EndReason::FrameTooLong);
            }
            if !self.shard.takes_a_share(&self.mailbox) {
                self.waiting = Some(plain.to_vec());
                return Ok(false);
            }
        }
        self.hear_message(plain, came, out)?;
        Ok(true)
    }

    /// The first good frame under the session's key proves who is there: only now does this session count for its
    /// gateway and displace an older one.
    fn prove(&mut self) {
        self.former = Vec::new();
        let shard = self.shard.clone();
        let mut gateways = shard.gateways.borrow_mut();
        match gateways.find(&self.gateway_key) {
            Some(known) if !Rc::ptr_eq(&known, &self.gateway) => {
                // Another first session of this gateway was proved meanwhile: its memory is the one that counts.
                gateways.move_session(&self.gateway, &known, self.prime_id);
                known.borrow_mut().meet_hello(&self.session_key);
                self.gateway = known;
            }
            Some(_) if gateways.knows(&self.gateway_key) => shard.telemetry.sessions_resumed.add(1),
            _ => {}
        }
        if !self.remember(&mut gateways) {
            shard.telemetry.bounds[Bound::Gateways].add(1);
        }
        shard.telemetry.gateways.set(gateways.len() as u64);
        drop(gateways);
        self.adopt();
        let mut gateway = self.gateway.borrow_mut();
        // A later session may have been proved first, and has taken them over; shares may have come under them since.
        if let Some(terms) = self.terms.take()
            && !gateway.memory.resume_terms(self.prime_id)
        {
            if gateway.memory.learn_terms(terms, shard.steady_s()) {
                shard.telemetry.bounds[Bound::Terms].add(1);
            }
            if !gateway.is_unproved(self.prime_id) {
                gateway.memory.note_named(self.prime_id);
            }
        }
        gateway.note_home(self.origin.address);
        let Proved { displaced, replaces } = gateway.prove_session(self.prime_id, &self.key, self.slot);
        self.proof = Proof::Unmarked { replaces };
        if let Some(displaced) = displaced
            && let Some(older) = shard.slots.borrow().find(displaced)
        {
            older.end(EndReason::Displaced);
        }
    }

    /// Its gateway is a stranger no longer. False: as many are known as may be.
    fn remember(&self, gateways: &mut Gateways) -> bool {
        gateways.knows(&self.gateway_key)
            || gateways.remember(self.gateway_key, self.gateway.clone(), self.shard.steady_s())
    }

    /// A frame of the gateway itself has come: what it had not proved before is its own.
    fn adopt(&mut self) {
        let now_s = self.shard.steady_s();
        if self.gateway.borrow_mut().adopt_before(self.prime_id, now_s) {
            self.shard.telemetry.bounds[Bound::Terms].add(1);
        }
    }

    fn hear_message(&mut self, plain: &[u8], came: Came, out: &mut Output) -> Result<(), EndReason> {
        match FromGateway::decode(plain).map_err(|_| EndReason::BadMessage)? {
            FromGateway::Share(share) => self.hear_share(&share, came.read_ns, out),
            FromGateway::Validation(answer) => {
                if !self.questions.hear(&answer) {
                    self.shard.telemetry.validations_unasked.add(1);
                }
                self.note_open_question();
            }
            // An answer to a question of ours is the only message that may be large.
            FromGateway::CoinbaserRequest(_) if plain.len() > PLAIN_MAX => return Err(EndReason::FrameTooLong),
            FromGateway::CoinbaserRequest(request) => self.hear_coinbaser_request(&request, came.since_ns, out),
        }
        Ok(())
    }

    /// Asks the gateway about a job.
    fn ask(&mut self, validate: Validate, out: &mut Output) {
        if let Some(message) = self.questions.ask(validate, self.shard.now_ms()) {
            self.outbound.mining(&self.key, &message, &mut out.bytes);
        }
        self.note_open_question();
    }

    /// Has the shard wake the session when the time of the open question is over.
    fn note_open_question(&self) {
        self.mailbox.answer_until_ms.set(self.questions.until_ms());
    }
}

impl LastMarks {
    /// Nothing is kept of these.
    pub fn abandon(prime_ids: Vec<u32>) -> Self {
        Self(
            prime_ids
                .into_iter()
                .map(|prime_id| (prime_id, Mark::Abandoned))
                .collect(),
        )
    }

    /// Waits for room and pushes them, for as long as anything is to reach the disk. What does not is wiped at a later start.
    pub async fn push(self, shard: &Rc<Shard>) {
        for (prime_id, mark) in self.0 {
            if !shard.wait_for_room(Phase::Draining).await {
                return;
            }
            shard.push(mark_of(shard, prime_id, mark), DueEntry::Nobody);
            shard.wake_writer();
        }
    }
}

/// The slots of a session that begins. Jobs are counted from its `prime_id` on, so that no two sessions share a number.
fn jobs_of(shard: &Shard, prime_id: u32) -> Jobs {
    match &shard.settings.templates {
        None => Jobs::new(),
        Some(checks) => {
            let choice = TemplateChoice::new(checks.one_in, shard.settings.seed(prime_id));
            Jobs::checked(choice, u64::from(prime_id) << 32)
        }
    }
}

pub(super) fn mark_of(shard: &Shard, prime_id: u32, mark: Mark) -> Entry {
    Entry::Mark(SessionMark {
        prime_id,
        mark,
        time_ms: shard.unix_ms(),
    })
}
