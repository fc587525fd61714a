//! Attacks that say all of it on one connection after another, as fast as they can.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::{Args, Report, script};
use crate::socket::is_wait;

/// Connections at a time of HELLOs that are sent as fast as they can be: the oldest goes where the pool has not closed it by then.
const IN_FLIGHT: usize = 1_024;

/// Sends HELLOs that no pool takes.
///
/// # Errors
/// The system gives no randomness.
pub fn bad_hellos(args: &Args, until: Instant, report: &mut Report) -> Result<(), String> {
    let hellos = script::bad_hellos(&args.pubkey)?;
    let mut volley = Volley::new(IN_FLIGHT, Duration::MAX);
    while Instant::now() < until {
        let hello = &hellos[usize::from(report.connected % 2 == 1)];
        volley.fire(hello, args, report);
    }
    volley.end(report);
    Ok(())
}

/// The connections under way.
pub struct Volley<'s> {
    /// The oldest first.
    shots: VecDeque<Shot<'s>>,
    most: usize,
    held_for: Duration,
}

/// One connection, and what of its script is not said yet.
struct Shot<'s> {
    stream: TcpStream,
    left: &'s [u8],
    began: Instant,
    /// The pool has said something.
    heard: bool,
}

impl<'s> Volley<'s> {
    /// `most` connections at a time, each for `held_for` where [`Self::has_room`] is asked.
    pub fn new(most: usize, held_for: Duration) -> Self {
        Self {
            shots: VecDeque::new(),
            most,
            held_for,
        }
    }

    /// Whether there is room for another without ending one that the pool may yet do something about.
    pub fn has_room(&mut self, report: &mut Report) -> bool {
        if self.shots.len() < self.most {
            return true;
        }
        self.shots.retain_mut(|shot| {
            let lives = shot.say(report) && shot.listen(report);
            report.closed_by_pool += u64::from(!lives);
            lives && shot.began.elapsed() < self.held_for
        });
        self.shots.len() < self.most
    }

    /// Says all of `script` on a new connection.
    pub fn fire(&mut self, script: &'s [u8], args: &Args, report: &mut Report) {
        if self.shots.len() >= self.most {
            self.end_oldest(report);
        }
        let Some(stream) = report.connect(args) else {
            // Out of ports or descriptors: those that are there go first.
            self.end_oldest(report);
            std::thread::sleep(Duration::from_millis(1));
            return;
        };
        let mut shot = Shot {
            stream,
            left: script,
            began: Instant::now(),
            heard: false,
        };
        if shot.say(report) {
            self.shots.push_back(shot);
        } else {
            report.closed_by_pool += 1;
        }
        report.held_max = report.held_max.max(self.shots.len());
    }

    pub fn end(mut self, report: &mut Report) {
        while !self.shots.is_empty() {
            self.end_oldest(report);
        }
    }

    fn end_oldest(&mut self, report: &mut Report) {
        if let Some(mut shot) = self.shots.pop_front() {
            let lives = shot.say(report) && shot.listen(report);
            report.closed_by_pool += u64::from(!lives);
        }
    }
}

impl Shot<'_> {
    /// Says what is left. False where the connection has ended.
    fn say(&mut self, report: &mut Report) -> bool {
        while !self.left.is_empty() {
            match self.stream.write(self.left) {
                Ok(0) => return false,
                Ok(count) => {
                    self.left = &self.left[count..];
                    report.bytes += count as u64;
                    report.sent += u64::from(self.left.is_empty());
                }
                Err(error) => return is_wait(&error),
            }
        }
        true
    }

    /// Reads what there is. False where the connection has ended.
    fn listen(&mut self, report: &mut Report) -> bool {
        let mut bytes = [0; 4_096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => report.answered += u64::from(!std::mem::replace(&mut self.heard, true)),
                Err(error) => return is_wait(&error),
            }
        }
    }
}
