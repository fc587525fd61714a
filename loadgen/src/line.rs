//! A gateway's end of one connection: handshake, keys, frames.

use millrace::wire::{
    Agent, ChannelKey, DecodeError, Encode, FromPoolFrame, GatewayInbound, HEADER_LEN, HandshakeError, Header,
    HeaderKey, Hello, InboundError, Nonce, Outbound, PublicKeys, SecretKeys, command,
};
use thiserror::Error;

use crate::rng::Rng;

/// What a gateway says it is.
const AGENT: &str = "v0.4.1-beta/millrace-loadgen";

/// The longest frame that a pool sends: a split.
const FRAME_MAX: usize = 40_000;

/// Why a gateway ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    #[error("handshake or frame: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("header: {0}")]
    Header(#[from] InboundError),
    #[error("key: {0}")]
    Key(#[from] DecodeError),
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("a response that was not due")]
    Unexpected,
    #[error("nothing heard for 10 s")]
    Silent,
    #[error("shares sent for 30 s and none accepted")]
    NothingAccepted,
}

pub struct Line {
    state: State,
    prepared: Option<Prepared>,
    /// The key of the session before, for shares that leave before the response is there.
    former: Option<Former>,
}

enum State {
    Closed,
    Greeting(Box<Greeting>),
    Open(Box<Open>),
}

struct Greeting {
    hello: Hello,
    session: SecretKeys,
    inbound: GatewayInbound,
    outbound: Outbound,
}

/// A HELLO before it leaves.
struct Prepared {
    hello: Hello,
    session: SecretKeys,
    sealed: Vec<u8>,
}

struct Open {
    hello_nk: u32,
    session_ed25519: [u8; 32],
    key: ChannelKey,
    pool_session: PublicKeys,
    inbound: GatewayInbound,
    outbound: Outbound,
}

struct Former {
    key: ChannelKey,
    nonce: Nonce,
}

impl Line {
    pub fn new() -> Self {
        Self {
            state: State::Closed,
            prepared: None,
            former: None,
        }
    }

    /// Makes the next HELLO now, so that it can leave at once when it is due: its keys take longer than the rest.
    pub fn prepare(&mut self, long_term: &SecretKeys, pool: &PublicKeys, rng: &mut Rng) {
        self.prepared = Some(Prepared::new(long_term, pool, rng));
    }

    pub fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Starts a connection with HELLO, after `before_hello` frames that nobody can read: shares found while the
    /// gateway was connecting.
    pub fn greet(
        &mut self,
        long_term: &SecretKeys,
        pool: &PublicKeys,
        before_hello: u32,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) {
        let prepared = self.prepared.take();
        let prepared = prepared.unwrap_or_else(|| Prepared::new(long_term, pool, rng));
        let Prepared { hello, session, sealed } = prepared;
        let mut header_key = HeaderKey::FIRST;
        for _ in 0..before_hello {
            let mut payload = vec![0; 150];
            if let Some(former) = &self.former {
                former.key.seal(&former.nonce, &mut payload);
            }
            push_frame(
                frame_header(command::MINING, false, payload.len()),
                &mut header_key,
                &payload,
                out,
            );
        }
        push_frame(
            frame_header(command::HELLO, true, sealed.len()),
            &mut header_key,
            &sealed,
            out,
        );
        self.state = State::Greeting(Box::new(Greeting {
            inbound: GatewayInbound::new(hello.nk, &hello.session.ed25519),
            outbound: Outbound::gateway(hello.nk, &hello.session.ed25519),
            hello,
            session,
        }));
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether shares can leave early: HELLO is sent, the response is not there, and there was a session before.
    pub fn is_early(&self) -> bool {
        matches!(self.state, State::Greeting(_)) && self.former.is_some()
    }

    /// Appends a message, under the former key where it leaves early.
    ///
    /// # Panics
    /// The line is closed: the gateway sends on lines that are open or early alone.
    pub fn send(&mut self, message: &impl Encode, out: &mut Vec<u8>) {
        match (&mut self.state, &self.former) {
            (State::Open(open), _) => open.outbound.mining(&open.key, message, out),
            (State::Greeting(greeting), Some(former)) => greeting.outbound.mining(&former.key, message, out),
            _ => panic!("a closed line sends nothing"),
        }
    }

    /// The header and the whole length of the frame at the front of `buf`, once all of it is there.
    pub fn frame(&self, buf: &[u8]) -> Result<Option<(Header, usize)>, Broken> {
        let inbound = match &self.state {
            State::Closed => return Ok(None),
            State::Greeting(greeting) => &greeting.inbound,
            State::Open(open) => &open.inbound,
        };
        match inbound.frame(buf)? {
            Some((_, len)) if len > FRAME_MAX => Err(Broken::TooLong(len)),
            Some((_, len)) if len > buf.len() => Ok(None),
            whole => Ok(whole),
        }
    }

    /// Opens a frame that [`Self::frame`] has found.
    pub fn open<'b>(
        &mut self,
        header: Header,
        frame: &'b mut [u8],
        pool: &PublicKeys,
    ) -> Result<FromPoolFrame<'b>, Broken> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(Broken::Unexpected),
            State::Greeting(greeting) if header.command == command::RESPONSE => {
                let Greeting {
                    hello,
                    session,
                    mut inbound,
                    outbound,
                } = *greeting;
                let response = inbound.open_response(frame, &session, &hello, pool)?;
                self.state = State::Open(Box::new(Open {
                    hello_nk: hello.nk,
                    session_ed25519: hello.session.ed25519,
                    key: ChannelKey::agree(&session, &response.pool_session.x25519)?,
                    pool_session: response.pool_session,
                    inbound,
                    outbound,
                }));
                Ok(FromPoolFrame::Response(response))
            }
            // Nothing but the response can come first.
            State::Greeting(_) => Err(Broken::Unexpected),
            State::Open(mut open) => {
                let opened = open.inbound.open(header, frame, &open.key, &open.pool_session)?;
                self.state = State::Open(open);
                Ok(opened)
            }
        }
    }

    /// The connection is gone; its key serves the early shares of the next.
    pub fn close(&mut self) {
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Closed) {
            self.former = Some(Former {
                nonce: Nonce::gateway_to_pool(open.hello_nk, &open.session_ed25519),
                key: open.key,
            });
        }
    }
}

impl Prepared {
    fn new(long_term: &SecretKeys, pool: &PublicKeys, rng: &mut Rng) -> Self {
        let session = SecretKeys::generate().expect("the system has randomness");
        let hello = Hello {
            long_term: long_term.public(),
            session: session.public(),
            agent: Agent::new(AGENT),
            nk: rng.next_u32(),
            padding: vec![rng.byte(); 1 + rng.below(200) as usize],
        };
        let sealed = Hello::seal(&hello.encode(long_term), &pool.x25519);
        Self { hello, session, sealed }
    }
}

fn frame_header(command: u8, hello: bool, len: usize) -> Header {
    Header {
        command,
        len: u32::try_from(len).expect("a frame is below 4 MiB"),
        signed: hello,
        sealed: hello,
        channel: !hello,
    }
}

fn push_frame(header: Header, key: &mut HeaderKey, payload: &[u8], out: &mut Vec<u8>) {
    let masked: [u8; HEADER_LEN] = header.encode(*key);
    key.advance();
    out.extend_from_slice(&masked);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
