//! A gateway as small as a test needs it: blocking, one connection at a time, and every part of the wire within reach
//! where a test wants it wrong.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use millrace::wire::{
    Agent, ChannelKey, Encode, FromPool, FromPoolFrame, GatewayInbound, Header, HeaderKey, Hello, MAC_LEN, Nonce,
    Outbound, PublicKeys, Reason, SecretKeys, Share, ShareResponse, Status, command,
};
use millrace::work::{MinDiff, Terms};

use super::work::{Job, Recipe, Template};
use super::{PATIENCE, Pool};

/// Who a gateway is, for all its connections.
pub struct Gateway {
    pub long_term: SecretKeys,
}

impl Gateway {
    pub fn new() -> Self {
        Self { long_term: keys() }
    }

    /// Connects, shakes hands and waits for CONFIG.
    pub fn connect(&self, pool: &Pool) -> Session {
        let mut greeting = self.greet(pool);
        greeting.say_hello();
        greeting.finish()
    }

    /// Connects and says nothing yet.
    pub fn greet(&self, pool: &Pool) -> Greeting<'_> {
        Greeting::new(self, pool)
    }
}

/// New keys, of a gateway or of a session.
pub fn keys() -> SecretKeys {
    SecretKeys::generate().expect("the system has randomness")
}

fn copied(keys: &SecretKeys) -> SecretKeys {
    SecretKeys::from_seeds(&keys.seeds())
}

/// A TCP connection on which every wait ends.
pub struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
    /// All that was written, to be replayed.
    pub sent: Vec<u8>,
}

impl Line {
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the pool accepts connections"))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            unread: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn write(&mut self, bytes: &[u8]) {
        assert!(self.write_unless_closed(bytes), "the pool has closed the connection");
    }

    /// False where the pool has closed the connection.
    pub fn write_unless_closed(&mut self, bytes: &[u8]) -> bool {
        self.sent.extend_from_slice(bytes);
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if is_end(error.kind()) => false,
            Err(error) => panic!("cannot write: {error}"),
        }
    }

    /// No more bytes will come from here.
    pub fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Reads to the end of the connection.
    pub fn wait_for_close(&mut self) {
        while self.fill() {}
    }

    /// Reads some bytes; false at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16_384];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if is_end(error.kind()) => false,
            Err(error) => panic!("nothing comes from the pool: {error}"),
        }
    }

    /// The next whole frame, as `inbound` reads its header; none at the end of the connection.
    fn frame(&mut self, inbound: &GatewayInbound) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some((header, len)) = inbound.frame(&self.unread).expect("a header under the next key")
                && len <= self.unread.len()
            {
                let rest = self.unread.split_off(len);
                return Some((header, std::mem::replace(&mut self.unread, rest)));
            }
            if !self.fill() {
                return None;
            }
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

/// A connection from before HELLO to the response. What is said is written by [`Self::flush`], all in one.
pub struct Greeting<'g> {
    gateway: &'g Gateway,
    pub line: Line,
    pool: PublicKeys,
    pub hello: Hello,
    session: SecretKeys,
    /// Masks headers before HELLO and its own.
    header_key: HeaderKey,
    inbound: GatewayInbound,
    outbound: Outbound,
    /// Counts the messages behind HELLO.
    nonce: Nonce,
    out: Vec<u8>,
}

impl<'g> Greeting<'g> {
    fn new(gateway: &'g Gateway, pool: &Pool) -> Self {
        let session = keys();
        let seed = keys().public().ed25519;
        let nk = u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]);
        let hello = Hello {
            long_term: gateway.long_term.public(),
            session: session.public(),
            agent: Agent::new("v0.4.1-beta/test"),
            nk,
            padding: vec![0x5c; 20],
        };
        Self::over(gateway, pool, session, hello)
    }

    fn over(gateway: &'g Gateway, pool: &Pool, session: SecretKeys, hello: Hello) -> Self {
        let (nk, session_ed25519) = (hello.nk, hello.session.ed25519);
        Self {
            gateway,
            line: Line::open(pool.address),
            pool: pool.key,
            inbound: GatewayInbound::new(nk, &session_ed25519),
            outbound: Outbound::gateway(nk, &session_ed25519),
            nonce: Nonce::gateway_to_pool(nk, &session_ed25519),
            header_key: HeaderKey::FIRST,
            session,
            hello,
            out: Vec::new(),
        }
    }

    /// A frame before HELLO with any header.
    pub fn push_frame(&mut self, header: Header, payload: &[u8]) {
        self.out.extend_from_slice(&header.encode(self.header_key));
        self.header_key.advance();
        self.out.extend_from_slice(payload);
    }

    /// HELLO as it should be.
    pub fn push_hello(&mut self) {
        let plain = self.hello.encode(&self.gateway.long_term);
        let payload = Hello::seal(&plain, &self.pool.x25519);
        self.push_frame(hello_header(payload.len()), &payload);
    }

    /// A message behind HELLO under any key, as shares go that are found before the response is there.
    pub fn push_early(&mut self, key: &ChannelKey, message: &impl Encode) {
        self.outbound.mining(key, message, &mut self.out);
        self.nonce.advance();
    }

    /// Drops all but the first `len` bytes of what was pushed.
    pub fn cut_pushed(&mut self, len: usize) {
        assert!(len < self.out.len());
        self.out.truncate(len);
    }

    /// Another connection on which the same bytes were sent.
    pub fn replayed(&self, pool: &Pool) -> Self {
        let mut again = Self::over(self.gateway, pool, copied(&self.session), self.hello.clone());
        again.line.write(&self.line.sent);
        again
    }

    /// Writes all that was pushed at once.
    pub fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.line.write(&out);
    }

    /// The same, so many bytes at a time.
    pub fn flush_in_pieces(&mut self, len: usize) {
        for piece in std::mem::take(&mut self.out).chunks(len) {
            self.line.write(piece);
        }
    }

    /// The same in two, the first with so many bytes if there are.
    pub fn flush_in_two(&mut self, len: usize) {
        let out = std::mem::take(&mut self.out);
        let (first, second) = out.split_at(len.min(out.len()));
        self.line.write(first);
        self.line.write(second);
    }

    /// The same towards a pool that may close in the middle of it.
    pub fn flush_unless_closed(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        self.line.write_unless_closed(&out)
    }

    pub fn say_hello(&mut self) {
        self.push_hello();
        self.flush();
    }

    /// Waits for the response and for CONFIG.
    pub fn finish(self) -> Session {
        let mut session = self.respond();
        match session.next() {
            Heard::Config(terms) => session.terms = Some(terms),
            other => panic!("CONFIG comes first, not {other:?}"),
        }
        session
    }

    /// Waits for the response alone.
    pub fn respond(mut self) -> Session {
        let (header, frame) = self.line.frame(&self.inbound).expect("a handshake response");
        assert_eq!(header.command, command::RESPONSE);
        assert!(header.sealed && header.signed && !header.channel);
        let response = self
            .inbound
            .open_response(&frame, &self.session, &self.hello, &self.pool)
            .expect("a response that is signed by the pool and sealed to this session");
        Session {
            key: ChannelKey::agree(&self.session, &response.pool_session.x25519).expect("a sound key"),
            line: self.line,
            motd: response.motd,
            pool_session: response.pool_session,
            inbound: self.inbound,
            outbound: self.outbound,
            nonce: self.nonce,
            terms: None,
            infos: Vec::new(),
            answers: VecDeque::new(),
            out: Vec::new(),
        }
    }
}

pub fn hello_header(len: usize) -> Header {
    Header {
        command: command::HELLO,
        len: u32::try_from(len).expect("a short frame"),
        signed: true,
        sealed: true,
        channel: false,
    }
}

pub fn mining_header(len: usize) -> Header {
    Header {
        command: command::MINING,
        len: u32::try_from(len).expect("a short frame"),
        signed: false,
        sealed: false,
        channel: true,
    }
}

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
    terms: Option<Terms>,
    /// Lines for the gateway's log so far.
    pub infos: Vec<String>,
    /// Answers read while another was awaited.
    answers: VecDeque<ShareResponse>,
    out: Vec<u8>,
}

/// What a session hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Config(Terms),
    Answer(ShareResponse),
    Split {
        value: u64,
        coinbaser_id: u8,
        outputs: usize,
    },
    Info(String),
    Ping,
    /// A message that this pool has no reason to send.
    Other(String),
    /// The connection has ended.
    Closed,
}

impl Session {
    /// What CONFIG said.
    pub fn terms(&self) -> &Terms {
        self.terms.as_ref().expect("CONFIG came")
    }

    pub fn prime_id(&self) -> u32 {
        self.terms().prime_id
    }

    /// A coinbase as the session's terms want it.
    pub fn recipe(&self, job: &Job) -> Recipe {
        Recipe::new(job, self.terms())
    }

    /// A template in `slot` upon `parent` under the session's terms.
    pub fn template(&self, slot: u8, parent: u8) -> Template {
        Template::new(Job::new(slot, parent), self.terms())
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

    /// Any bytes as they are.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
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
            match self.next() {
                Heard::Answer(answer) => return Some(answer),
                Heard::Closed => return None,
                Heard::Ping | Heard::Info(_) => {}
                other => panic!("an answer is due, not {other:?}"),
            }
        }
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
                outputs: split.outputs.iter().count(),
            },
            other => Heard::Other(format!("{other:?}")),
        }
    }

    /// The next frame that is neither INFO nor PING.
    pub fn next_but_info(&mut self) -> Heard {
        loop {
            match self.next() {
                Heard::Info(_) | Heard::Ping => {}
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

/// Bytes that are no text, no frame, and the same in each run.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
