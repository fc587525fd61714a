//! Which of several nodes' tips is the pool's: the one with the most work, and the one already followed where two have
//! the same.

use super::rpc::{ChainWork, Shown};

/// A tip that a node says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub tip: Shown,
    pub work: ChainWork,
}

/// What each node said last.
#[derive(Debug)]
pub(super) struct Claims {
    /// By node; none while a node is not well.
    claims: Vec<Option<Claim>>,
    followed: Option<Claim>,
}

impl Claims {
    pub fn new(nodes: usize) -> Self {
        Self {
            claims: vec![None; nodes],
            followed: None,
        }
    }

    /// A node has said something, or is not well. Gives the tip that is to be followed where that is another than the one that
    /// is: again and again, until [`Self::follow`] says that it is. While no node is well the last tip stands: shares on it are
    /// still work.
    pub fn hear(&mut self, node: usize, claim: Option<Claim>) -> Option<Claim> {
        self.claims[node] = claim;
        let well = self.claims.iter().flatten();
        let most = well.clone().map(|claim| claim.work).max()?;
        let followed = self
            .followed
            .filter(|followed| well.clone().any(|claim| claim == followed));
        let best = match followed {
            Some(followed) if followed.work == most => followed,
            _ => *well.clone().find(|claim| claim.work == most)?,
        };
        (self.followed != Some(best)).then_some(best)
    }

    /// A tip is followed from now on.
    pub fn follow(&mut self, claim: Claim) {
        self.followed = Some(claim);
    }

    /// A node that has this tip; `first` where it does.
    pub fn who_has(&self, claim: &Claim, first: usize) -> Option<usize> {
        std::iter::once(first)
            .chain(0..self.claims.len())
            .find(|node| self.claims[*node] == Some(*claim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(tip: u8, work: u8) -> Claim {
        Claim {
            tip: Shown([tip; 32]),
            work: ChainWork([work; 32]),
        }
    }

    /// Hears, and follows what is to be followed.
    fn hear(claims: &mut Claims, node: usize, claim: Option<Claim>) -> Option<Claim> {
        let best = claims.hear(node, claim);
        best.inspect(|best| claims.follow(*best))
    }

    #[test]
    fn the_most_work_is_followed_and_the_first_of_equals() {
        let mut claims = Claims::new(2);
        assert_eq!(hear(&mut claims, 0, Some(claim(1, 1))), Some(claim(1, 1)));
        assert_eq!(hear(&mut claims, 1, Some(claim(2, 1))), None, "a race: the first stays");
        assert_eq!(hear(&mut claims, 1, Some(claim(3, 2))), Some(claim(3, 2)));
        assert_eq!(hear(&mut claims, 0, Some(claim(3, 2))), None);
        assert_eq!(hear(&mut claims, 0, Some(claim(1, 1))), None, "a node that lags");
    }

    #[test]
    fn a_node_that_is_not_well_says_nothing_and_the_last_tip_stands() {
        let mut claims = Claims::new(2);
        hear(&mut claims, 0, Some(claim(5, 5)));
        hear(&mut claims, 1, Some(claim(4, 4)));
        assert_eq!(
            hear(&mut claims, 0, None),
            Some(claim(4, 4)),
            "nobody stands for the other any more"
        );
        assert_eq!(hear(&mut claims, 1, None), None);
        assert_eq!(hear(&mut claims, 0, Some(claim(5, 5))), Some(claim(5, 5)));
    }

    #[test]
    fn a_lone_node_is_followed_back_as_well() {
        let mut claims = Claims::new(1);
        hear(&mut claims, 0, Some(claim(5, 5)));
        assert_eq!(hear(&mut claims, 0, Some(claim(4, 4))), Some(claim(4, 4)));
    }

    #[test]
    fn a_tip_that_could_not_be_followed_is_tried_again() {
        let mut claims = Claims::new(2);
        assert_eq!(claims.hear(0, Some(claim(5, 5))), Some(claim(5, 5)));
        assert_eq!(claims.hear(0, Some(claim(5, 5))), Some(claim(5, 5)), "said again");
        // The one behind it is what is left meanwhile, and no word of it is lost.
        assert_eq!(claims.hear(0, None), None);
        assert_eq!(hear(&mut claims, 1, Some(claim(4, 4))), Some(claim(4, 4)));
        assert_eq!(hear(&mut claims, 0, Some(claim(5, 5))), Some(claim(5, 5)));
    }

    #[test]
    fn a_tip_is_asked_of_a_node_that_has_it() {
        let mut claims = Claims::new(3);
        claims.hear(1, Some(claim(5, 5)));
        claims.hear(2, Some(claim(5, 5)));
        assert_eq!(claims.who_has(&claim(5, 5), 2), Some(2));
        assert_eq!(claims.who_has(&claim(5, 5), 0), Some(1));
        assert_eq!(claims.who_has(&claim(6, 6), 0), None);
    }
}
