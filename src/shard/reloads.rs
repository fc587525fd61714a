//! Duplicates that were let go of, and are read back: the chain came back to a parent of before.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crossbeam::channel::{self, Receiver};

use super::Shard;
use super::gateways::Gateway;
use super::inbox::{InboxHandle, Parcel};
use crate::ledger::{AnswerReload, Reload, Reloaded};
use crate::telemetry::Bound;

/// Reloads under way on a shard, each of one gateway and one parent: 2 MiB where a gateway had all shares that it may have.
/// What finds no room asks again with its next share.
pub const RELOADS_MAX: usize = 1_024;

pub(super) struct Reloads {
    /// How many were ever begun: each has a number of its own.
    begun: u64,
    /// By number.
    under_way: HashMap<u64, Weak<RefCell<Gateway>>>,
    /// Those that wait until all that was pushed before them is durable, with how many entries that is.
    behind: VecDeque<(u64, Reload)>,
    answers: Receiver<Reloaded>,
    answer: AnswerReload,
}

impl Reloads {
    /// `inbox`: the shard's own.
    pub fn new(inbox: InboxHandle) -> Self {
        let (sender, answers) = channel::unbounded();
        let answer = move |reloaded| {
            let _ = sender.send(reloaded);
            // Where it is full the shard looks by itself at its next tick.
            let _ = inbox.leave(Parcel::Reloaded);
        };
        Self {
            begun: 0,
            under_way: HashMap::new(),
            behind: VecDeque::new(),
            answers,
            answer: Arc::new(answer),
        }
    }
}

impl Shard {
    /// Asks for the duplicates of a parent that the gateway has come back to, where that is due.
    pub fn ask_for_duplicates(&self, gateway: &Rc<RefCell<Gateway>>) {
        let memory = &mut gateway.borrow_mut().memory;
        if !memory.needs_a_reload() {
            return;
        }
        let mut reloads = self.reloads.borrow_mut();
        if reloads.under_way.len() >= RELOADS_MAX {
            self.telemetry.bounds[Bound::Reloads].add(1);
            return;
        }
        let number = reloads.begun;
        let Some(wanted) = memory.begin_reload(number) else {
            return;
        };
        reloads.begun += 1;
        reloads.under_way.insert(number, Rc::downgrade(gateway));
        let answer = reloads.answer.clone();
        let pushed = self.due.borrow().pushed();
        reloads.behind.push_back((pushed, Reload { number, wanted, answer }));
        self.telemetry.reloads_under_way.set(reloads.under_way.len() as u64);
        drop(reloads);
        self.leave_reloads();
    }

    /// Leaves those to the ledger before which all is durable. Called after each commit.
    pub fn leave_reloads(&self) {
        let mut reloads = self.reloads.borrow_mut();
        if reloads.behind.is_empty() {
            return;
        }
        let ledger = self.ledger.borrow();
        let durable = ledger.durable();
        while let Some((_, reload)) = reloads.behind.pop_front_if(|(pushed, _)| *pushed <= durable) {
            ledger.reload(reload);
        }
    }

    /// Takes what was read.
    pub fn take_reloaded(&self) {
        let mut reloads = self.reloads.borrow_mut();
        let Reloads { answers, under_way, .. } = &mut *reloads;
        for Reloaded { number, shares } in answers.try_iter() {
            let Some(gateway) = under_way.remove(&number).and_then(|gateway| gateway.upgrade()) else {
                continue;
            };
            let (chain, now_s) = (self.chain.borrow(), self.unix_ms() / 1_000);
            let is_current = |parent: &[u8; 32]| chain.is_current(parent, now_s);
            let memory = &mut gateway.borrow_mut().memory;
            match memory.end_reload(number, shares.as_deref(), is_current) {
                true => self.telemetry.reloads_done.add(1),
                false => self.telemetry.reloads_failed.add(1),
            }
        }
        self.telemetry.reloads_under_way.set(under_way.len() as u64);
    }
}
