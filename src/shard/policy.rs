//! The policy on a shard: who is turned away at accept, whose session ends, and whose shares are refused.

use std::net::IpAddr;
use std::sync::Arc;

use super::Shard;
use super::dialogue::Dialogue;
use super::session::Output;
use crate::telemetry::EndReason;
use crate::work::{Denied, Policy};

/// Payees of a session that its gateway's log was told of; others are refused without a word.
const TOLD_MAX: usize = 8;

/// Whom a session belongs to, as far as the policy asks.
#[derive(Debug)]
pub(super) struct Origin {
    pub address: IpAddr,
    /// As HELLO says it.
    pub agent: Box<str>,
}

impl Shard {
    /// Judges by this policy from now on: sessions, those that are alive too, and usernames.
    pub(super) fn take_policy(&self, policy: Arc<Policy>) {
        self.miners.borrow_mut().follow(policy.clone());
        *self.policy.borrow_mut() = policy;
        self.slots.borrow().iter().for_each(|session| session.policy_changed());
    }

    /// Whether somebody may connect from there: asked before anything is read.
    pub(super) fn admits_address(&self, address: IpAddr) -> bool {
        self.policy.borrow().admit_address(address).is_ok()
    }

    fn admit(&self, origin: &Origin) -> Result<(), EndReason> {
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
