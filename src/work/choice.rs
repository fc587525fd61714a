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
    is_first: bool,
    /// One of its templates was found to be no block: the others are looked at as well.
    is_suspect: bool,
}

impl TemplateChoice {
    /// `one_in`: of those that do not look odd so many are let pass for one that is checked; 0 lets all pass.
    #[must_use]
    pub fn new(one_in: u32, seed: u64) -> Self {
        Self {
            one_in,
            state: seed,
            is_first: true,
            is_suspect: false,
        }
    }

    /// Whether the next template is to be checked. `value`: satoshi that its coinbase takes.
    pub fn wants(&mut self, parent: &[u8; 32], value: u64, own: Option<&OwnTemplate>) -> bool {
        let is_odd = own.is_some_and(|own| own.parent == *parent && own.is_far_from(value));
        let drawn = self.one_in > 0 && self.draw().is_multiple_of(self.one_in.into());
        std::mem::take(&mut self.is_first) || self.is_suspect || is_odd || drawn
    }

    /// From now on every template is checked.
    pub fn suspect(&mut self) {
        self.is_suspect = true;
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl OwnTemplate {
    fn is_far_from(&self, value: u64) -> bool {
        let (own, theirs) = (
            self.value.saturating_sub(self.subsidy),
            value.saturating_sub(self.subsidy),
        );
        let far = |less: u64, more: u64| more > less.saturating_mul(2).saturating_add(FEES_SLACK);
        far(own, theirs) || far(theirs, own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: [u8; 32] = [1; 32];

    #[test]
    fn the_first_is_checked_and_then_one_in_so_many() {
        let mut choice = TemplateChoice::new(20, 7);
        assert!(choice.wants(&PARENT, 0, None));
        let chosen = (0..20_000).filter(|_| choice.wants(&PARENT, 0, None)).count();
        assert!((800..1_200).contains(&chosen), "{chosen} of 20,000");
        let mut none = TemplateChoice::new(0, 7);
        assert!(none.wants(&PARENT, 0, None));
        assert!((0..1_000).all(|_| !none.wants(&PARENT, 0, None)));
        none.suspect();
        assert!((0..1_000).all(|_| none.wants(&PARENT, 0, None)));
        let mut all = TemplateChoice::new(1, 7);
        assert!((0..1_000).all(|_| all.wants(&PARENT, 0, None)));
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
            choice.wants(&PARENT, 0, None);
            assert_eq!(choice.wants(&PARENT, own.subsidy + fees, Some(&own)), odd, "{fees}");
            assert!(
                !choice.wants(&[2; 32], own.subsidy + fees, Some(&own)),
                "another parent's fees are others"
            );
        }
    }
}
