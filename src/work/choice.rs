//! Which templates of a session are held against a node: those that look odd, and of the others one in so many. Pure.

/// How far the fees of a template may lie from those of our node's, in satoshi beside a factor of two: policies and
/// mempools differ, and a template is some time old.
const FEES_SLACK: u64 = 1_000_000;

/// Our own node's template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnTemplate {
    pub parent: [u8; 32],
    /// Satoshi, both.
    pub subsidy: u64,
    pub value: u64,
}

/// Chooses among the templates of one session.
#[derive(Debug)]
pub struct TemplateChoice {
    one_in: u32,
    /// Of a generator of Vigna's, SplitMix64: peers must not be able to tell which is next, and its seed is secret.
    state: u64,
    /// The next is checked whatever it is: it is the first, or one was not looked at that should have been.
    is_owed: bool,
}

/// Why a template is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// It looks odd, so it is to be checked in any case.
    Odd,
    Drawn,
}

impl TemplateChoice {
    /// `one_in`: of those that do not look odd so many are let pass for one that is checked; 0 lets all pass.
    #[must_use]
    pub fn new(one_in: u32, seed: u64) -> Self {
        Self {
            one_in,
            state: seed,
            is_owed: true,
        }
    }

    /// Whether the next template is to be checked, and why. `value`: satoshi that its coinbase takes. `is_suspect`: every
    /// template of its gateway is.
    pub fn choose(
        &mut self,
        parent: &[u8; 32],
        value: u64,
        own: Option<&OwnTemplate>,
        is_suspect: bool,
    ) -> Option<Chosen> {
        let is_far = own.and_then(|own| own.is_far_from(parent, value)) == Some(true);
        let is_drawn = self.one_in > 0 && self.draw().is_multiple_of(self.one_in.into());
        match std::mem::take(&mut self.is_owed) || is_suspect || is_far {
            true => Some(Chosen::Odd),
            false => is_drawn.then_some(Chosen::Drawn),
        }
    }

    /// One that had to be looked at was not: the next is looked at in its place.
    pub fn owe(&mut self) {
        self.is_owed = true;
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl OwnTemplate {
    /// Whether the fees of a template on this parent are far from its own; none where it is on another.
    pub(super) fn is_far_from(&self, parent: &[u8; 32], value: u64) -> Option<bool> {
        if self.parent != *parent {
            return None;
        }
        let (own, theirs) = (
            self.value.saturating_sub(self.subsidy),
            value.saturating_sub(self.subsidy),
        );
        let far = |less: u64, more: u64| more > less.saturating_mul(2).saturating_add(FEES_SLACK);
        Some(far(own, theirs) || far(theirs, own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: [u8; 32] = [1; 32];

    #[test]
    fn the_first_is_checked_and_then_one_in_so_many() {
        let next = |choice: &mut TemplateChoice| choice.choose(&PARENT, 0, None, false);
        let mut choice = TemplateChoice::new(20, 7);
        assert_eq!(next(&mut choice), Some(Chosen::Odd));
        let chosen: Vec<_> = (0..20_000).filter_map(|_| next(&mut choice)).collect();
        assert!((800..1_200).contains(&chosen.len()), "{} of 20,000", chosen.len());
        assert!(chosen.iter().all(|why| *why == Chosen::Drawn));
        let mut none = TemplateChoice::new(0, 7);
        assert_eq!(next(&mut none), Some(Chosen::Odd));
        assert!((0..1_000).all(|_| next(&mut none).is_none()));
        let mut all = TemplateChoice::new(1, 7);
        assert!((0..1_000).all(|_| next(&mut all).is_some()));
    }

    #[test]
    fn of_a_suspect_each_is_checked_and_in_place_of_one_that_was_not_the_next() {
        let mut choice = TemplateChoice::new(0, 7);
        let next = |choice: &mut TemplateChoice, is_suspect| choice.choose(&PARENT, 0, None, is_suspect);
        next(&mut choice, false);
        assert!((0..100).all(|_| next(&mut choice, true) == Some(Chosen::Odd)));
        assert_eq!(next(&mut choice, false), None);
        choice.owe();
        choice.owe();
        assert_eq!(next(&mut choice, false), Some(Chosen::Odd));
        assert_eq!(next(&mut choice, false), None);
    }

    #[test]
    fn fees_far_from_those_of_our_node_are_odd_either_way() {
        let own = OwnTemplate {
            parent: PARENT,
            subsidy: 312_500_000,
            value: 312_500_000 + 5_000_000,
        };
        for (fees, odd) in [
            (5_000_000, false),
            (11_000_000, false),
            (11_000_001, true),
            (2_000_000, false),
            (1_999_999, true),
            (0, true),
        ] {
            let mut choice = TemplateChoice::new(0, 1);
            choice.choose(&PARENT, 0, None, false);
            let chosen = choice.choose(&PARENT, own.subsidy + fees, Some(&own), false);
            assert_eq!(chosen, odd.then_some(Chosen::Odd), "{fees}");
            let elsewhere = choice.choose(&[2; 32], own.subsidy + fees, Some(&own), false);
            assert_eq!(elsewhere, None, "another parent's fees are others");
        }
    }
}
