//! What was found of the templates of one gateway. It outlives the gateway's sessions: one that comes back is known by it. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::room::CoinbaseRoom;
use super::sha256d;

/// Condemned templates remembered of a gateway, each some 32 bytes. Past it the oldest goes, and is looked at when it comes
/// again: so is every template of a gateway that had a bad one.
pub const CONDEMNED_MAX: usize = 64;

/// Templates in a row that a gateway does not show, until its work is refused. Of an honest one a slot may have been used
/// again before it was asked, or a connection have broken.
pub const UNSHOWN_MAX: u32 = 3;

/// So many templates shown make up for one that was not: a gateway that shows every other one comes to the bound as well.
const SHOWN_FOR_ONE: u32 = 4;

/// A template by what shares commit to beside their coinbase, so that it is known again in another slot and session: the
/// parent, and the merkle branches of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateId([u8; 32]);

impl TemplateId {
    /// A hash for each branch.
    #[must_use]
    pub fn of(parent: &[u8; 32], branches: &[[u8; 32]]) -> Self {
        Self(branches.iter().fold(*parent, |id, branch| sha256d::node(&id, branch)))
    }
}

/// What came of looking at the template of a job, for the shard that has its gateway.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The gateway's long-term Ed25519 key.
    pub gateway: [u8; 32],
    /// The job as its claim had it ([`super::TemplateClaim`]), in the session of then.
    pub slot: u8,
    pub number: u64,
    pub template: TemplateId,
    /// Beside the coinbase.
    pub tx_count: u32,
    pub found: Finding,
}

#[derive(Debug, Clone)]
pub enum Finding {
    /// No block can come of it; why, for the gateway's log.
    Condemned(Arc<str>),
    /// Its transactions were seen: its coinbases must fit them.
    Shown(CoinbaseRoom),
    /// Its gateway does not show them; why, for the gateway's log.
    Unshown(Arc<str>),
    /// Nobody came to look at it, or nobody could say what it is. It was to be looked at in any case.
    Unjudged,
}

/// The memory of one gateway's templates.
#[derive(Debug, Clone, Default)]
pub struct TemplateFindings {
    /// Oldest first.
    condemned: VecDeque<TemplateId>,
    /// One of its templates was found to be no block: the others are looked at as well.
    is_suspect: bool,
    /// Those not shown, in parts of which [`SHOWN_FOR_ONE`] are one.
    unshown: u32,
    /// Its work is refused until it shows what that is made of.
    is_withheld: bool,
}

impl TemplateFindings {
    /// Notes what was found. `refuses`: whether a gateway that does not show its templates has its work refused. True where
    /// one has come to that just now, refused or not.
    pub fn note(&mut self, checked: &Checked, refuses: bool) -> bool {
        const UNSHOWN_PARTS: u32 = UNSHOWN_MAX * SHOWN_FOR_ONE;
        match checked.found {
            Finding::Condemned(_) => {
                self.is_suspect = true;
                self.condemn(checked.template);
                self.note_shown(checked.tx_count);
                false
            }
            Finding::Shown(_) => {
                self.note_shown(checked.tx_count);
                false
            }
            Finding::Unshown(_) => {
                let before = self.unshown;
                self.unshown = (before + SHOWN_FOR_ONE).min(UNSHOWN_PARTS);
                let is_over = self.unshown == UNSHOWN_PARTS;
                self.is_withheld = is_over && refuses;
                is_over && before < UNSHOWN_PARTS
            }
            Finding::Unjudged => false,
        }
    }

    /// Whether its work is refused until it shows what that is made of.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.is_withheld
    }

    /// Whether it did not show some of its templates, and has not made up for that.
    #[must_use]
    pub fn has_unshown(&self) -> bool {
        self.unshown > 0
    }

    /// Whether each of its templates is looked at.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect || self.has_unshown()
    }

    /// Whether no block can come of this one. Costs a hash for each branch, where any was condemned.
    pub(super) fn has_condemned(&self, parent: &[u8; 32], branches: &[[u8; 32]]) -> bool {
        !self.condemned.is_empty() && self.condemned.contains(&TemplateId::of(parent, branches))
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.condemned.capacity() * size_of::<TemplateId>()
    }

    fn condemn(&mut self, template: TemplateId) {
        if self.condemned.contains(&template) {
            return;
        }
        if self.condemned.len() == CONDEMNED_MAX {
            self.condemned.pop_front();
        }
        self.condemned.push_back(template);
    }

    /// One without transactions shows nothing.
    fn note_shown(&mut self, tx_count: u32) {
        if tx_count > 0 {
            self.unshown = self.unshown.saturating_sub(1);
            self.is_withheld = false;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::work::TemplateBody;

    /// Of the template on a parent of these bytes, without branches.
    pub fn checked(parent: u8, tx_count: u32, found: Finding) -> Checked {
        Checked {
            gateway: [9; 32],
            slot: 0,
            number: 1,
            template: TemplateId::of(&[parent; 32], &[]),
            tx_count,
            found,
        }
    }

    pub fn shown() -> Finding {
        Finding::Shown(CoinbaseRoom::beside(&TemplateBody::new(Vec::new())))
    }

    pub fn unshown() -> Finding {
        Finding::Unshown("".into())
    }

    #[test]
    fn a_template_is_known_by_its_parent_and_branches() {
        let of = |parent: u8, branches: &[[u8; 32]]| TemplateId::of(&[parent; 32], branches);
        assert_eq!(of(1, &[[2; 32]]), of(1, &[[2; 32]]));
        let others = [
            of(1, &[]),
            of(1, &[[2; 32]]),
            of(1, &[[2; 32], [3; 32]]),
            of(2, &[[2; 32]]),
        ];
        for (at, one) in others.iter().enumerate() {
            assert!(others[at + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn what_was_condemned_is_known_up_to_a_bound_and_makes_its_gateway_suspect() {
        let mut findings = TemplateFindings::default();
        assert!(!findings.is_suspect() && !findings.has_condemned(&[0; 32], &[]));
        let beyond = u8::try_from(CONDEMNED_MAX).expect("few");
        for parent in 0..=beyond {
            // Found twice it takes one place.
            for _ in 0..2 {
                findings.note(&checked(parent, 1, Finding::Condemned("".into())), true);
            }
        }
        assert!(!findings.has_condemned(&[0; 32], &[]), "the oldest has gone");
        assert!((1..=beyond).all(|parent| findings.has_condemned(&[parent; 32], &[])));
        assert!(!findings.has_condemned(&[1; 32], &[[1; 32]]));
        assert!(findings.bytes() >= CONDEMNED_MAX * 32 && findings.bytes() < 4 * CONDEMNED_MAX * 32);
        findings.note(&checked(1, 1, shown()), true);
        assert!(findings.is_suspect() && !findings.is_withheld());
    }

    #[test]
    fn a_gateway_that_does_not_show_its_templates_comes_to_the_bound() {
        for refuses in [true, false] {
            let mut findings = TemplateFindings::default();
            let mut note = |found| findings.note(&checked(1, 5, found), refuses);
            assert!(!note(unshown()) && !note(unshown()) && note(unshown()));
            assert!(!note(unshown()), "it is said once");
            assert_eq!(findings.is_withheld(), refuses);
            assert!(findings.is_suspect());
        }
    }

    #[test]
    fn to_show_one_lifts_it_and_the_next_that_is_not_shown_brings_it_back() {
        let mut findings = TemplateFindings::default();
        for _ in 0..UNSHOWN_MAX {
            findings.note(&checked(1, 5, unshown()), true);
        }
        findings.note(&checked(1, 0, shown()), true);
        assert!(findings.is_withheld(), "one without transactions shows nothing");
        findings.note(&checked(1, 5, Finding::Unjudged), true);
        assert!(findings.is_withheld());
        findings.note(&checked(1, 5, shown()), true);
        assert!(!findings.is_withheld());
        findings.note(&checked(1, 5, unshown()), true);
        assert!(findings.is_withheld());
        for _ in 0..UNSHOWN_MAX * SHOWN_FOR_ONE {
            assert!(findings.is_suspect());
            findings.note(&checked(1, 5, shown()), true);
        }
        assert!(!findings.is_suspect(), "an honest one is trusted again");
    }

    #[test]
    fn one_now_and_then_is_forgiven_and_every_other_is_not() {
        let comes_to_it = |shown_between: u32| {
            let mut findings = TemplateFindings::default();
            (0..100).any(|_| {
                let is_over = findings.note(&checked(1, 5, unshown()), true);
                for _ in 0..shown_between {
                    findings.note(&checked(1, 5, shown()), true);
                }
                is_over
            })
        };
        assert!(comes_to_it(1) && comes_to_it(3));
        assert!(!comes_to_it(4));
    }
}
