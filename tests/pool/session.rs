//! A gateway's end of a session: what it says, well or badly, and what it hears.

use std::collections::VecDeque;
use std::time::Instant;

use millrace::wire::{
    ChannelKey, Encode, FromPool, FromPoolFrame, GatewayInbound, Header, MAC_LEN, Nonce, Outbound, PublicKeys, Reason,
    Share, ShareResponse, Status, ValidationAsk,
};
use millrace::work::{Ask, MinDiff, Terms};

use super::PATIENCE;
use super::gateway::mining_header;
use super::line::Line;
use super::work::{Job, Recipe, Template};

/// A session under way. PINGs and INFO lines may come between answers.
pub struct Session {
    pub line: Line,
    pub key: ChannelKey,
    pub motd: Vec<u8>,
    pub pool_session: PublicKeys,
    inbound: GatewayInbound,
    outbound: Outbound,
    /// That of the next message, for payloads sealed by hand.
    nonce: Nonce,
    terms: Terms,
    /// Lines for the gateway's log so far.
    pub infos: Vec<String>,
    /// Answers read while another was awaited.
    answers: VecDeque<ShareResponse>,
    /// Questions about jobs that came meanwhile, with the slot of each.
    questions: VecDeque<(u8, Ask)>,
    out: Vec<u8>,
}

/// What a handshake comes to.
pub struct Opening {
    pub line: Line,
    pub key: ChannelKey,
    pub motd: Vec<u8>,
    pub pool_session: PublicKeys,
    pub inbound: GatewayInbound,
    pub outbound: Outbound,
    pub nonce: Nonce,
}

/// What a session hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Config(Terms),
    Answer(ShareResponse),
    Split {
        value: u64,
        coinbaser_id: u8,
        /// Satoshi and output script.
        outputs: Vec<(u64, Vec<u8>)>,
    },
    Info(String),
    /// The pool wants the transactions of the job in a slot.
    Asked {
        job: u8,
        ask: Ask,
    },
    /// A new block is there.
    NewBlock,
    Ping,
    /// A message that this pool has no reason to send.
    Other(String),
    /// The connection has ended.
    Closed,
}

impl Session {
    /// Waits for CONFIG; none where the pool closes the connection first.
    pub fn begin(opening: Opening) -> Option<Self> {
        let mut session = Self::open(opening);
        // An early share that is refused waits for no disk, nor does the last word to who sends what is no frame; a gateway takes
        // both at any time.
        let mut refused = Vec::new();
        session.terms = loop {
            match session.next() {
                Heard::Config(terms) => break terms,
                Heard::Answer(answer) if answer.status == Status::Rejected => refused.push(answer),
                Heard::Info(_) => {}
                Heard::Closed => return None,
                other => panic!("CONFIG comes first, not {other:?}"),
            }
        };
        session.answers.extend(refused);
        Some(session)
    }

    /// Has shaken hands and waits for nothing.
    pub fn open(opening: Opening) -> Self {
        let nowhere = Terms::new(u32::MAX, &[0], &[], MinDiff::new(1).expect("a power of two"));
        Self {
            line: opening.line,
            key: opening.key,
            motd: opening.motd,
            pool_session: opening.pool_session,
            inbound: opening.inbound,
            outbound: opening.outbound,
            nonce: opening.nonce,
            terms: nowhere,
            infos: Vec::new(),
            answers: VecDeque::new(),
            questions: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// What CONFIG said.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn prime_id(&self) -> u32 {
        self.terms.prime_id
    }

    /// A coinbase as the session's terms want it.
    pub fn recipe(&self, job: &Job) -> Recipe {
        Recipe::new(job, &self.terms)
    }

    /// A template in `slot` upon `parent` under the session's terms.
    pub fn template(&self, slot: u8, parent: u8) -> Template {
        Template::new(Job::new(slot, parent), &self.terms)
    }

    pub fn push(&mut self, message: &impl Encode) {
        self.outbound.mining(&self.key, message, &mut self.out);
        self.nonce.advance();
    }

    /// A message under another key than the session's.
    pub fn push_under(&mut self, key: &ChannelKey, message: &impl Encode) {
        self.outbound.mining(key, message, &mut self.out);
        self.nonce.advance();
    }

    /// A plaintext of any bytes, well sealed.
    pub fn push_plain(&mut self, plain: &[u8]) {
        let mut payload = vec![0; MAC_LEN];
        payload.extend_from_slice(plain);
        self.key.seal(&self.nonce, &mut payload);
        self.nonce.advance();
        self.push_raw(mining_header(payload.len()), &payload);
    }

    /// A frame with any header and payload, masked as the next.
    pub fn push_raw(&mut self, header: Header, payload: &[u8]) {
        self.outbound.raw(header, payload, &mut self.out);
    }

    /// Drops all but the first `len` bytes of what was pushed.
    pub fn cut_pushed(&mut self, len: usize) {
        assert!(len < self.out.len());
        self.out.truncate(len);
    }

    /// What was pushed, to be spoilt.
    pub fn pushed(&mut self) -> &mut [u8] {
        &mut self.out
    }

    /// Writes all that was pushed at once.
    pub fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.line.write(&out);
    }

    /// The same towards a pool that may have closed; false where it has.
    pub fn flush_unless_closed(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        self.line.write_unless_closed(&out)
    }

    pub fn send(&mut self, message: &impl Encode) {
        self.push(message);
        self.flush();
    }

    /// Sends a share and waits for the verdict on it.
    pub fn submit(&mut self, share: &Share<'_>) -> Result<(), Reason> {
        self.send(share);
        self.verdict(share)
    }

    /// Waits for the verdict on a share that was sent. Answers to others are kept for those who ask.
    pub fn verdict(&mut self, share: &Share<'_>) -> Result<(), Reason> {
        let names = |answer: &ShareResponse| {
            (answer.nonce, answer.target_pot, answer.job_id) == (share.nonce, share.target_pot, share.job_id)
        };
        if let Some(at) = self.answers.iter().position(names) {
            return verdict(&self.answers.remove(at).expect("it was found there"));
        }
        loop {
            let answer = self.answer().expect("the session goes on until the share is answered");
            if names(&answer) {
                return verdict(&answer);
            }
            self.answers.push_back(answer);
        }
    }

    /// The next answer from the line; none at the end of the connection.
    pub fn answer(&mut self) -> Option<ShareResponse> {
        loop {
            match self.next_but_info() {
                Heard::Answer(answer) => return Some(answer),
                Heard::Asked { job, ask } => self.questions.push_back((job, ask)),
                Heard::Closed => return None,
                other => panic!("an answer is due, not {other:?}"),
            }
        }
    }

    /// The next question about a job, and its slot.
    pub fn question(&mut self) -> (u8, Ask) {
        if let Some(question) = self.questions.pop_front() {
            return question;
        }
        loop {
            match self.next_but_info() {
                Heard::Asked { job, ask } => return (job, ask),
                // One of ours may have come of its work.
                Heard::NewBlock => {}
                other => panic!("its transactions are to be asked for, not {other:?}"),
            }
        }
    }

    /// No question came before the last answer but those that were heard.
    pub fn assert_unasked(&self) {
        assert!(self.questions.is_empty(), "{:?}", self.questions);
    }

    /// Reads to the end of the connection: the answers that came until then.
    pub fn drain(&mut self) -> Vec<ShareResponse> {
        let mut answers: Vec<_> = self.answers.drain(..).collect();
        while let Some(answer) = self.answer() {
            answers.push(answer);
        }
        answers
    }

    /// The next frame, whatever it is.
    pub fn next(&mut self) -> Heard {
        let Some((header, mut frame)) = self.line.frame(&self.inbound) else {
            return Heard::Closed;
        };
        let opened = self
            .inbound
            .open(header, &mut frame, &self.key, &self.pool_session)
            .expect("a frame that a gateway takes");
        match opened {
            FromPoolFrame::Ping => Heard::Ping,
            FromPoolFrame::Info(line) => {
                let line = String::from_utf8(line.to_vec()).expect("a line of text");
                self.infos.push(line.clone());
                Heard::Info(line)
            }
            FromPoolFrame::Message(FromPool::ShareResponse(answer)) => Heard::Answer(answer),
            FromPoolFrame::Message(FromPool::Config(config)) => {
                assert!(header.signed, "CONFIG is signed by the pool's session key");
                let min_diff = MinDiff::new(config.min_diff).expect("a power of two");
                Heard::Config(Terms::new(config.prime_id, config.script, config.tag, min_diff))
            }
            FromPoolFrame::Message(FromPool::Coinbaser(split)) => Heard::Split {
                value: split.value,
                coinbaser_id: split.coinbaser_id,
                outputs: split
                    .outputs
                    .iter()
                    .map(|output| (output.value, output.script.to_vec()))
                    .collect(),
            },
            FromPoolFrame::Message(FromPool::Ask(ask)) => match ask {
                ValidationAsk::ShortIds { job } => Heard::Asked {
                    job,
                    ask: Ask::ShortIds,
                },
                ValidationAsk::ByIndex { job, indexes } => Heard::Asked {
                    job,
                    ask: Ask::ByIndex(indexes.iter().collect()),
                },
                ValidationAsk::All { job } => Heard::Asked { job, ask: Ask::All },
            },
            FromPoolFrame::Message(FromPool::NewBlock) => Heard::NewBlock,
            other => Heard::Other(format!("{other:?}")),
        }
    }

    /// The lines for the gateway's log until the pool closes the connection.
    pub fn last_words(&mut self) -> Vec<String> {
        loop {
            match self.next() {
                Heard::Info(_) | Heard::Ping => {}
                Heard::Closed => return self.infos.clone(),
                other => panic!("the session ends, and not {other:?}"),
            }
        }
    }

    /// The next frame that is neither INFO nor PING. A pool that only pings is not waited for.
    pub fn next_but_info(&mut self) -> Heard {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next() {
                Heard::Info(_) | Heard::Ping => assert!(Instant::now() < deadline, "nothing comes but PINGs"),
                other => return other,
            }
        }
    }

    /// Whether the session still takes work: a share on a template of its own counts.
    pub fn assert_works(&mut self, mark: u32) {
        let template = self.template(7, 0xee);
        let share = template.share(mark);
        assert_eq!(self.submit(&share.with_sections()), Ok(()), "an honest session goes on");
    }
}

fn verdict(answer: &ShareResponse) -> Result<(), Reason> {
    match answer.status {
        Status::Accepted => {
            assert_eq!(answer.reason, 0);
            Ok(())
        }
        Status::Rejected => Err(Reason::from_code(answer.reason).expect("a reason of the protocol")),
        Status::Tentative => panic!("the pool judges at once"),
    }
}
