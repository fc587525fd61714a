//! Attacks that hold as many connections as they can, each at one step of the protocol.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::actor::{Actor, Stage};
use super::{Args, Attack, Report};
use crate::socket::{self, is_wait};

/// How often connections that are held are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Connections that are begun at one look: what one core has the keys for, and no more than the pool's backlog takes.
const OPENED_AT_ONCE: usize = 250;

/// No more are begun at one look after so long: those that were begun must go on.
const OPENING_MAX: Duration = Duration::from_millis(200);

/// A slow sender's pause between two bytes.
const DRIP_EVERY: Duration = Duration::from_millis(500);

/// Shares that one who reads nothing sends at each look.
const DEAF_SHARES: usize = 100;

/// Holds as many connections as asked for, each of which does what `open` has it do.
pub fn hold<H: Holds>(args: &Args, open: impl Fn() -> H, until: Instant, report: &mut Report) {
    let mut held: Vec<(H, Since)> = Vec::new();
    while Instant::now() < until {
        let missing = args.connections.saturating_sub(held.len()).min(OPENED_AT_ONCE);
        let looked = Instant::now();
        for _ in 0..missing {
            if looked.elapsed() > OPENING_MAX {
                break;
            }
            let Some(stream) = report.connect(args) else { break };
            let mut one = open();
            one.begin(stream);
            held.push((one, Since::now()));
        }
        report.held_max = report.held_max.max(held.len());
        std::thread::sleep(LOOK_EVERY);
        held.retain_mut(|(one, since)| {
            let lives = one.go_on(since.dripped(), report).is_ok();
            report.closed_by_pool += u64::from(!lives);
            lives
        });
    }
}

/// What is done on a connection that is held.
pub trait Holds {
    fn begin(&mut self, stream: TcpStream);

    /// Another look at it; a slow sender has sent so many bytes by now.
    ///
    /// # Errors
    /// The connection has ended.
    fn go_on(&mut self, dripped: usize, report: &mut Report) -> io::Result<()>;
}

/// When a connection began.
struct Since(Instant);

impl Since {
    fn now() -> Self {
        Self(Instant::now())
    }

    fn dripped(&self) -> usize {
        (self.0.elapsed().as_millis() / DRIP_EVERY.as_millis()) as usize
    }
}

/// Says a script byte by byte, or nothing at all.
pub struct Mute<'s> {
    script: &'s [u8],
    stream: Option<TcpStream>,
    said: usize,
    was_answered: bool,
}

impl<'s> Mute<'s> {
    pub fn new(script: &'s [u8]) -> Self {
        Self {
            script,
            stream: None,
            said: 0,
            was_answered: false,
        }
    }
}

impl Holds for Mute<'_> {
    fn begin(&mut self, stream: TcpStream) {
        self.stream = Some(stream);
    }

    fn go_on(&mut self, dripped: usize, report: &mut Report) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        while self.said < dripped.min(self.script.len()) {
            match stream.write(&self.script[self.said..=self.said]) {
                Ok(count) => {
                    self.said += count;
                    report.bytes += count as u64;
                    report.sent += u64::from(self.said == self.script.len());
                }
                Err(error) if is_wait(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let mut bytes = [0; 512];
        match stream.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                report.answered += u64::from(!std::mem::replace(&mut self.was_answered, true));
                Ok(())
            }
            Err(error) if is_wait(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Shakes hands as a gateway, and then does what the attack is.
pub struct Acting<'s> {
    attack: Attack,
    actor: Actor,
    stage: &'s RefCell<Stage>,
    began: bool,
    dripped_before: usize,
}

impl<'s> Acting<'s> {
    pub fn new(attack: Attack, stage: &'s RefCell<Stage>) -> Self {
        Self {
            attack,
            actor: Actor::new(false, &mut stage.borrow_mut()),
            stage,
            began: false,
            dripped_before: 0,
        }
    }

    /// CONFIG is there: what goes on the wire at once.
    fn step_on(&mut self) -> io::Result<()> {
        let stage = &mut *self.stage.borrow_mut();
        match self.attack {
            // What the gateway would ask for at once is not said.
            Attack::SlowStart => self.actor.unsent.clear(),
            Attack::Hoard => self.actor.gateway.hoard(&mut stage.world, &mut self.actor.unsent),
            _ => {
                self.actor.share(stage);
            }
        }
        self.actor.write(usize::MAX)?;
        if self.attack == Attack::SlowFrame {
            self.actor.share(stage);
        }
        Ok(())
    }
}

impl Holds for Acting<'_> {
    fn begin(&mut self, stream: TcpStream) {
        if self.attack == Attack::Deaf {
            socket::take_little(&stream);
        }
        self.actor.greet(stream, &mut self.stage.borrow_mut());
    }

    fn go_on(&mut self, dripped: usize, report: &mut Report) -> io::Result<()> {
        self.stage.borrow_mut().look_at_clock();
        if !self.began {
            report.bytes += self.actor.write(usize::MAX)? as u64;
            self.actor.read(&mut self.stage.borrow_mut())?;
            if self.actor.gateway.is_ready() {
                self.began = true;
                self.dripped_before = dripped;
                report.sessions += 1;
                report.answered += 1;
                self.step_on()?;
            }
            return Ok(());
        }
        match self.attack {
            Attack::Deaf => {
                let stage = &mut *self.stage.borrow_mut();
                // What waits here already is not made longer.
                if self.actor.unsent.is_empty() {
                    self.actor.gateway.ask_again(&mut stage.world, &mut self.actor.unsent);
                    for _ in 0..DEAF_SHARES {
                        self.actor.share(stage);
                    }
                }
                report.bytes += self.actor.write(usize::MAX)? as u64;
            }
            Attack::SlowFrame => {
                self.actor.read(&mut self.stage.borrow_mut())?;
                let due = dripped.saturating_sub(self.dripped_before);
                let written = self.actor.write(due)?;
                self.dripped_before += written;
                report.bytes += written as u64;
            }
            _ => {
                self.actor.read(&mut self.stage.borrow_mut())?;
                if self.attack == Attack::Hoard {
                    report.bytes += self.actor.write(usize::MAX)? as u64;
                }
            }
        }
        Ok(())
    }
}
