//! A gateway as small as a test needs it: blocking, one connection at a time, and every part of the wire within reach
//! where a test wants it wrong. Here it connects and greets; `session.rs` has the rest.

use std::net::{IpAddr, SocketAddr};

use millrace::wire::{
    Agent, ChannelKey, Encode, GatewayInbound, HandshakeError, Header, HeaderKey, Hello, Nonce, Outbound, PublicKeys,
    SecretKeys, Share, command,
};

use super::Pool;
use super::line::Line;
use super::session::{Opening, Session};

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
        self.connect_to(pool.address, pool.key)
    }

    /// The same from another address.
    pub fn connect_from(&self, source: IpAddr, pool: &Pool) -> Session {
        self.connect_over(Line::open_from(source, pool.address), pool)
    }

    /// The same where it may be turned away; then none.
    pub fn try_connect_from(&self, source: IpAddr, pool: &Pool) -> Option<Session> {
        let mut greeting = Greeting::new(self, Line::open_from(source, pool.address), pool.key);
        greeting.push_hello();
        greeting.flush_unless_closed();
        greeting.finish_unless_closed()
    }

    /// The same on a connection that is there.
    pub fn connect_over(&self, line: Line, pool: &Pool) -> Session {
        let mut greeting = Greeting::new(self, line, pool.key);
        greeting.say_hello();
        greeting.finish()
    }

    /// The same to a pool that is no process of its own.
    pub fn connect_to(&self, address: SocketAddr, pool: PublicKeys) -> Session {
        let mut greeting = Greeting::new(self, Line::open(address), pool);
        greeting.say_hello();
        greeting.finish()
    }

    /// The same towards a pool that may stop; none where it has closed the connection.
    pub fn try_connect_to(&self, address: SocketAddr, pool: PublicKeys) -> Option<Session> {
        let mut greeting = Greeting::new(self, Line::open(address), pool);
        greeting.say_hello();
        greeting.finish_unless_closed()
    }

    /// The same with another key of the pool than its newest.
    pub fn greet_with(&self, address: SocketAddr, pool: PublicKeys) -> Greeting<'_> {
        Greeting::new(self, Line::open(address), pool)
    }

    /// Connects, and has these messages leave behind HELLO, each under its key, before the response is there: so go shares that
    /// are found meanwhile.
    pub fn connect_early(&self, pool: &Pool, early: &[(&ChannelKey, Share<'_>)]) -> Session {
        let mut greeting = self.greet(pool);
        greeting.push_hello();
        for (key, share) in early {
            greeting.push_early(key, share);
        }
        greeting.flush();
        greeting.finish()
    }

    /// Connects and says nothing yet.
    pub fn greet(&self, pool: &Pool) -> Greeting<'_> {
        Greeting::new(self, Line::open(pool.address), pool.key)
    }
}

/// New keys, of a gateway or of a session.
pub fn keys() -> SecretKeys {
    SecretKeys::generate().expect("the system has randomness")
}

fn copied(keys: &SecretKeys) -> SecretKeys {
    SecretKeys::from_seeds(&keys.seeds())
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
    fn new(gateway: &'g Gateway, line: Line, pool: PublicKeys) -> Self {
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
        Self::over(gateway, line, pool, session, hello)
    }

    fn over(gateway: &'g Gateway, line: Line, pool: PublicKeys, session: SecretKeys, hello: Hello) -> Self {
        let (nk, session_ed25519) = (hello.nk, hello.session.ed25519);
        Self {
            gateway,
            line,
            pool,
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

    /// Drops what was pushed beyond the first `len` bytes, where there is more.
    pub fn cut_pushed_at(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// What was pushed, to be spoilt.
    pub fn pushed(&mut self) -> &mut [u8] {
        &mut self.out
    }

    /// Another connection on which the same bytes were sent.
    pub fn replayed(&self, pool: &Pool) -> Self {
        let mut again = Self::over(
            self.gateway,
            Line::open(pool.address),
            pool.key,
            copied(&self.session),
            self.hello.clone(),
        );
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

    /// Says HELLO; whether the response is signed by this key.
    pub fn response_signed_by(mut self, pool: &PublicKeys) -> Result<(), HandshakeError> {
        self.say_hello();
        let (_, frame) = self.line.frame(&self.inbound).expect("a handshake response");
        let opened = self.inbound.open_response(&frame, &self.session, &self.hello, pool);
        opened.map(|_| ())
    }

    /// Waits for the response and for CONFIG.
    pub fn finish(self) -> Session {
        self.finish_unless_closed().expect("a handshake response, and CONFIG")
    }

    /// The same towards a pool that may stop; none where it has closed the connection.
    pub fn finish_unless_closed(self) -> Option<Session> {
        self.hear_response().and_then(Session::begin)
    }

    /// Says HELLO to a pool that takes no such gateway: the lines for its log until the connection ends, and nothing else.
    /// None where it ends without a response.
    pub fn dismissed(mut self) -> Option<Vec<String>> {
        self.push_hello();
        self.flush_unless_closed();
        Some(Session::open(self.hear_response()?).last_words())
    }

    fn hear_response(mut self) -> Option<Opening> {
        let (header, frame) = self.line.frame(&self.inbound)?;
        assert_eq!(header.command, command::RESPONSE);
        assert!(header.sealed && header.signed && !header.channel);
        let response = self
            .inbound
            .open_response(&frame, &self.session, &self.hello, &self.pool)
            .expect("a response that is signed by the pool and sealed to this session");
        Some(Opening {
            key: ChannelKey::agree(&self.session, &response.pool_session.x25519).expect("a sound key"),
            line: self.line,
            motd: response.motd,
            pool_session: response.pool_session,
            inbound: self.inbound,
            outbound: self.outbound,
            nonce: self.nonce,
        })
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
