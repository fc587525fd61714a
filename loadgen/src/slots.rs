//! A gateway's 8 slots: one template each, used in turn (protocol section 8).

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use millrace::wire::SUBSIDY_ONLY_ID;

use crate::coinbase::{Coinbase, NO_PAYOUTS, Payouts, Recipe, Secondary, Terms};
use crate::template::Template;

pub const SLOTS: u8 = 8;

/// A template in a slot.
#[derive(Debug)]
pub struct Job {
    /// Counts the gateway's jobs; tells this one from what held the slot before.
    pub serial: u32,
    pub template: Arc<Template>,
    /// Those of class 0 and of subsidy-only work.
    early_terms: Rc<Terms>,
    /// Those of the other classes: what was in force when the split arrived.
    terms: Rc<Terms>,
    stage: Stage,
    pub coinbaser_id: u8,
    payouts: Payouts,
    /// Each built when it is first worked on.
    coinbases: Coinbases,
    sent: Sent,
}

type Coinbases = [OnceCell<Box<Coinbase>>; COINBASES];

/// Places for the coinbases of a job: the ids in turn, subsidy-only in the last.
const COINBASES: usize = 8;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first of a new tip, for which no split is asked.
    Empty,
    /// Its split is asked for; class 0 is there meanwhile.
    Waiting,
    Complete,
}

/// Which sections this connection has carried.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    job: bool,
    /// A bit for each coinbase id, the highest for subsidy-only.
    coinbases: u8,
    /// One of them went out between HELLO and its response, so the pool may have been unable to read it.
    early: bool,
}

/// Which sections a share must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    pub job: bool,
    pub coinbase: bool,
}

/// A slot and the coinbase to work with in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub slot: u8,
    pub coinbase_id: u8,
}

/// What a miner prefers to work on.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    /// Its class where the job has it.
    pub coinbase_id: u8,
    /// Whether it stays on the job before the newest, as slow miners do.
    pub lags: bool,
    /// Whether it takes subsidy-only work at a new tip.
    pub subsidy_only: bool,
}

#[derive(Debug, Default)]
pub struct Slots {
    jobs: [Option<Box<Job>>; SLOTS as usize],
    /// Jobs so far; the newest stands in slot `count - 1`, in turn.
    count: u32,
}

impl Slots {
    /// Puts a template into the next slot. `empty`: no split is asked for it.
    pub fn add(&mut self, template: Arc<Template>, terms: Rc<Terms>, empty: bool) -> u32 {
        let slot = self.free();
        let serial = self.count;
        self.jobs[usize::from(slot)] = Some(Box::new(Job {
            serial,
            template,
            early_terms: terms.clone(),
            terms,
            stage: if empty { Stage::Empty } else { Stage::Waiting },
            coinbaser_id: 0,
            payouts: Payouts::default(),
            coinbases: Coinbases::default(),
            sent: Sent::default(),
        }));
        self.count += 1;
        if let Some(old) = serial.checked_sub(2) {
            self.retire(old);
        }
        serial
    }

    /// Nobody works on a job any more. Its sections have been sent, or will never be.
    fn retire(&mut self, serial: u32) {
        if let Some(job) = self.job_mut(slot_of(serial)) {
            job.payouts = Payouts::default();
            job.coinbases = Coinbases::default();
        }
    }

    /// Ends the wait for the split of a job: with the answer, or without where none came in time.
    pub fn complete(&mut self, serial: u32, terms: Rc<Terms>, coinbaser_id: u8, payouts: Payouts) {
        if let Some(job) = self.job_mut(slot_of(serial)).filter(|job| job.serial == serial) {
            job.stage = Stage::Complete;
            job.terms = terms;
            job.coinbaser_id = coinbaser_id;
            job.payouts = payouts;
            // Classes 1 to 5 are other ones from now on.
            job.coinbases[1..COINBASES - 1].fill(OnceCell::new());
        }
    }

    /// The slot that the next template takes. No miner works there any more, so what is wrong can be tried in it.
    pub fn free(&self) -> u8 {
        slot_of(self.count)
    }

    /// What stood in the free slot has been overwritten.
    pub fn spoil_free(&mut self) {
        self.jobs[usize::from(self.free())] = None;
    }

    pub fn job(&self, slot: u8) -> Option<&Job> {
        self.jobs.get(usize::from(slot))?.as_deref()
    }

    pub fn job_mut(&mut self, slot: u8) -> Option<&mut Job> {
        self.jobs.get_mut(usize::from(slot))?.as_deref_mut()
    }

    pub fn newest(&self) -> Option<&Job> {
        self.job(slot_of(self.count.checked_sub(1)?))
    }

    /// Where a miner works now; none before the first job.
    pub fn place(&self, taste: Taste) -> Option<Place> {
        let newest = self.newest()?;
        let before = self
            .count
            .checked_sub(2)
            .and_then(|serial| self.job(slot_of(serial)))
            .filter(|before| before.template.parent == newest.template.parent);
        let stay = taste.lags || newest.stage == Stage::Waiting && taste.coinbase_id != 0;
        let job = match before {
            Some(before) if stay && before.stage != Stage::Waiting => before,
            _ => newest,
        };
        let coinbase_id = match job.stage {
            Stage::Complete => taste.coinbase_id,
            Stage::Empty if taste.subsidy_only => SUBSIDY_ONLY_ID,
            Stage::Empty | Stage::Waiting => 0,
        };
        Some(Place {
            slot: slot_of(job.serial),
            coinbase_id,
        })
    }

    /// A new connection has carried nothing yet.
    pub fn forget_sent(&mut self) {
        for job in self.jobs.iter_mut().flatten() {
            job.sent = Sent::default();
        }
    }
}

impl Job {
    pub fn missing(&self, coinbase_id: u8) -> Missing {
        Missing {
            job: !self.sent.job,
            coinbase: self.sent.coinbases & bit(coinbase_id) == 0,
        }
    }

    /// A share with what was [`Job::missing`] leaves. True where the pool may lack a section of this job because it
    /// left early.
    pub fn mark_sent(&mut self, coinbase_id: u8, early: bool) -> bool {
        let missing = self.missing(coinbase_id);
        self.sent.early |= early && (missing.job || missing.coinbase);
        self.sent.job = true;
        self.sent.coinbases |= bit(coinbase_id);
        self.sent.early
    }

    pub fn recipe(&self, coinbase_id: u8, secondary: Secondary) -> Recipe<'_> {
        let early = matches!(coinbase_id, 0 | SUBSIDY_ONLY_ID);
        Recipe {
            coinbase_id,
            template: &self.template,
            terms: if early { &self.early_terms } else { &self.terms },
            secondary,
            unique_id: self.serial as u16,
            payouts: if early { &NO_PAYOUTS } else { &self.payouts },
        }
    }

    pub fn coinbase(&self, coinbase_id: u8, secondary: Secondary) -> &Coinbase {
        self.coinbases[place_of(coinbase_id)].get_or_init(|| Box::new(self.recipe(coinbase_id, secondary).build()))
    }
}

fn slot_of(serial: u32) -> u8 {
    (serial % u32::from(SLOTS)) as u8
}

fn place_of(coinbase_id: u8) -> usize {
    usize::from(coinbase_id).min(COINBASES - 1)
}

fn bit(coinbase_id: u8) -> u8 {
    1 << place_of(coinbase_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coinbase::Payout;
    use crate::template::Templates;

    fn terms(prime_id: u32) -> Rc<Terms> {
        Rc::new(Terms {
            prime_id,
            script: [0x51].into(),
            tag: (*b"pool").into(),
            min_pot: 0,
        })
    }

    const USUAL: Taste = Taste {
        coinbase_id: 2,
        lags: false,
        subsidy_only: true,
    };

    #[test]
    fn class_0_moves_at_once_and_the_others_when_the_split_is_there() {
        let mut templates = Templates::new(1, 0..=2);
        let mut slots = Slots::default();
        let zero = Taste {
            coinbase_id: 0,
            ..USUAL
        };
        assert_eq!(slots.place(USUAL), None);
        slots.add(templates.template(1, 0), terms(1), true);
        assert_eq!(
            slots.place(USUAL),
            Some(Place {
                slot: 0,
                coinbase_id: 0xff
            })
        );
        let first = slots.add(templates.template(1, 1), terms(1), false);
        assert_eq!(
            slots.place(zero),
            Some(Place {
                slot: 1,
                coinbase_id: 0
            })
        );
        assert_eq!(
            slots.place(USUAL),
            Some(Place {
                slot: 0,
                coinbase_id: 0xff
            })
        );
        slots.complete(first, terms(2), 9, Payouts::default());
        assert_eq!(
            slots.place(USUAL),
            Some(Place {
                slot: 1,
                coinbase_id: 2
            })
        );
        let job = slots.job(1).expect("the job is there");
        assert_eq!(job.recipe(0, Secondary::None).terms.prime_id, 1);
        assert_eq!(job.recipe(2, Secondary::None).terms.prime_id, 2);
        // At another tip nobody stays behind.
        slots.add(templates.template(2, 1), terms(2), false);
        assert_eq!(
            slots.place(USUAL),
            Some(Place {
                slot: 2,
                coinbase_id: 0
            })
        );
    }

    #[test]
    fn coinbases_are_built_once_and_kept_while_somebody_works_on_them() {
        let mut templates = Templates::new(1, 0..=2);
        let mut slots = Slots::default();
        let first = slots.add(templates.template(1, 0), terms(1), false);
        let built = |slots: &Slots, id| {
            let job = slots.job(0).expect("a job");
            let (once, again) = (job.coinbase(id, Secondary::None), job.coinbase(id, Secondary::None));
            assert!(std::ptr::eq(once, again));
            once.pays
        };
        assert!(!built(&slots, 0) && !built(&slots, 3));
        let payee = Payout {
            value: 1_000,
            script: &[0x51; 22],
        };
        slots.complete(first, terms(1), 9, Payouts::from_iter([payee]));
        assert!(!built(&slots, 0) && built(&slots, 3));
        let kept = |slots: &Slots| {
            let job = slots.job(0).expect("a job");
            job.coinbases.iter().filter_map(OnceCell::get).count()
        };
        slots.add(templates.template(1, 1), terms(1), false);
        assert_eq!(kept(&slots), 2);
        slots.add(templates.template(1, 2), terms(1), false);
        assert_eq!(kept(&slots), 0);
    }

    #[test]
    fn sections_leave_once_a_connection() {
        let mut templates = Templates::new(1, 0..=2);
        let mut slots = Slots::default();
        slots.add(templates.template(1, 0), terms(1), true);
        let missing = |slots: &Slots, id| slots.job(0).expect("a job").missing(id);
        assert_eq!(
            missing(&slots, 0),
            Missing {
                job: true,
                coinbase: true
            }
        );
        assert!(slots.job_mut(0).expect("a job").mark_sent(0, true));
        assert_eq!(
            missing(&slots, 0),
            Missing {
                job: false,
                coinbase: false
            }
        );
        assert_eq!(
            missing(&slots, 0xff),
            Missing {
                job: false,
                coinbase: true
            }
        );
        slots.forget_sent();
        assert!(!slots.job_mut(0).expect("a job").mark_sent(0, false));
    }
}
