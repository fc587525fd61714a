//! Where a shard holds connections and sessions to its guards; the rules are in [`crate::guard`].

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc::Sender;

use super::Shard;
use super::dialogue::Dialogue;
use super::inbox::Parcel;
use super::log_lines::LogLines;
use super::mailbox::Mailbox;
use super::session::{Answers, Output};
use crate::guard::{
    Admission, Banned, Conduct, Early, Guest, Pressure, Refused, Rule, SETTLE_S, Seat, Steered, Step, Subject,
};
use crate::telemetry::EndReason;
use crate::work::{MinDiff, SteerRule};

/// For the log of a gateway that is slowed down; once a session.
const SLOWED_LINE: &str = "the pool reads this gateway more slowly for a while: it sends or asks for more, or more of it is refused, than it may";

/// Bans that the log of a shard names in so many ms, 20 a minute: whoever has many addresses must not fill it.
const BANS_SAID: u32 = 10;
const BANS_SAID_MS: u64 = 30_000;

/// For bans.
pub(super) fn ban_lines() -> LogLines {
    LogLines::new(BANS_SAID, BANS_SAID_MS)
}

/// How an accepted connection goes on.
pub(super) enum Entry {
    /// Counted for its address.
    Guest(Guest),
    /// Through a proxy, which says first whose it is.
    Proxied,
}

/// Whose a session is, and how it behaves.
pub(super) struct Watch {
    peer: SocketAddr,
    seat: Seat,
    conduct: Conduct,
    /// The difficulty that `conduct` goes by; none where nobody steers.
    steered_to: Option<MinDiff>,
    was_told: bool,
}

/// What the operator asks of a shard's guards.
#[derive(Debug, Clone)]
pub struct AskGuards {
    pub lift: Option<Lift>,
    pub reply: Sender<GuardsShown>,
}

/// Which bans are lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lift {
    All,
    One(Subject),
}

/// The guards of one shard as they are.
#[derive(Debug, Clone)]
pub struct GuardsShown {
    /// Those that hold, and those that are over and not forgotten.
    pub bans: Vec<Banned>,
    pub lifted: usize,
    /// Addresses known.
    pub addresses: usize,
    /// The clock that bans are written by.
    pub now_ms: u64,
}

impl Shard {
    /// A connection was accepted from `peer`. None where it is turned away, which is counted.
    pub fn admit_connection(&self, peer: IpAddr) -> Result<Entry, EndReason> {
        self.hear_address(peer)?;
        let now_ms = self.now_ms();
        let mut guards = self.guards.borrow_mut();
        let entry = guards.accept().and_then(|()| match guards.is_proxy(peer) {
            true => Ok(Entry::Proxied),
            false => guards.arrive(peer, now_ms).map(Entry::Guest),
        });
        drop(guards);
        entry.map_err(|refused| self.turn_away(refused))
    }

    /// A connection through a proxy has said whose it is.
    pub fn admit_proxied(&self, address: IpAddr) -> Result<Guest, EndReason> {
        self.hear_address(address)?;
        let guest = self.guards.borrow_mut().arrive(address, self.now_ms());
        guest.map_err(|refused| self.turn_away(refused))
    }

    /// How a session begins of the gateway with this key.
    pub fn admit_gateway(&self, key: &[u8; 32]) -> Result<Admission, EndReason> {
        let gateway = self.gateways.borrow().find(key);
        let has_mined = gateway.is_some_and(|gateway| gateway.borrow().memory.has_mined());
        let admitted = self.guards.borrow().admit(has_mined);
        admitted.map_err(|refused| self.turn_away(refused))
    }

    /// Nobody went for a gateway that comes in for somebody alone.
    pub fn refuse_for_memory(&self) -> EndReason {
        self.turn_away(Rule::Memory.into())
    }

    /// Counts a session of `peer`.
    pub fn watch_session(&self, peer: SocketAddr) -> Result<Watch, EndReason> {
        let now_ms = self.now_ms();
        let seat = self.guards.borrow_mut().seat(peer.ip(), now_ms);
        let seat = seat.map_err(|refused| self.turn_away(refused))?;
        Ok(Watch {
            peer,
            seat,
            conduct: self.guards.borrow().conduct(now_ms),
            steered_to: None,
            was_told: false,
        })
    }

    /// So much came up to the end of HELLO: how long nothing more is done about it, in ms.
    pub fn hear_early(&self, guest: &Guest, early: Early) -> u64 {
        let wait = self.guards.borrow_mut().hear_early(guest, early, self.now_ms());
        if wait.ms > 0 {
            self.telemetry.guard_slowed[wait.rule].add(1);
        }
        wait.ms
    }

    /// A connection of `peer` has ended for `reason`, before it was a session or after.
    pub fn blame(&self, peer: SocketAddr, reason: EndReason) {
        if let Some(rule) = rule_broken(reason) {
            self.offend(peer.ip(), rule);
        }
    }

    /// Another shard has banned an address.
    pub fn hear_ban(&self, banned: Banned) {
        self.guards.borrow_mut().hear_ban(banned, self.now_ms());
    }

    /// Another shard has a session of this address that mines.
    pub fn hear_mined(&self, subject: Subject) {
        self.guards.borrow_mut().hear_mined(subject, self.now_ms());
    }

    pub fn answer_guards(&self, ask: &AskGuards) {
        let now_ms = self.now_ms();
        let mut guards = self.guards.borrow_mut();
        let lifted = match ask.lift {
            None => 0,
            Some(Lift::All) => guards.lift(None, now_ms),
            Some(Lift::One(subject)) => guards.lift(Some(subject), now_ms),
        };
        // Who asked may have given up.
        let _ = ask.reply.send(GuardsShown {
            bans: guards.bans(now_ms),
            lifted,
            addresses: guards.len(),
            now_ms,
        });
    }

    /// Memory is so near its limit; said again each second while sessions must close for it.
    pub fn feel_pressure(&self, pressure: Pressure) {
        self.guards.borrow_mut().set_pressure(pressure);
        let slots = self.slots.borrow();
        let sessions = slots
            .iter()
            .map(|session| (session, session.has_mined(), session.begun_ms));
        for session in pressure.choose(sessions) {
            self.telemetry.guard_cut[Rule::Memory].add(1);
            session.end(EndReason::MemoryLimit);
        }
    }

    fn turn_away(&self, refused: Refused) -> EndReason {
        self.telemetry.guard_refused[refused.rule].add(1);
        if let Some(banned) = refused.banned {
            self.tell_ban(banned);
        }
        match refused.rule {
            Rule::Memory => EndReason::MemoryLimit,
            _ => EndReason::GuardRefused,
        }
    }

    fn offend(&self, address: IpAddr, rule: Rule) {
        let banned = self.guards.borrow_mut().offend(address, rule, self.now_ms());
        if let Some(banned) = banned {
            self.tell_ban(banned);
        }
    }

    /// Every shard may accept the next connection of who is banned on one. A full inbox does not hear it, and bans by itself.
    fn tell_ban(&self, banned: Banned) {
        self.telemetry.guard_banned[banned.ban.why].add(1);
        let now_ms = self.now_ms();
        if let Some(bans) = self.banned.count(now_ms) {
            self.say_bans_unsaid(bans - 1);
            tracing::warn!(
                address = %banned.subject,
                why = banned.ban.why.label(),
                seconds = banned.ban.until_ms.saturating_sub(now_ms) / 1_000,
                "banned; `millrace guard lift` ends it"
            );
        }
        self.tell_others(|| Parcel::Ban(banned));
    }

    /// What the log had no room for is said when it has again.
    pub fn say_more_bans(&self) {
        if let Some(bans) = self.banned.take_unsaid(self.now_ms()) {
            self.say_bans_unsaid(bans);
        }
    }

    fn say_bans_unsaid(&self, bans: u64) {
        if bans > 0 {
            tracing::warn!(
                shard = self.index,
                bans,
                "so many more were banned; `millrace guard show` lists those that are"
            );
        }
    }

    /// A full inbox does not hear it.
    fn tell_others(&self, parcel: impl Fn() -> Parcel) {
        let others = self.peers.iter().enumerate().filter(|(index, _)| *index != self.index);
        others.for_each(|(_, peer)| drop(peer.leave(parcel())));
    }
}

impl Watch {
    /// Holds a session to what it has just sent: so many bytes of whole frames, and so many frames.
    ///
    /// # Errors
    /// It went on after it was slowed down, and is cut off.
    pub fn hear(
        &mut self,
        shard: &Shard,
        mailbox: &Mailbox,
        dialogue: &mut Dialogue,
        (bytes, frames): (usize, u32),
        out: &mut Output,
    ) -> Result<(), EndReason> {
        let now_ms = shard.now_ms();
        self.follow_steering(shard, dialogue, now_ms);
        let mut guards = shard.guards.borrow_mut();
        let wait = guards.hear(&self.seat, bytes, frames, now_ms);
        if mailbox.has_mined()
            && let Some(subject) = guards.note_mined(&self.seat, now_ms)
        {
            shard.tell_others(|| Parcel::Mined(subject));
        }
        let step = self
            .conduct
            .note(frames, guards.refused_rate(), dialogue.take_refused_weight(), now_ms);
        let (until_ms, rule) = match step {
            Step::Cut(rule) => {
                shard.telemetry.guard_cut[rule].add(1);
                return Err(match rule {
                    Rule::ShareRate => EndReason::ShareFlood,
                    _ => EndReason::RefusedShares,
                });
            }
            Step::Slow { until_ms, rule } => (until_ms, rule),
            // Where all together send too much, those that mine are not who has to wait.
            Step::Go if wait.ms > 0 && !(wait.rule == Rule::AllTraffic && mailbox.has_mined()) => {
                (now_ms + wait.ms, wait.rule)
            }
            Step::Go => return Ok(()),
        };
        drop(guards);
        self.slow_down(shard, mailbox, dialogue, (until_ms, rule), out);
        Ok(())
    }

    /// Counts what the session is answered with in `out`, which is about to be sent.
    pub fn answer(&mut self, shard: &Shard, mailbox: &Mailbox, dialogue: &mut Dialogue, out: &mut Output) {
        let Answers { bytes, with_split } = std::mem::take(&mut out.answers);
        if bytes == 0 {
            return;
        }
        let now_ms = shard.now_ms();
        let wait = shard.guards.borrow_mut().answer(&self.seat, bytes, with_split, now_ms);
        if wait.ms > 0 {
            self.slow_down(shard, mailbox, dialogue, (now_ms + wait.ms, wait.rule), out);
        }
    }

    /// Has nothing be read of the session until then.
    fn slow_down(
        &mut self,
        shard: &Shard,
        mailbox: &Mailbox,
        dialogue: &mut Dialogue,
        (until_ms, rule): (u64, Rule),
        out: &mut Output,
    ) {
        shard.telemetry.guard_slowed[rule].add(1);
        mailbox.slowed_until_ms.set(until_ms.max(mailbox.slowed_until_ms.get()));
        if !self.was_told {
            self.was_told = true;
            tracing::debug!(peer = %self.peer, rule = rule.label(), "a session is slowed down");
            dialogue.say_line(SLOWED_LINE, out);
        }
    }

    /// Holds the session to what its difficulty implies, where the pool steers it. What a gateway was told before it came back holds for
    /// as long as it would have in the session that was.
    fn follow_steering(&mut self, shard: &Shard, dialogue: &Dialogue, now_ms: u64) {
        let Some((rule, min_diff)) = shard.settings.steering.zip(dialogue.steered_to()) else {
            return;
        };
        if self.steered_to == Some(min_diff) {
            return;
        }
        match self.steered_to.replace(min_diff) {
            Some(_) => self.conduct.steer(steered(rule, min_diff), now_ms),
            None => begin(
                &mut self.conduct,
                rule,
                (dialogue.lately_steered_to(SETTLE_S), min_diff),
                now_ms,
            ),
        }
    }

    /// The session has ended. `has_mined`: a share of it was accepted. `owes_proof`: it had its CONFIG, and said nothing under its own
    /// key.
    pub fn ended(self, shard: &Rc<Shard>, reason: EndReason, has_mined: bool, owes_proof: bool) {
        let is_ours = matches!(
            reason,
            EndReason::Drained
                | EndReason::PoolFailed
                | EndReason::MemoryLimit
                | EndReason::Idle
                | EndReason::GatewayMemory
                | EndReason::ForgottenDuplicates
                | EndReason::DeniedAddress
                | EndReason::DeniedAgent
                | EndReason::DeniedVersion
                | EndReason::Unproved
        );
        match rule_broken(reason) {
            // An uplink that dies at a new tip leaves half a frame of every gateway behind it.
            Some(_) if has_mined && reason == EndReason::FrameDeadline => shard.offend(self.peer.ip(), Rule::Broken),
            Some(rule) => shard.offend(self.peer.ip(), rule),
            None if owes_proof && !is_ours => shard.offend(self.peer.ip(), unproven(reason)),
            None => {}
        }
    }
}

/// A session begins at `min_diff`; `former` is the lowest that its gateway was told of late.
fn begin(conduct: &mut Conduct, rule: SteerRule, (former, min_diff): (Option<MinDiff>, MinDiff), now_ms: u64) {
    if let Some(former) = former.filter(|former| *former < min_diff) {
        conduct.steer(steered(rule, former), now_ms);
    }
    conduct.steer(steered(rule, min_diff), now_ms);
}

/// How a session is steered at this difficulty; not at all where it could be raised no further.
fn steered(rule: SteerRule, min_diff: MinDiff) -> Option<Steered> {
    (min_diff < rule.most).then(|| Steered {
        shares_per_minute: rule.shares_per_minute,
        min_diff: min_diff.get(),
    })
}

/// What it is to end so without a proof.
fn unproven(reason: EndReason) -> Rule {
    match reason {
        // An uplink that goes without a word leaves silence.
        EndReason::PeerClosed | EndReason::ReadError | EndReason::WriteError | EndReason::Silent => Rule::Broken,
        _ => Rule::Unproven,
    }
}

/// What a connection did wrong that ended so.
fn rule_broken(reason: EndReason) -> Option<Rule> {
    Some(match reason {
        EndReason::Garbage | EndReason::HelloTooLong => Rule::Garbage,
        EndReason::HelloDeadline | EndReason::Crowded => Rule::SlowHello,
        EndReason::HelloUnsealable => Rule::StrangeHello,
        EndReason::HelloMalformed | EndReason::HelloSignature | EndReason::WeakKey => Rule::BadHello,
        EndReason::BadHeader
        | EndReason::UnexpectedCommand
        | EndReason::FrameTooLong
        | EndReason::BadMac
        | EndReason::TooManyEarlyFrames
        | EndReason::BadMessage
        | EndReason::FrameDeadline => Rule::BadFrame,
        EndReason::HelloReplayed => Rule::Unproven,
        EndReason::ShareFlood => Rule::ShareRate,
        EndReason::RefusedShares => Rule::RefusedShares,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
