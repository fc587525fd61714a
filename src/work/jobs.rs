//! One session's jobs: 8 slots, each with a template and the coinbases that its shares named.
//!
//! A section is sent once, with whatever share comes first, good or bad; it is kept even where that share is
//! refused, within a budget, or every later share of the job would be lost.

use super::choice::{Chosen, OwnTemplate, TemplateChoice};
use super::coinbase::{Coinbase, Form};
use super::findings::{TemplateFindings, TemplateId};
use super::room::CoinbaseRoom;
use super::split::PinnedSplit;
use crate::wire::{BRANCHES_MAX, CoinbaseSection, JobSection, Reason, SUBSIDY_ONLY_ID};

/// Slots of a gateway.
pub const SLOTS: usize = 8;

/// Bytes of coinbases kept per session, with what was proved of them. An honest gateway fills at most 8 slots with one of
/// each class, which is some 212 KiB of transactions and 17 KiB beside them.
pub const COINBASE_BUDGET: usize = 256 * 1_024;

/// Bytes that a section takes beside its transaction, its proof included: that owns nothing on the heap.
pub(super) const SECTION_BYTES: usize = size_of::<Section>();

/// Classes 0 to 5, then subsidy-only.
const COINBASES: usize = 7;

/// The slots of one session.
#[derive(Debug, Default)]
pub struct Jobs {
    slots: [Option<Box<Job>>; SLOTS],
    bytes: usize,
    /// The number of the latest job.
    number: u64,
    /// None where there is no node to hold templates against.
    choice: Option<TemplateChoice>,
}

/// A template as the gateway described it.
#[derive(Debug)]
pub(super) struct Job {
    /// No other job of the session has it, so that what is found out of this one is never said of a later one.
    pub number: u64,
    pub template: TemplateState,
    /// Its template is to be looked at in any case.
    is_odd: bool,
    pub parent: [u8; 32],
    pub target_index: usize,
    pub nbits: u32,
    pub height: u32,
    pub value: u64,
    /// The split that the job says it has; often 0 where it has one all the same.
    pub coinbaser_id: u8,
    pub tx_count: u32,
    /// The first [`BRANCHES_MAX`] at most.
    pub branches: Vec<[u8; 32]>,
    /// The count of branches is above the limit, or not what the transactions need.
    pub bad_merkle_count: bool,
    /// What the template leaves to coinbases, once its transactions were seen.
    pub room: Option<CoinbaseRoom>,
    /// What was kept was over the gateway's bound when the job came: its shares cannot be told from duplicates.
    pub unaccounted: bool,
    coinbases: [Kept; COINBASES],
}

/// What is known of a job's template beside what the gateway says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemplateState {
    /// Nobody is to look at it, or somebody does.
    Unquestioned,
    /// Nobody is to look at it as yet: it came before our node's template on its parent was known, and is held against that then.
    Unweighed,
    /// It is to be checked, as soon as there is a coinbase on it.
    Chosen,
    /// The same, and no share counts before it was seen: its gateway does not show what its work is made of.
    Withheld,
    /// The same, and somebody looks at it, or has and saw nothing.
    Awaited,
    /// No block could come of it.
    Invalid,
}

/// What came as the section of one coinbase.
#[derive(Debug, Default)]
pub(super) enum Kept {
    #[default]
    Nothing,
    TooLarge,
    /// It came when the budget was used up.
    NoRoom,
    Section(Box<Section>),
}

#[derive(Debug)]
pub(super) struct Section {
    pub coinbase: Coinbase,
    pub proof: Option<Proof>,
}

/// What one section turned out to be, by the terms that its `prime_id` names.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub form: Result<Form, Reason>,
    /// Whether the tag and the leftover's script are those of the terms; none before terms were found.
    pub by_terms: Option<ByTerms>,
    /// The split that its payouts are a part of, or that there is none; not there before anybody looked. What is dictated
    /// later cannot make a split of what is none: a gateway pays only what it has been told. Once it is no longer good it is
    /// looked for anew, since a later one may pay the same.
    pub paid: Option<Result<Paid, Reason>>,
}

/// Terms never change, so neither does what they say of a section.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByTerms {
    pub has_tag: bool,
    pub leaves_the_rest: bool,
}

/// The split that a section with payouts was found to pay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paid {
    pub split: PinnedSplit,
    /// When the split was dictated, s since 1970.
    pub time_s: u64,
}

impl Jobs {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of a pool that holds some of the templates against a node. `first_number`: where jobs are counted from, so that no two
    /// sessions have the same.
    #[must_use]
    pub fn checked(choice: TemplateChoice, first_number: u64) -> Self {
        Self {
            choice: Some(choice),
            number: first_number,
            ..Self::default()
        }
    }

    /// No block can come of this template: shares on the jobs that have it are refused from now on, whatever slot they are
    /// in. How many there are for which that is new.
    pub fn condemn(&mut self, template: &TemplateId) -> usize {
        let mut condemned = 0;
        for job in self.slots.iter_mut().flatten() {
            let is_valid = job.template != TemplateState::Invalid;
            if is_valid && TemplateId::of(&job.parent, &job.branches) == *template {
                job.template = TemplateState::Invalid;
                condemned += 1;
            }
        }
        condemned
    }

    /// The transactions of this job's template were seen: each of its coinbases must fit them, those that come later too, or their
    /// shares are refused. False: the slot has another job.
    pub fn hold_to(&mut self, slot: u8, number: u64, room: CoinbaseRoom) -> bool {
        let Some(job) = self.job(slot).filter(|job| job.number == number) else {
            return false;
        };
        job.room = Some(room);
        job.template = match job.template {
            TemplateState::Withheld | TemplateState::Awaited => TemplateState::Unquestioned,
            other => other,
        };
        // Subsidy-only work is of a block without the transactions.
        for kept in &mut job.coinbases[..COINBASES - 1] {
            if let Kept::Section(section) = kept
                && let Some(proof) = &mut section.proof
                && proof.form.is_ok()
                && room.takes(section.coinbase.transaction()).is_err()
            {
                proof.form = Err(Reason::BadCoinbase);
            }
        }
        true
    }

    /// Nobody had room to look at this job: its next share says so again.
    pub fn choose_again(&mut self, slot: u8, number: u64) {
        if let Some(job) = self.job(slot).filter(|job| job.number == number) {
            job.template = match job.template {
                TemplateState::Unquestioned | TemplateState::Unweighed => TemplateState::Chosen,
                TemplateState::Awaited => TemplateState::Withheld,
                other => other,
            };
        }
    }

    /// Nobody came to look at this job, which had to be looked at: the next one is, in its place. Where no share of it counts
    /// before, it is this one.
    pub fn look_again(&mut self, slot: u8, number: u64) {
        if let Some(job) = self.job(slot).filter(|job| job.number == number)
            && job.template == TemplateState::Awaited
        {
            job.template = TemplateState::Withheld;
        } else if let Some(choice) = &mut self.choice {
            choice.owe();
        }
    }

    /// This job's template is not shown by a gateway that shows none: its shares are refused from now on. Those of its other
    /// jobs that nobody has looked at are until somebody does. False: the slot has another job.
    pub fn withhold(&mut self, slot: u8, number: u64) -> bool {
        for job in self.slots.iter_mut().flatten() {
            if job.template == TemplateState::Chosen {
                job.template = TemplateState::Withheld;
            }
        }
        let Some(job) = self.job(slot).filter(|job| job.number == number) else {
            return false;
        };
        if job.template != TemplateState::Invalid {
            job.template = TemplateState::Awaited;
        }
        true
    }

    /// The gateway has shown what its work is made of: jobs that nobody has looked at count until somebody has.
    pub fn release(&mut self) {
        for job in self.slots.iter_mut().flatten() {
            if job.template == TemplateState::Withheld {
                job.template = TemplateState::Chosen;
            }
        }
    }

    /// Whether the template of this job is to be looked at in any case.
    #[must_use]
    pub fn is_odd(&self, slot: u8) -> bool {
        let job = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
        job.is_some_and(|job| job.is_odd)
    }

    /// Bytes of coinbases that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A job section replaces what the slot held, its coinbases with it. False: there is no such slot.
    pub(super) fn replace(
        &mut self,
        slot: u8,
        section: &JobSection<'_>,
        unaccounted: bool,
        findings: &TemplateFindings,
        own: Option<&OwnTemplate>,
    ) -> bool {
        let Some(place) = self.slots.get_mut(usize::from(slot)) else {
            return false;
        };
        self.number += 1;
        let (parent, value) = (section.prev_block_hash, section.coinbase_value);
        let chosen = self
            .choice
            .as_mut()
            .and_then(|choice| choice.choose(parent, value, own, findings.is_suspect()));
        // The slot's memory serves the next job.
        let job = place.get_or_insert_with(Job::empty);
        self.bytes -= job.coinbase_bytes();
        job.coinbases = Default::default();
        job.number = self.number;
        let is_same = job.parent == *parent && job.branches == section.branches;
        job.room = job.room.filter(|_| is_same);
        job.is_odd = chosen == Some(Chosen::Odd);
        job.template = match chosen {
            // Sent again it is no better.
            _ if findings.has_condemned(parent, section.branches) => TemplateState::Invalid,
            Some(_) if findings.is_withheld() => TemplateState::Withheld,
            Some(_) => TemplateState::Chosen,
            None if self.choice.is_some() => TemplateState::Unweighed,
            None => TemplateState::Unquestioned,
        };
        job.parent = *section.prev_block_hash;
        job.target_index = usize::from(section.target_index);
        job.nbits = section.nbits;
        job.height = section.height;
        job.value = section.coinbase_value;
        job.coinbaser_id = section.coinbaser_id;
        job.tx_count = section.tx_count;
        job.branches.clear();
        job.branches.extend(section.branches.iter().take(BRANCHES_MAX));
        let needed = branches_needed(section.tx_count);
        job.bad_merkle_count = section.branches.len() != needed || needed > BRANCHES_MAX;
        job.unaccounted = unaccounted;
        true
    }

    /// Holds a job that came before our node's template on its parent against that, where it is known by now: it may have to be looked
    /// at after all. With each share on the job, of which none costs more than a look at its state once that is done.
    pub(super) fn weigh(&mut self, slot: u8, findings: &TemplateFindings, own: Option<&OwnTemplate>) {
        if let Some(job) = self.job(slot).filter(|job| job.template == TemplateState::Unweighed)
            && let Some(is_far) = own.and_then(|own| own.is_far_from(&job.parent, job.value))
        {
            job.is_odd = is_far;
            job.template = match is_far {
                true if findings.is_withheld() => TemplateState::Withheld,
                true => TemplateState::Chosen,
                false => TemplateState::Unquestioned,
            };
        }
    }

    /// Keeps a coinbase section for its slot's job; gives it back where the budget does not allow that.
    pub(super) fn keep(&mut self, slot: u8, section: &CoinbaseSection<'_>) -> Option<Box<Section>> {
        let job = self.slots.get_mut(usize::from(slot))?.as_deref_mut()?;
        let kept = job.coinbases.get_mut(class(section.coinbase_id)?)?;
        self.bytes -= kept.bytes();
        let Ok(coinbase) = Coinbase::new(section) else {
            *kept = Kept::TooLarge;
            return None;
        };
        let section = Box::new(Section { coinbase, proof: None });
        if self.bytes + section.kept_bytes() > COINBASE_BUDGET {
            *kept = Kept::NoRoom;
            return Some(section);
        }
        self.bytes += section.kept_bytes();
        *kept = Kept::Section(section);
        None
    }

    /// Whether some of the templates are held against a node.
    pub(super) fn are_checked(&self) -> bool {
        self.choice.is_some()
    }

    pub(super) fn job(&mut self, slot: u8) -> Option<&mut Job> {
        self.slots.get_mut(usize::from(slot))?.as_deref_mut()
    }
}

impl TemplateState {
    /// Somebody is asked to look at it.
    pub fn claimed(self) -> Self {
        match self {
            Self::Chosen | Self::Unweighed => Self::Unquestioned,
            Self::Withheld => Self::Awaited,
            other => other,
        }
    }

    /// Whether no share counts before it was seen.
    pub fn is_withheld(self) -> bool {
        matches!(self, Self::Withheld | Self::Awaited)
    }
}

impl Job {
    fn empty() -> Box<Self> {
        Box::new(Self {
            number: 0,
            template: TemplateState::Unquestioned,
            is_odd: false,
            parent: [0; 32],
            target_index: 0,
            nbits: 0,
            height: 0,
            value: 0,
            coinbaser_id: 0,
            tx_count: 0,
            branches: Vec::new(),
            bad_merkle_count: false,
            room: None,
            unaccounted: false,
            coinbases: Default::default(),
        })
    }

    /// The template's branches and what it leaves to coinbases, and what was kept under a coinbase id.
    pub(super) fn template_and_coinbase(
        &mut self,
        coinbase_id: u8,
    ) -> (&[[u8; 32]], Option<&CoinbaseRoom>, Option<&mut Kept>) {
        let kept = class(coinbase_id).and_then(|class| self.coinbases.get_mut(class));
        (&self.branches, self.room.as_ref(), kept)
    }

    fn coinbase_bytes(&self) -> usize {
        self.coinbases.iter().map(Kept::bytes).sum()
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Self::Nothing | Self::TooLarge | Self::NoRoom => 0,
            Self::Section(section) => section.kept_bytes(),
        }
    }
}

impl Section {
    fn kept_bytes(&self) -> usize {
        self.coinbase.kept_bytes() + SECTION_BYTES
    }
}

/// The place of a coinbase id, where there is one.
pub(super) fn class(coinbase_id: u8) -> Option<usize> {
    match coinbase_id {
        0..=5 => Some(usize::from(coinbase_id)),
        SUBSIDY_ONLY_ID => Some(COINBASES - 1),
        _ => None,
    }
}

/// Branches from a coinbase to the root over `tx_count` more transactions.
fn branches_needed(tx_count: u32) -> usize {
    // A tree over n leaves has as many levels as n - 1 has bits; here n - 1 is the count without the coinbase.
    (u32::BITS - tx_count.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::{checked, shown, unshown};
    use super::super::findings::{Finding, UNSHOWN_MAX};
    use super::*;

    #[test]
    fn branches_follow_from_the_number_of_transactions() {
        let needed: Vec<_> = [0, 1, 2, 3, 4, 7, 8, 2_047, 4_095]
            .into_iter()
            .map(branches_needed)
            .collect();
        assert_eq!(needed, [0, 1, 2, 2, 3, 3, 4, 11, 12]);
    }

    fn job_section(branches: &[[u8; 32]], tx_count: u32) -> JobSection<'_> {
        JobSection {
            prev_block_hash: &[1; 32],
            target_index: 0,
            nbits: 0,
            coinbaser_id: 0,
            height: 1,
            coinbase_value: 0,
            tx_count,
            weight: 0,
            size: 0,
            sigops: 0,
            branches,
        }
    }

    fn section<'a>(coinbase_id: u8, coinb1: &'a [u8], coinb2: &'a [u8]) -> CoinbaseSection<'a> {
        CoinbaseSection {
            coinbase_id,
            coinb1,
            coinb2,
        }
    }

    #[test]
    fn branches_are_at_most_24_even_where_more_are_needed() {
        let mut jobs = Jobs::new();
        let branches = [[0; 32]; 25];
        for (count, tx_count, bad) in [
            (24, (1 << 24) - 1, false),
            (25, 1 << 24, true),
            (24, 1 << 24, true),
            (24, (1 << 23) - 1, true),
            (0, 0, false),
            (0, 1, true),
            (1, 0, true),
        ] {
            jobs.replace(
                0,
                &job_section(&branches[..count], tx_count),
                false,
                &TemplateFindings::default(),
                None,
            );
            let job = jobs.job(0).expect("a job");
            assert_eq!(
                job.bad_merkle_count, bad,
                "{count} branches over {tx_count} transactions"
            );
            assert_eq!(job.branches.len(), count.min(BRANCHES_MAX));
        }
    }

    #[test]
    fn the_budget_holds_every_class_in_every_slot_and_gives_back_what_is_beyond() {
        let mut jobs = Jobs::new();
        // The sizes that gateways were measured to send, by class, subsidy-only last.
        let sizes = [254, 503, 760, 6_505, 16_005, 2_255, 207];
        for slot in 0..8 {
            assert!(jobs.replace(slot, &job_section(&[], 0), false, &TemplateFindings::default(), None));
            for (id, size) in [0, 1, 2, 3, 4, 5, SUBSIDY_ONLY_ID].into_iter().zip(sizes) {
                let given_back = jobs.keep(slot, &section(id, &[0; 100], &vec![0; size - 100]));
                assert!(given_back.is_none(), "slot {slot} id {id}");
            }
        }
        assert!(!jobs.replace(8, &job_section(&[], 0), false, &TemplateFindings::default(), None));
        let honest = jobs.bytes();
        let largest = section(0, &[0; 512], &[0; 16_384]);
        let kept = (0..8).filter(|slot| jobs.keep(*slot, &largest).is_none()).count();
        assert!(kept < 8, "{kept} of the largest fitted beside {honest} bytes");
        assert!(jobs.bytes() <= COINBASE_BUDGET);
        // What was given back takes no room, and what is sent again takes it once.
        let before = jobs.bytes();
        assert!(jobs.keep(0, &largest).is_none());
        assert!(jobs.keep(7, &largest).is_some());
        assert_eq!(jobs.bytes(), before);
        assert!(
            jobs.keep(7, &section(0, &[0; 512], &[0; 20_000])).is_none(),
            "too large is no matter of room"
        );
        assert_eq!(jobs.bytes(), before);
        for slot in 0..8 {
            jobs.replace(slot, &job_section(&[], 0), false, &TemplateFindings::default(), None);
        }
        assert_eq!(jobs.bytes(), 0);
    }

    /// A session whose first job, of no transactions, was claimed; checked for it once.
    fn claimed() -> (Jobs, TemplateFindings) {
        let mut jobs = Jobs::checked(TemplateChoice::new(0, 7), 0);
        let findings = TemplateFindings::default();
        jobs.replace(0, &job_section(&[], 0), false, &findings, None);
        assert!(jobs.is_odd(0) && state(&mut jobs, 0) == TemplateState::Chosen);
        claim(&mut jobs, 0);
        (jobs, findings)
    }

    fn claim(jobs: &mut Jobs, slot: u8) {
        let job = jobs.job(slot).expect("a job");
        job.template = job.template.claimed();
    }

    fn state(jobs: &mut Jobs, slot: u8) -> TemplateState {
        jobs.job(slot).expect("a job").template
    }

    #[test]
    fn a_condemned_template_is_known_in_every_slot_and_session() {
        let (mut jobs, mut findings) = claimed();
        jobs.replace(3, &job_section(&[], 0), false, &findings, None);
        jobs.replace(5, &job_section(&[[4; 32]], 1), false, &findings, None);
        let condemned = checked(1, 0, Finding::Condemned("".into()));
        findings.note(&condemned, true);
        assert_eq!(jobs.condemn(&condemned.template), 2);
        assert_eq!(jobs.condemn(&condemned.template), 0);
        let states = [0, 3, 5].map(|slot| state(&mut jobs, slot));
        assert_eq!(
            states,
            [TemplateState::Invalid, TemplateState::Invalid, TemplateState::Unweighed]
        );
        // It comes again in the gateway's next session; and what else comes is looked at.
        let mut jobs = Jobs::checked(TemplateChoice::new(0, 7), 1 << 32);
        jobs.replace(6, &job_section(&[[4; 32]], 1), false, &findings, None);
        jobs.replace(7, &job_section(&[], 0), false, &findings, None);
        jobs.replace(2, &job_section(&[[5; 32]], 1), false, &findings, None);
        let states = [6, 7, 2].map(|slot| state(&mut jobs, slot));
        assert_eq!(
            states,
            [TemplateState::Chosen, TemplateState::Invalid, TemplateState::Chosen]
        );
    }

    #[test]
    fn a_job_that_came_before_our_template_is_held_against_it_when_that_is_known() {
        let own = |parent: u8, value: u64| OwnTemplate {
            parent: [parent; 32],
            subsidy: 0,
            value,
        };
        // The job's value is 0.
        for (value, odd) in [(0, false), (5_000_000_000, true)] {
            let (mut jobs, mut findings) = claimed();
            jobs.replace(1, &job_section(&[[4; 32]], 1), false, &findings, Some(&own(2, value)));
            for still_unknown in [None, Some(own(2, value))] {
                jobs.weigh(1, &findings, still_unknown.as_ref());
                assert!(!jobs.is_odd(1) && state(&mut jobs, 1) == TemplateState::Unweighed);
            }
            jobs.weigh(1, &findings, Some(&own(1, value)));
            assert_eq!(jobs.is_odd(1), odd);
            let expected = if odd {
                TemplateState::Chosen
            } else {
                TemplateState::Unquestioned
            };
            assert_eq!(state(&mut jobs, 1), expected);
            // Once: it is not looked at again, whatever our template is by then.
            claim(&mut jobs, 1);
            jobs.weigh(1, &findings, Some(&own(1, 5_000_000_000)));
            assert_eq!(state(&mut jobs, 1), TemplateState::Unquestioned);
            // Of a gateway that shows nothing its shares wait until it was seen.
            jobs.replace(2, &job_section(&[[5; 32]], 1), false, &findings, None);
            for _ in 0..UNSHOWN_MAX {
                findings.note(&checked(1, 1, unshown()), true);
            }
            jobs.weigh(2, &findings, Some(&own(1, value)));
            let expected = if odd {
                TemplateState::Withheld
            } else {
                TemplateState::Unquestioned
            };
            assert_eq!(state(&mut jobs, 2), expected);
        }
        let mut jobs = Jobs::new();
        jobs.replace(0, &job_section(&[], 0), false, &TemplateFindings::default(), None);
        jobs.weigh(0, &TemplateFindings::default(), Some(&own(1, 5_000_000_000)));
        assert_eq!(state(&mut jobs, 0), TemplateState::Unquestioned, "no node is asked");
    }

    #[test]
    fn a_check_that_was_not_made_is_made_of_the_next_job() {
        let (mut jobs, findings) = claimed();
        let number = jobs.job(0).expect("a job").number;
        jobs.look_again(0, number);
        assert_eq!(
            state(&mut jobs, 0),
            TemplateState::Unquestioned,
            "not of this one again and again"
        );
        jobs.replace(1, &job_section(&[], 0), false, &findings, None);
        assert!(jobs.is_odd(1) && state(&mut jobs, 1) == TemplateState::Chosen);
        jobs.replace(2, &job_section(&[], 0), false, &findings, None);
        assert!(!jobs.is_odd(2) && state(&mut jobs, 2) == TemplateState::Unweighed);
    }

    #[test]
    fn jobs_of_a_gateway_that_shows_nothing_wait_for_somebody_to_see_them() {
        let (mut jobs, mut findings) = claimed();
        for _ in 0..UNSHOWN_MAX {
            findings.note(&checked(1, 1, unshown()), true);
        }
        let number = |jobs: &mut Jobs, slot| jobs.job(slot).expect("a job").number;
        let first = number(&mut jobs, 0);
        assert!(jobs.withhold(0, first) && !jobs.withhold(0, first + 1));
        assert_eq!(state(&mut jobs, 0), TemplateState::Awaited);
        for slot in 1..3 {
            jobs.replace(slot, &job_section(&[], 0), false, &findings, None);
            assert_eq!(state(&mut jobs, slot), TemplateState::Withheld);
        }
        claim(&mut jobs, 1);
        assert_eq!(state(&mut jobs, 1), TemplateState::Awaited);
        // Nobody came, so this one is looked at again: no share of it counts before.
        let second = number(&mut jobs, 1);
        jobs.look_again(1, second);
        assert_eq!(state(&mut jobs, 1), TemplateState::Withheld);
        claim(&mut jobs, 1);
        let Finding::Shown(room) = shown() else {
            unreachable!("that is what it is");
        };
        assert!(jobs.hold_to(1, second, room));
        jobs.release();
        let states = [0, 1, 2].map(|slot| state(&mut jobs, slot));
        assert_eq!(
            states,
            [
                TemplateState::Awaited,
                TemplateState::Unquestioned,
                TemplateState::Chosen
            ]
        );
    }

    #[test]
    fn a_job_takes_its_coinbases_along() {
        let mut jobs = Jobs::new();
        jobs.replace(3, &job_section(&[], 0), false, &TemplateFindings::default(), None);
        jobs.keep(3, &section(2, &[0; 100], &[0; 100]));
        let kept = |jobs: &mut Jobs| {
            matches!(
                jobs.job(3).expect("a job").template_and_coinbase(2).2,
                Some(Kept::Section(_))
            )
        };
        assert!(kept(&mut jobs));
        jobs.replace(3, &job_section(&[], 0), false, &TemplateFindings::default(), None);
        assert!(!kept(&mut jobs));
        assert!(
            jobs.keep(4, &section(0, &[0; 100], &[0; 100])).is_none() && jobs.bytes() == 0,
            "no job, nothing kept"
        );
    }
}
