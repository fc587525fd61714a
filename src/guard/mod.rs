//! Guards: what one address may take of the pool, and what becomes of who takes more.
//!
//! Pure: no clock of its own, no socket, no runtime. Each shard has [`Guards`] of its own and needs no lock for them:
//!
//! * An **address** is counted where its connections are: rates and handshakes at the shard that accepts, sessions and
//!   their traffic at the shard that owns the gateway. The kernel spreads connections over the shards and a keyed hash
//!   the gateways, so each shard holds an address to its [`Limits::part`] of the whole.
//! * A **ban** is told to all shards: whoever gives it passes it on.
//! * A **session** has its own [`Conduct`].
//!
//! What is too much is first refused, or slowed down by not being read; a session that goes on is cut off; an address that
//! does wrong again and again runs out of points ([`Rule::points`]) and is banned for a while, twice as long each time.
//! A ban turns new connections away. It leaves sessions alone that behave: they may be others behind the same address.

mod bucket;
mod conduct;
mod idle;
mod limits;
mod pressure;
mod rule;
mod standing;
mod subject;
mod table;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

pub use self::bucket::{Bucket, DEBT_MAX_S, Rate};
pub use self::conduct::{Conduct, SETTLE_S, Steered, Step, share_rate};
pub use self::idle::{IdleKey, IdleSessions};
pub use self::limits::{Limits, Traffic};
pub use self::pressure::{Admission, CLOSED_MAX, Pressure};
pub use self::rule::{FAULT_POINTS, Rule, refusal_weight};
pub use self::standing::{Ban, BanTerms};
pub use self::subject::Subject;
use self::table::{Meters, Row, Table};

/// The guards of one shard.
#[derive(Debug)]
pub struct Guards {
    limits: Limits,
    table: Table,
    all: Meters,
    /// Connections of those that mine, beside what is everybody's.
    reserve: (Rate, Bucket),
    pressure: Pressure,
}

/// Of what all may have of connections one part in so many is kept for addresses that mine. A few hundred strangers use up the
/// rest by connecting again and again, each within what it may, and must not keep out who comes back to work.
const RESERVE_PART: u32 = 4;

/// A handshake that is counted for its address until this is dropped.
#[derive(Debug)]
pub struct Guest {
    row: Option<Rc<Row>>,
    /// Frames of it came before HELLO.
    sends_early: Cell<bool>,
}

/// What came before HELLO, or is HELLO, and was not counted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Early {
    pub bytes: usize,
    /// Frames that are passed over.
    pub frames: u32,
    /// HELLO is there, to the last byte.
    pub hello_is_whole: bool,
}

/// A session that is counted for its address until this is dropped.
#[derive(Debug)]
pub struct Seat {
    row: Option<Rc<Row>>,
}

/// An address that is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banned {
    pub subject: Subject,
    pub ban: Ban,
}

/// What was counted stands in the way; `banned` where the address is banned for it from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub rule: Rule,
    pub banned: Option<Banned>,
}

/// What should pass before more is read, in ms, and the rule that asks for it; 0 where none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub ms: u64,
    pub rule: Rule,
}

impl Guards {
    /// `limits`: of the whole pool, of which this is one of `shards`. `secret`: drawn at each start.
    #[must_use]
    pub fn new(limits: &Limits, shards: usize, secret: [u8; 16], now_ms: u64) -> Self {
        let mut limits = limits.part(shards);
        let (reserve, everybodys) = limits.all.connections.split(RESERVE_PART);
        limits.all.connections = everybodys;
        Self {
            table: Table::new(limits.addresses, secret),
            all: Meters::new(&limits.all, now_ms),
            reserve: (reserve, Bucket::full(reserve, now_ms)),
            pressure: Pressure::None,
            limits,
        }
    }

    /// Whether connections of this address begin with a PROXY header; for those [`Self::arrive`] is asked with the address
    /// in it.
    #[must_use]
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.limits.is_proxy(address)
    }

    /// A connection was accepted, whoever's it is. Its HELLO may yet show a gateway that comes in.
    ///
    /// # Errors
    /// There is no memory for any.
    pub fn accept(&self) -> Result<(), Refused> {
        self.admit(true).map(|_| ())
    }

    /// A gateway wants a session that has mined before, or has not.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn admit(&self, has_mined: bool) -> Result<Admission, Refused> {
        self.pressure.admits(has_mined).ok_or(Rule::Memory.into())
    }

    /// A connection of `address` wants to shake hands.
    ///
    /// # Errors
    /// What it came up against.
    pub fn arrive(&mut self, address: IpAddr, now_ms: u64) -> Result<Guest, Refused> {
        if self.limits.allows(address) {
            self.take_of_all(true, now_ms)?;
            return Ok(Guest::new(None));
        }
        let row = self.row(address, now_ms)?;
        if row.standing.get().ban(now_ms).is_some() {
            return Err(Rule::Banned.into());
        }
        let mut meters = row.meters.get();
        let in_time = meters.connections.take(self.limits.address.connections, 1, now_ms);
        row.meters.set(meters);
        if !in_time {
            return Err(self.refuse(&row, Rule::Connections, now_ms));
        }
        if row.handshakes.get() >= self.limits.handshakes {
            return Err(self.refuse(&row, Rule::Handshakes, now_ms));
        }
        // Where its gateways are this shard's, before any work is done for another.
        if row.sessions.get() >= self.limits.sessions {
            return Err(self.refuse(&row, Rule::Sessions, now_ms));
        }
        // An address that may not connect takes nothing of what all may.
        self.take_of_all(row.has_mined(now_ms), now_ms)?;
        row.handshakes.set(row.handshakes.get() + 1);
        Ok(Guest::new(Some(row)))
    }

    /// Whoever is known takes of the reserve first.
    fn take_of_all(&mut self, is_known: bool, now_ms: u64) -> Result<(), Refused> {
        let (rate, reserve) = &mut self.reserve;
        if is_known && reserve.take(*rate, 1, now_ms) {
            return Ok(());
        }
        let in_time = self.all.connections.take(self.limits.all.connections, 1, now_ms);
        in_time.then_some(()).ok_or(Rule::AllConnections.into())
    }

    /// A share of this session was accepted, now or before. Its address, where the other shards should hear of it: they accept its
    /// next connections.
    pub fn note_mined(&self, seat: &Seat, now_ms: u64) -> Option<Subject> {
        let row = seat.row.as_ref().filter(|row| row.mines(now_ms))?;
        Some(row.subject)
    }

    /// Another shard has a session of this address that mines.
    pub fn hear_mined(&mut self, subject: Subject, now_ms: u64) {
        if let Some(row) = self.table.touch(subject, &self.limits, now_ms) {
            row.mines(now_ms);
        }
    }

    /// Whether `address`, where the policy denies it or a gateway there, may shake hands to be told so: less often than others may,
    /// since it gets nothing else by it. All other guards hold for it as well.
    pub fn tell(&mut self, address: IpAddr, now_ms: u64) -> bool {
        if !self.limits.allows(address) {
            let Ok(row) = self.row(address, now_ms) else {
                return false;
            };
            let mut meters = row.meters.get();
            let in_time = meters.told.take(self.limits.address.told, 1, now_ms);
            row.meters.set(meters);
            if !in_time {
                return false;
            }
        }
        self.all.told.take(self.limits.all.told, 1, now_ms)
    }

    /// So much was read up to the end of HELLO.
    ///
    /// What all together owe is waited for by those alone that sent frames before HELLO: nobody else made that debt, and whoever does
    /// could else hold up all that come back. A whole HELLO without such frames waits for nothing: it is read already.
    pub fn hear_early(&mut self, guest: &Guest, early: Early, now_ms: u64) -> Wait {
        let bytes = u32::try_from(early.bytes).unwrap_or(u32::MAX);
        let frames = early.frames;
        let sends_early = guest.sends_early.get() || frames > 0;
        guest.sends_early.set(sends_early);
        let (limits, all) = (&self.limits, &mut self.all);
        let of_all = all.early_bytes.spend(limits.all.early_bytes, bytes, now_ms);
        let of_all = of_all.max(all.early_frames.spend(limits.all.early_frames, frames, now_ms));
        let mut wait = Wait {
            ms: if sends_early { of_all } else { 0 },
            rule: Rule::AllEarly,
        };
        if let Some(row) = &guest.row {
            let mut meters = row.meters.get();
            let by_bytes = meters.early_bytes.spend(limits.address.early_bytes, bytes, now_ms);
            let by_frames = meters.early_frames.spend(limits.address.early_frames, frames, now_ms);
            row.meters.set(meters);
            wait = wait.or(by_bytes, Rule::EarlyBytes).or(by_frames, Rule::EarlyFrames);
        }
        if early.hello_is_whole && !sends_early {
            wait.ms = 0;
        }
        wait
    }

    /// A handshake of `address` is about to become a session.
    ///
    /// # Errors
    /// What it came up against.
    pub fn seat(&mut self, address: IpAddr, now_ms: u64) -> Result<Seat, Refused> {
        if self.limits.allows(address) {
            return Ok(Seat { row: None });
        }
        let row = self.row(address, now_ms)?;
        if row.sessions.get() >= self.limits.sessions {
            return Err(self.refuse(&row, Rule::Sessions, now_ms));
        }
        row.sessions.set(row.sessions.get() + 1);
        Ok(Seat { row: Some(row) })
    }

    /// So much was read of a session, and so many frames were in it.
    pub fn hear(&mut self, seat: &Seat, bytes: usize, frames: u32, now_ms: u64) -> Wait {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let (limits, all) = (&self.limits, &mut self.all);
        let of_all = all.bytes.spend(limits.all.bytes, bytes, now_ms);
        let of_all = of_all.max(all.frames.spend(limits.all.frames, frames, now_ms));
        let mut wait = Wait {
            ms: of_all,
            rule: Rule::AllTraffic,
        };
        if let Some(row) = &seat.row {
            let mut meters = row.meters.get();
            let by_bytes = meters.bytes.spend(limits.address.bytes, bytes, now_ms);
            let by_frames = meters.frames.spend(limits.address.frames, frames, now_ms);
            row.meters.set(meters);
            wait = wait.or(by_bytes, Rule::Bytes).or(by_frames, Rule::Frames);
        }
        wait
    }

    /// A session is answered with so much, and with a split among it where `asked`: that is more than what asks for it, where an answer
    /// to a share is less. All of it counts, and whoever asks waits: shares of neighbours need not, whatever one of them asks for. What
    /// the pool says to all of its own accord counts for nobody.
    pub fn answer(&mut self, seat: &Seat, bytes: usize, asked: bool, now_ms: u64) -> Wait {
        let mut wait = Wait {
            ms: 0,
            rule: Rule::Answers,
        };
        if let Some(row) = &seat.row {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let mut answers = row.answers.get();
            let owed_ms = answers.spend(self.limits.answers, bytes, now_ms);
            row.answers.set(answers);
            wait.ms = if asked { owed_ms } else { 0 };
        }
        wait
    }

    /// The conduct of a new session.
    #[must_use]
    pub fn conduct(&self, now_ms: u64) -> Conduct {
        Conduct::new(self.limits.refused, self.limits.session_shares_per_s, now_ms)
    }

    /// What [`Conduct::note`] is given.
    #[must_use]
    pub fn refused_rate(&self) -> Rate {
        self.limits.refused
    }

    /// `address` did what `rule` is for. The ban, where that begins one.
    pub fn offend(&mut self, address: IpAddr, rule: Rule, now_ms: u64) -> Option<Banned> {
        if rule.points() == 0 || self.limits.allows(address) {
            return None;
        }
        let row = self.row(address, now_ms).ok()?;
        self.blame(&row, rule, now_ms)
    }

    /// Another shard has banned an address, or a former process had.
    pub fn hear_ban(&mut self, banned: Banned, now_ms: u64) {
        let row = self.table.touch(banned.subject, &self.limits, now_ms);
        if let Some(row) = row {
            let mut standing = row.standing.get();
            standing.hear(banned.ban, &self.limits.bans, now_ms);
            row.standing.set(standing);
        }
    }

    /// Lifts the ban of an address, or all of them. How many were banned.
    pub fn lift(&mut self, subject: Option<Subject>, now_ms: u64) -> usize {
        let of = |row: &&Rc<Row>| subject.is_none_or(|subject| row.subject == subject);
        let rows = self.table.iter().filter(of);
        rows.filter(|row| {
            let mut standing = row.standing.get();
            let was_banned = standing.ban(now_ms).is_some();
            standing.lift(&self.limits.bans, now_ms);
            row.standing.set(standing);
            was_banned
        })
        .count()
    }

    /// Every address that is banned, or was and is not forgiven yet: its next ban will be a longer one.
    #[must_use]
    pub fn bans(&self, now_ms: u64) -> Vec<Banned> {
        let banned = |row: &Rc<Row>| {
            let ban = row.standing.get().remembered(&self.limits.bans, now_ms)?;
            let subject = row.subject;
            Some(Banned { subject, ban })
        };
        self.table.iter().filter_map(banned).collect()
    }

    /// Addresses known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn set_pressure(&mut self, pressure: Pressure) {
        self.pressure = pressure;
    }

    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    fn row(&mut self, address: IpAddr, now_ms: u64) -> Result<Rc<Row>, Refused> {
        let row = self.table.touch(address.into(), &self.limits, now_ms);
        row.ok_or(Rule::Addresses.into())
    }

    fn refuse(&self, row: &Row, rule: Rule, now_ms: u64) -> Refused {
        let banned = self.blame(row, rule, now_ms);
        Refused { rule, banned }
    }

    fn blame(&self, row: &Row, rule: Rule, now_ms: u64) -> Option<Banned> {
        let mut standing = row.standing.get();
        let ban = standing.offend(rule, &self.limits.bans, now_ms);
        row.standing.set(standing);
        ban.map(|ban| Banned {
            subject: row.subject,
            ban,
        })
    }
}

impl From<Rule> for Refused {
    fn from(rule: Rule) -> Self {
        Self { rule, banned: None }
    }
}

impl Wait {
    /// The longer of the two.
    fn or(self, ms: u64, rule: Rule) -> Self {
        if ms > self.ms { Self { ms, rule } } else { self }
    }
}

impl Guest {
    fn new(row: Option<Rc<Row>>) -> Self {
        Self {
            row,
            sends_early: Cell::new(false),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(row) = &self.row {
            row.handshakes.set(row.handshakes.get() - 1);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(row) = &self.row {
            row.sessions.set(row.sessions.get() - 1);
        }
    }
}
