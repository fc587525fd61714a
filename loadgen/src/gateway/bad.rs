//! How a gateway makes the bad shares of the mix without harm to its good ones.
//!
//! What is wrong in a section goes into the slot that the next template takes: no miner works there, and the
//! template's own sections replace it.

use std::rc::Rc;

use super::{Gateway, World, padding};
use crate::asic::Search;
use crate::coinbase::{NO_PAYOUTS, Payout, Payouts, Recipe, Terms};
use crate::draft::Draft;
use crate::mix::{Bad, How, STRANGER};
use crate::rng::Rng;
use crate::sha256d;
use crate::slots::Job;
use crate::tally::{Expected, Waiting};
use millrace::wire::Reason;

/// How far above the least pot a share lies whose hash shall fail: one search in 64 has to try again.
const HIGH_HASH_POT: u8 = 6;

/// Parents that make an older one stale: the last 4 stay accepted.
const PARENTS_TO_STALE: u8 = 5;

/// Coinbases of one who hoards, and bytes of each behind the extranonce: more than the 256 KiB that a session may have.
const HOARDED: u8 = 18;
const HOARDED_BYTES: usize = 16_000;

/// A class with room for payouts.
const CLASS_WITH_PAYOUTS: u8 = 3;

impl Gateway {
    /// False where this way is not open now.
    pub(super) fn bad_share(&mut self, bad: Bad, due_ns: u64, world: &mut World, out: &mut Vec<u8>) -> bool {
        if !self.is_ready() {
            return false;
        }
        let expected = Expected::Refused(bad.reason);
        match bad.how {
            How::Field(with) => {
                let asic = self.next_asic;
                let Some(found) = self.search(asic, Search::Meets, world) else {
                    return false;
                };
                let Some(job) = self.slots.job(found.place.slot) else {
                    return false;
                };
                let missing = job.missing(found.place.coinbase_id);
                if missing.job || missing.coinbase {
                    // The nonce is spent; there are enough of them.
                    return false;
                }
                let mut draft = Draft {
                    job_id: found.place.slot,
                    coinbase_id: found.place.coinbase_id,
                    flags: found.flags,
                    pot: found.pot,
                    ntime: found.ntime,
                    nonce: found.nonce,
                    version: found.version,
                    extranonce: found.extranonce.to_vec(),
                    username: self.asics[asic].username().to_vec(),
                    job: None,
                    coinbase: None,
                };
                with(&mut draft, &mut world.rng);
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::Section(with) => {
                let Some(mut draft) = self.unworked(None, &NO_PAYOUTS, world) else {
                    return false;
                };
                with(&mut draft, &mut world.rng);
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::OtherSection => {
                let Some(mut draft) = self.unworked(None, &NO_PAYOUTS, world) else {
                    return false;
                };
                // Its own section comes with a share that nothing but the version is wrong with.
                draft.version = 1;
                self.send_draft(&draft, Expected::Refused(Reason::BadVersion), due_ns, world, out);
                draft.job = None;
                let other = (draft.coinbase_id + 1 + world.rng.byte() % 5) % 6;
                draft
                    .coinbase
                    .iter_mut()
                    .for_each(|section| section.coinbase_id = other);
                draft.nonce = self.next_nonce();
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::Payout => {
                let stranger = Payouts::from_iter([Payout {
                    value: 1_000 + world.rng.below(100_000),
                    script: &STRANGER,
                }]);
                let Some(draft) = self.unworked(Some(CLASS_WITH_PAYOUTS), &stranger, world) else {
                    return false;
                };
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::Split(tamper) => {
                let Some(draft) = self.paying_split(tamper, world) else {
                    return false;
                };
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::SplitId => {
                let Some(other) = self.dictated.other() else {
                    return false;
                };
                let Some(mut draft) = self.paying_split(|_, _| true, world) else {
                    return false;
                };
                draft.job.iter_mut().for_each(|job| job.coinbaser_id = other);
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::StaleParent => {
                let Some(stale) = self.stale_parent(due_ns, world, out) else {
                    return false;
                };
                let Some(mut draft) = self.unworked(None, &NO_PAYOUTS, world) else {
                    return false;
                };
                draft.job.iter_mut().for_each(|job| job.parent = stale);
                self.send_draft(&draft, expected, due_ns, world, out);
            }
            How::HighHash => {
                let asic = self.next_asic;
                let search = Search::Fails {
                    pot_above: HIGH_HASH_POT,
                };
                let Some(found) = self.search(asic, search, world) else {
                    return false;
                };
                self.send(asic, &found, expected, due_ns, world, out);
            }
            How::Again => {
                let Some(recent) = self.recent.take_if(|recent| recent.accepted) else {
                    return false;
                };
                if !self.holds(&recent.found) {
                    return false;
                }
                self.send(recent.asic, &recent.found, expected, due_ns, world, out);
            }
        }
        true
    }

    /// Sends coinbases of the greatest length, one after another, until the pool keeps no more: none of them is good, but
    /// sections are kept whatever becomes of the share.
    pub fn hoard(&mut self, world: &mut World, out: &mut Vec<u8>) {
        for n in 0..HOARDED {
            let Some(mut draft) = self.unworked(Some(n % 6), &NO_PAYOUTS, world) else {
                return;
            };
            // One slot after another, with all classes of each.
            draft.job_id = n / 6;
            if n % 6 > 0 {
                draft.job = None;
            }
            draft
                .coinbase
                .iter_mut()
                .for_each(|section| section.coinb2.resize(HOARDED_BYTES, n));
            self.send_draft(&draft, Expected::Refused(Reason::BadCoinbase), world.now_ns, world, out);
        }
    }

    /// A parent that the pool has seen this gateway leave behind. To get one, it names parents of its own, the tip in
    /// between so that this one stays.
    fn stale_parent(&mut self, due_ns: u64, world: &mut World, out: &mut Vec<u8>) -> Option<[u8; 32]> {
        if self.stale_parent.is_none() {
            let tip = self.slots.newest()?.template.parent;
            let parents: [[u8; 32]; PARENTS_TO_STALE as usize] =
                std::array::from_fn(|_| sha256d::hash(&world.rng.next().to_le_bytes()));
            for parent in parents {
                for named in [parent, tip] {
                    let mut draft = self.unworked(None, &NO_PAYOUTS, world)?;
                    draft.coinbase = None;
                    draft.job.iter_mut().for_each(|job| job.parent = named);
                    self.send_draft(&draft, Expected::Refused(Reason::CoinbaseMissing), due_ns, world, out);
                }
            }
            self.stale_parent = Some(parents[0]);
            // The tip before may be as stale now.
            let on_tip = |job: &Job| job.template.parent == tip;
            let slots = &self.slots;
            self.recent
                .take_if(|recent| !slots.job(recent.found.place.slot).is_some_and(on_tip));
        }
        self.stale_parent
    }

    /// A good share but for its hash, with both sections, in the free slot. None where its payouts have no room.
    fn unworked(&mut self, coinbase_id: Option<u8>, payouts: &Payouts, world: &World) -> Option<Draft> {
        let nonce = self.next_nonce();
        let terms: Rc<Terms> = self.terms.clone()?;
        let newest: &Job = self.slots.newest()?;
        let recipe = Recipe {
            coinbase_id: coinbase_id.unwrap_or(0),
            terms: &terms,
            payouts,
            ..newest.recipe(0, self.secondary)
        };
        if !payouts.is_empty() && recipe.fitting().is_empty() {
            return None;
        }
        let draft = self.draft(&recipe, nonce, world)?;
        self.slots.spoil_free();
        Some(draft)
    }

    /// The same, but that it pays the split of the newest job and names it, once `tamper` has had the payouts.
    fn paying_split(
        &mut self,
        tamper: impl FnOnce(&mut [Payout<'_>], &mut Rng) -> bool,
        world: &mut World,
    ) -> Option<Draft> {
        let nonce = self.next_nonce();
        let newest = self.slots.newest()?;
        let recipe = newest.recipe(CLASS_WITH_PAYOUTS, self.secondary);
        let mut payouts = recipe.fitting();
        if payouts.is_empty() || !tamper(&mut payouts, &mut world.rng) {
            return None;
        }
        let payouts = Payouts::from_iter(payouts);
        let recipe = Recipe {
            payouts: &payouts,
            ..recipe
        };
        let mut draft = self.draft(&recipe, nonce, world)?;
        draft
            .job
            .iter_mut()
            .for_each(|job| job.coinbaser_id = newest.coinbaser_id);
        self.slots.spoil_free();
        Some(draft)
    }

    fn draft(&self, recipe: &Recipe<'_>, nonce: u32, world: &World) -> Option<Draft> {
        let username = self.asics.first()?.username();
        let min_pot = self.terms.as_ref()?.min_pot;
        let slot = self.slots.free();
        Some(Draft::unworked(slot, recipe, min_pot, world.unix_s, nonce, username))
    }

    fn next_nonce(&mut self) -> u32 {
        let nonce = self.nonce;
        self.nonce = nonce.wrapping_add(1);
        nonce
    }

    fn send_draft(&mut self, draft: &Draft, expected: Expected, due_ns: u64, world: &mut World, out: &mut Vec<u8>) {
        self.line.send(&draft.share(padding(&mut world.rng)), out);
        self.expect(
            Waiting {
                due_ns,
                nonce: draft.nonce,
                pot: draft.pot,
                job_id: draft.job_id,
                expected,
                early: false,
                early_section: false,
                pays: false,
                hash64: None,
            },
            world,
        );
    }
}
