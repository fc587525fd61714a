//! How a gateway gets its jobs: terms from CONFIG, a template into the next slot, a split asked for it.

use std::rc::Rc;

use millrace::wire::{CoinbaserRequest, Config};

use super::{Asking, Behaviour, Gateway, World, padding};
use crate::asic::Found;
use crate::coinbase::{Payout, Payouts, Terms};

/// Ids of splits that this gateway has got, a bit each.
#[derive(Debug, Default)]
pub(super) struct DictatedIds([u64; 4]);

impl DictatedIds {
    pub fn add(&mut self, id: u8) {
        self.0[usize::from(id / 64)] |= 1 << (id % 64);
    }

    /// One that it has not got. The highest: a pool counts upwards, and an answer that was lost with its connection may
    /// have had one of the low ones.
    pub fn other(&self) -> Option<u8> {
        let is_new = |id: &u8| self.0[usize::from(id / 64)] & 1 << (id % 64) == 0;
        (1..=u8::MAX).rev().find(is_new)
    }
}

impl Gateway {
    pub(super) fn configure(&mut self, config: &Config<'_>, world: &mut World, out: &mut Vec<u8>) {
        let tally = &mut world.tally;
        tally.configs += 1;
        if config.prime_id == 0 || !config.min_diff.is_power_of_two() || config.tag.contains(&0) {
            tally.fault(|| format!("terms that no gateway bears: {config:?}"));
        }
        if self.asking.is_some() {
            tally.fault(|| "CONFIG between a coinbaser request and its answer".into());
        }
        self.terms = Some(Rc::new(Terms {
            prime_id: config.prime_id,
            script: config.script.into(),
            tag: config.tag.into(),
            min_pot: config.min_diff.trailing_zeros() as u8,
        }));
        if std::mem::replace(&mut self.configured, true) {
            return;
        }
        tally.handshakes += 1;
        let handshake_ns = world.now_ns.saturating_sub(self.connect_due_ns).max(1);
        tally.handshake_ns.saturating_record(handshake_ns);
        match world.setup.behaviour {
            Behaviour::Storm => self.add_job(true, world),
            // After a reconnect the old jobs go on until the next template.
            _ if self.slots.newest().is_none() => {
                self.new_tip(world, out);
                // So that gateways do not all change their jobs at once.
                self.next_job_ns = world.now_ns + world.rng.below(world.setup.job_every_ns.max(1));
            }
            _ => {}
        }
    }

    /// Two templates: one at once without a split, one with.
    pub fn new_tip(&mut self, world: &mut World, out: &mut Vec<u8>) {
        self.tip = world.tip;
        self.add_job(true, world);
        self.new_job(world, out);
    }

    pub(super) fn new_job(&mut self, world: &mut World, out: &mut Vec<u8>) {
        self.next_job_ns = world.now_ns + world.setup.job_every_ns;
        self.add_job(false, world);
        let serial = self.slots.newest().map(|job| job.serial);
        self.ask(serial, world, out);
    }

    fn add_job(&mut self, empty: bool, world: &mut World) {
        let Some(terms) = self.terms.clone() else {
            return;
        };
        self.variant += 1;
        let template = world.source.template(world.tip, self.variant);
        let template = match self.spoils {
            Some(how) => template.spoilt(how),
            None => template,
        };
        self.slots.add(template, terms, empty);
        if self.recent.as_ref().is_some_and(|recent| !self.holds(&recent.found)) {
            self.recent = None;
        }
    }

    /// Whether the slot of a share still has the job it was found in.
    pub(super) fn holds(&self, found: &Found) -> bool {
        let job = self.slots.job(found.place.slot);
        job.is_some_and(|job| job.serial == found.serial) && self.slots.free() != found.place.slot
    }

    pub(super) fn ask(&mut self, serial: Option<u32>, world: &mut World, out: &mut Vec<u8>) {
        let Some(newest) = self.slots.newest() else {
            return;
        };
        let request = CoinbaserRequest {
            value: newest.template.value,
            prev_block_hash: &newest.template.parent,
            padding: padding(&mut world.rng),
        };
        self.line.send(&request, out);
        self.asking = Some(Asking {
            serial,
            value: request.value,
            at_tip: world.all_ask,
        });
        self.asked_ns = world.now_ns;
        world.tally.splits_asked += 1;
        if world.all_ask {
            world.tally.at_tip.asked(world.now_ns);
        }
    }

    /// Asks for a split once more, whether or not the one before was answered, as no gateway does.
    pub fn ask_again(&mut self, world: &mut World, out: &mut Vec<u8>) {
        self.ask(None, world, out);
    }

    pub(super) fn split<'a>(
        &mut self,
        value: u64,
        coinbaser_id: u8,
        payouts: impl Iterator<Item = Payout<'a>>,
        world: &mut World,
    ) {
        self.dictated.add(coinbaser_id);
        let tally = &mut world.tally;
        let (Some(asking), Some(terms)) = (self.asking.take(), self.terms.clone()) else {
            tally.fault(|| format!("a split of {value} that was not asked for, or came after 5 s"));
            return;
        };
        // As the gateway does it: what goes beyond the value is cut off.
        let (mut outputs, mut left) = (0, Some(value));
        let payouts: Payouts = payouts
            .inspect(|_| outputs += 1)
            .take_while(|payout| {
                left = left.and_then(|left| left.checked_sub(payout.value));
                left.is_some()
            })
            .collect();
        tally.splits_answered += 1;
        if asking.at_tip {
            tally.at_tip.answered(outputs, world.now_ns);
        }
        tally.split_outputs.saturating_record(outputs);
        tally.split_ns.saturating_record((world.now_ns - self.asked_ns).max(1));
        if asking.value != value || coinbaser_id == 0 {
            tally.fault(|| format!("asked for {}, the split is {coinbaser_id} of {value}", asking.value));
        }
        if left.is_none() {
            tally.fault(|| format!("split {coinbaser_id} pays more than its {value}"));
        }
        // One of another value is none, nor is one that pays nobody; neither is named.
        let payouts = if asking.value == value {
            payouts
        } else {
            Payouts::default()
        };
        let coinbaser_id = if payouts.is_empty() { 0 } else { coinbaser_id };
        if let Some(serial) = asking.serial {
            self.slots.complete(serial, terms, coinbaser_id, payouts);
        }
    }

    /// Goes on without the split that was awaited.
    pub(super) fn stop_asking(&mut self) {
        if let (Some(asking), Some(terms)) = (self.asking.take(), self.terms.clone())
            && let Some(serial) = asking.serial
        {
            self.slots.complete(serial, terms, 0, Payouts::default());
        }
    }
}
