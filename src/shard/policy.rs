//! The policy on a shard: who gets no session, whose session ends, and whose shares are refused.

use std::net::IpAddr;
use std::sync::Arc;

use super::Shard;
use super::dialogue::Dialogue;
use super::log_lines::LogLines;
use super::session::Output;
use crate::telemetry::EndReason;
use crate::wire::Hello;
use crate::work::{Denied, Policy};

/// Payees of a session that its gateway's log was told of; others are refused without a word.
const TOLD_MAX: usize = 8;

/// The log speaks of addresses that are denied once in so many ms: a gateway that is comes back every few seconds, for ever.
const DENIED_SAID_EVERY_MS: u64 = 10_000;

/// For connections of such addresses.
pub(super) fn denied_lines() -> LogLines {
    LogLines::new(1, DENIED_SAID_EVERY_MS)
}

/// Whom a session belongs to, as far as the policy asks.
#[derive(Debug)]
pub(super) struct Origin {
    pub address: IpAddr,
    /// As HELLO says it.
    pub agent: Box<str>,
}

impl Origin {
    pub fn of(address: IpAddr, hello: &Hello) -> Self {
        Self {
            address,
            agent: hello.agent.to_string().into(),
        }
    }
}

impl Shard {
    /// Judges by this policy from now on: sessions, those that are alive too, and usernames.
    pub(super) fn take_policy(&self, policy: Arc<Policy>) {
        self.miners.borrow_mut().follow(policy.clone());
        *self.policy.borrow_mut() = policy;
        self.slots.borrow().iter().for_each(|session| session.policy_changed());
    }

    /// Whether somebody may shake hands from there: asked before anything is read. Where the policy denies the address that is
    /// to read why, now and then, like any newcomer; else it is turned away without a word. The operator hears of it in any case.
    ///
    /// # Errors
    /// [`EndReason::DeniedAddress`].
    pub(super) fn hear_address(&self, address: IpAddr) -> Result<(), EndReason> {
        if self.policy.borrow().admit_address(address).is_ok() {
            return Ok(());
        }
        if let Some(connections) = self.denied.count(self.now_ms()) {
            tracing::info!(
                shard = self.index,
                %address,
                connections,
                "turned away: the policy denies this network address, the last of so many connections; `millrace policy` shows it"
            );
        }
        let is_told = self.guards.borrow_mut().tell(address, self.now_ms());
        is_told.then_some(()).ok_or(EndReason::DeniedAddress)
    }

    /// Whether a gateway from there hears why it is denied, which costs a handshake and keeps its place for a while. For its address
    /// it was asked before anything was read.
    pub(super) fn tells_why(&self, address: IpAddr, denied: EndReason) -> bool {
        denied == EndReason::DeniedAddress || self.guards.borrow_mut().tell(address, self.now_ms())
    }

    /// Whether a gateway may have a session.
    ///
    /// # Errors
    /// What the policy denies it for.
    pub(super) fn admit(&self, origin: &Origin) -> Result<(), EndReason> {
        let policy = self.policy.borrow();
        let admitted = policy.admit_address(origin.address);
        let admitted = admitted.and_then(|()| policy.admit_agent(&origin.agent));
        admitted.map_err(|denied| match denied {
            Denied::Address => EndReason::DeniedAddress,
            Denied::Agent => EndReason::DeniedAgent,
            Denied::Version => EndReason::DeniedVersion,
        })
    }
}

impl Dialogue {
    /// Ends the session where the policy does not admit it, any more or at all; its last words say why.
    pub(super) fn follow_policy(&mut self) {
        if let Err(reason) = self.shard.admit(&self.origin) {
            self.mailbox.end(reason);
        }
    }

    /// A username was refused: where it is good, and the policy alone forbids it, the gateway's log says so once a payee.
    pub(super) fn say_why_refused(&mut self, username: &[u8], out: &mut Output) {
        if !self.shard.miners.borrow().is_denied(username) {
            return;
        }
        self.shard.telemetry.shares_denied.add(1);
        let address = username.split(|byte| *byte == b'.').next().unwrap_or_default();
        let is_told = self.told_of_payees.iter().any(|told| **told == *address);
        if self.told_of_payees.len() < TOLD_MAX && !is_told {
            let shown = String::from_utf8_lossy(address);
            let line = format!("millrace: this pool takes no work for {shown}; ask its operator");
            self.outbound.info(&self.key, &line, &mut out.bytes);
            self.told_of_payees.push(address.into());
        }
    }
}
