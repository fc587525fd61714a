//! A real gateway in the attacker's hand: it shakes hands and mines as any other, until it is told otherwise.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use millrace::wire::PublicKeys;
use mio::net::TcpStream;

use crate::gateway::{Behaviour, Gateway, Setup, World};
use crate::mix::Mix;
use crate::payee::{ANY_NETWORK, Payees};
use crate::rng::Rng;
use crate::socket::is_wait;
use crate::tally::Tally;
use crate::template::{Source, Templates};

/// What is read at once.
const READ_BYTES: usize = 16_384;

/// What all actors see and use together.
pub struct Stage {
    pub world: World,
    began: Instant,
    gateways: usize,
}

pub struct Actor {
    pub gateway: Gateway,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    /// What the socket has not taken yet.
    pub unsent: Vec<u8>,
    /// All that it took on the present connection.
    pub said: Vec<u8>,
    keeps_said: bool,
}

impl Stage {
    pub fn new(pool: PublicKeys) -> Self {
        let seed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos() as u64;
        let mut stage = Self {
            world: World {
                setup: Setup {
                    pool,
                    asics: 1,
                    payees: Payees::OfGateway,
                    in_flight_max: usize::MAX,
                    job_every_ns: u64::MAX / 4,
                    behaviour: Behaviour::Mine,
                    spoils: None,
                    spoilers: 0,
                    no_blocks: false,
                    by_hash: false,
                    networks: ANY_NETWORK,
                },
                now_ns: 0,
                unix_s: 0,
                tip: 1,
                all_ask: false,
                measuring: true,
                source: Source::MadeUp(Templates::new(seed, 0..=12)),
                tally: Tally::default(),
                mix: Mix::new(0.0),
                rng: Rng::new(seed),
            },
            began: Instant::now(),
            gateways: 0,
        };
        stage.look_at_clock();
        stage
    }

    pub fn look_at_clock(&mut self) {
        self.world.look_at_clock(self.began);
    }
}

impl Actor {
    /// One that nobody has seen before. `keeps_said`: what it says is recorded.
    pub fn new(keeps_said: bool, stage: &mut Stage) -> Self {
        stage.gateways += 1;
        Self {
            gateway: Gateway::new(stage.gateways, &stage.world.setup, &mut stage.world.rng),
            stream: None,
            unread: Vec::new(),
            unsent: Vec::new(),
            said: Vec::new(),
            keeps_said,
        }
    }

    /// Says HELLO on a new connection.
    pub fn greet(&mut self, stream: TcpStream, stage: &mut Stage) {
        self.stream = Some(stream);
        self.said.clear();
        self.gateway
            .greet(stage.world.now_ns, &mut stage.world, &mut self.unsent);
    }

    /// Ends its connection.
    pub fn leave(&mut self, stage: &mut Stage) {
        self.stream = None;
        self.unread.clear();
        self.unsent.clear();
        self.gateway.close(&mut stage.world);
    }

    /// Does what time brings, where it is connected.
    ///
    /// # Errors
    /// A gateway would give the connection up.
    pub fn tick(&mut self, stage: &mut Stage) -> io::Result<()> {
        let ticked = self.gateway.tick(&mut stage.world, &mut self.unsent);
        ticked.map_err(io::Error::other)
    }

    /// Says a good share, where it has a job or one from before.
    pub fn share(&mut self, stage: &mut Stage) -> bool {
        self.gateway
            .share(stage.world.now_ns, &mut stage.world, &mut self.unsent)
    }

    /// Writes what the socket takes of what is unsent, `most` bytes of it. How many it took.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn write(&mut self, most: usize) -> io::Result<usize> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut written = 0;
        let most = most.min(self.unsent.len());
        while written < most {
            match stream.write(&self.unsent[written..most]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if is_wait(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let taken = self.unsent.drain(..written);
        if self.keeps_said {
            self.said.extend(taken);
        }
        Ok(written)
    }

    /// Reads what there is, and does what a gateway does about it. Whether anything came.
    ///
    /// # Errors
    /// The connection has ended, or the pool says what no gateway bears.
    pub fn read(&mut self, stage: &mut Stage) -> io::Result<bool> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let (mut bytes, mut heard) = ([0; READ_BYTES], false);
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    heard = true;
                    self.unread.extend_from_slice(&bytes[..count]);
                }
                Err(error) if is_wait(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let used = self
            .gateway
            .receive(&mut self.unread, &mut stage.world, &mut self.unsent)
            .map_err(io::Error::other)?;
        self.unread.drain(..used);
        Ok(heard)
    }
}
