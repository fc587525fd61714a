//! What a shard remembers of its gateways between their sessions.
//!
//! A gateway is its long-term Ed25519 key, made anew at each start of its process and kept for all its reconnects.
//! Keys are free to make, so a gateway is remembered only once it has sent a frame under its channel key.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::slots::SlotKey;
use crate::wire::ChannelKey;
use crate::work::GatewayMemory;

/// One gateway, shared by its sessions on the shard.
pub(super) struct Gateway {
    /// Terms, parents and duplicates: what makes its shares count, once.
    pub memory: GatewayMemory,
    former: FormerKeys,
    /// The session that sent the latest proof; an older one is displaced by it.
    pub session: Option<SlotKey>,
    live_sessions: u32,
    last_seen_s: u64,
}

/// The channel keys under which early frames can come (protocol section 2): that of the last session that sent a
/// good frame, and the newest one made since.
#[derive(Default)]
struct FormerKeys {
    proven: Option<ChannelKey>,
    newest: Option<ChannelKey>,
}

impl Gateway {
    pub fn new(memory: GatewayMemory) -> Self {
        Self {
            memory,
            former: FormerKeys::default(),
            session: None,
            live_sessions: 0,
            last_seen_s: 0,
        }
    }

    /// The keys to try on early frames of a session that starts now, whose own key is noted as the newest.
    pub fn begin_session(&mut self, key: &ChannelKey) -> Vec<ChannelKey> {
        self.live_sessions += 1;
        let former = [&self.former.newest, &self.former.proven];
        let former = former.into_iter().flatten().cloned().collect();
        self.former.newest = Some(key.clone());
        former
    }

    /// The session's first good frame came: returns the session it displaces.
    pub fn prove_session(&mut self, key: &ChannelKey, session: SlotKey) -> Option<SlotKey> {
        self.former = FormerKeys {
            proven: Some(key.clone()),
            newest: None,
        };
        self.session.replace(session).filter(|older| *older != session)
    }

    pub fn end_session(&mut self, session: SlotKey, now_s: u64) {
        self.live_sessions -= 1;
        self.last_seen_s = now_s;
        if self.session == Some(session) {
            self.session = None;
        }
    }
}

/// The gateways of one shard by long-term Ed25519 key.
pub(super) struct Gateways {
    known: HashMap<[u8; 32], Rc<RefCell<Gateway>>>,
    capacity: usize,
    resume_for_s: u64,
}

impl Gateways {
    /// `capacity`: gateways remembered at most. `resume_for_s`: how long after its last session.
    pub fn new(capacity: usize, resume_for_s: u64) -> Self {
        Self {
            known: HashMap::new(),
            capacity,
            resume_for_s,
        }
    }

    pub fn find(&self, key: &[u8; 32]) -> Option<Rc<RefCell<Gateway>>> {
        self.known.get(key).cloned()
    }

    /// Remembers a gateway that has proved its key, or was read back from the ledger. False: at capacity, so that it
    /// will start afresh when it reconnects.
    pub fn remember(&mut self, key: [u8; 32], gateway: Rc<RefCell<Gateway>>, now_s: u64) -> bool {
        gateway.borrow_mut().last_seen_s = now_s;
        if self.known.len() >= self.capacity && !self.known.contains_key(&key) {
            return false;
        }
        self.known.insert(key, gateway);
        true
    }

    /// Forgets gateways without a session for longer than work in flight can matter.
    pub fn expire(&mut self, now_s: u64) {
        let oldest = now_s.saturating_sub(self.resume_for_s);
        self.known.retain(|_, gateway| {
            let gateway = gateway.borrow();
            gateway.live_sessions > 0 || gateway.last_seen_s >= oldest
        });
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }
}
