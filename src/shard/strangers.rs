//! Gateways that have proved nothing yet. Keys are free to make, so of those without a session few are remembered: for the
//! one whose first connection broke before it said anything.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::gateways::Gateway;
use crate::work::GatewayMemory;

/// Strangers without a session that a shard remembers; some 1 kB each.
pub const STRANGERS_MAX: usize = 4_096;

/// By long-term Ed25519 key.
#[derive(Default)]
pub(super) struct Strangers {
    met: HashMap<[u8; 32], Stranger>,
    /// Those whose last session has ended, each once, in about that order. Some have come back meanwhile.
    absent: VecDeque<[u8; 32]>,
}

struct Stranger {
    gateway: Rc<RefCell<Gateway>>,
    /// It stands in `absent`.
    is_queued: bool,
}

impl Strangers {
    pub fn find(&self, key: &[u8; 32]) -> Option<&Rc<RefCell<Gateway>>> {
        self.met.get(key).map(|stranger| &stranger.gateway)
    }

    /// The one with this key, or a new one.
    pub fn meet(&mut self, key: [u8; 32]) -> Rc<RefCell<Gateway>> {
        let met = self.met.entry(key).or_insert_with(|| Stranger {
            gateway: Rc::new(RefCell::new(Gateway::new(GatewayMemory::new()))),
            is_queued: false,
        });
        met.gateway.clone()
    }

    /// It is none any more.
    pub fn remove(&mut self, key: &[u8; 32]) {
        self.met.remove(key);
    }

    /// A session of the one with this key has ended. Those of others that go for it are `gone`, by `prime_id`.
    pub fn session_ended(&mut self, key: &[u8; 32], gone: &mut Vec<u32>) {
        let Some(stranger) = self.met.get_mut(key) else {
            return;
        };
        if stranger.gateway.borrow().lives() {
            return;
        }
        if stranger.gateway.borrow().is_blank() {
            self.remove(key);
        } else if !std::mem::replace(&mut stranger.is_queued, true) {
            self.absent.push_back(*key);
        }
        if self.absent.len() > STRANGERS_MAX {
            self.let_first_go(gone);
        }
    }

    /// Forgets those that were last seen before `since_s`; at most `part` of them.
    pub fn expire(&mut self, since_s: u64, part: usize, gone: &mut Vec<u32>) {
        for _ in 0..part {
            let seen_s = self.absent.front().map(|first| {
                let first = self.find(first);
                first.map_or(0, |gateway| gateway.borrow().last_seen_s())
            });
            if seen_s.is_none_or(|seen_s| seen_s >= since_s) {
                return;
            }
            self.let_first_go(gone);
        }
    }

    fn let_first_go(&mut self, gone: &mut Vec<u32>) {
        let Some(first) = self.absent.pop_front() else {
            return;
        };
        let Some(stranger) = self.met.get_mut(&first) else {
            return;
        };
        stranger.is_queued = false;
        if !stranger.gateway.borrow().lives() {
            gone.extend(stranger.gateway.borrow_mut().forget_unproved(u64::MAX));
            self.remove(&first);
        }
    }
}
