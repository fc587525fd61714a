//! Which of several nodes' tips is the pool's, and which node is asked about it.
//!
//! The tip with the most work is followed, and the one already followed where two have the same. It stands while the nodes that
//! had it are merely not well, whatever those say that lag behind: shares on it are still work. A chain of less work is followed
//! where a node that is well has left the tip for it knowingly, or where none has had the tip for [`STANDS_FOR`].
//!
//! A tip of as much work as the one that is followed is its *rival* ([`Claims::rivals`]): the next block decides, so work on either is
//! as good.

use std::time::Duration;

use super::rpc::{ChainWork, Shown};

/// How long a tip stands that no node which is well has, while some have another: the time of one block. A node that was alone
/// with it may have been wrong, and may never come back.
pub(super) const STANDS_FOR: Duration = Duration::from_secs(10 * 60);

/// A tip that a node says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub tip: Shown,
    pub work: ChainWork,
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It is not well.
    Nothing,
    Has(Claim),
    /// It has this tip now, of no more work than the one before, whose block it knows and has chosen to leave.
    Left {
        tip: Shown,
        claim: Claim,
    },
}

/// What each node said last.
#[derive(Debug)]
pub(super) struct Claims {
    /// By node.
    said: Vec<Said>,
    followed: Option<Followed>,
}

#[derive(Debug, Clone, Default)]
struct Said {
    /// What it claimed when it was last well; none where it never was.
    last: Option<Claim>,
    is_well: bool,
    /// The last tip that it left knowingly.
    left: Option<Shown>,
}

/// A tip of as much work as the one that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rival {
    pub claim: Claim,
    /// A node that is well and has it, and can be asked about it; none while those that had it are merely not well.
    pub node: Option<usize>,
}

#[derive(Debug)]
struct Followed {
    claim: Claim,
    /// Which is asked about it; it has the tip, or had it last.
    node: usize,
    /// When a node that is well last had it.
    confirmed_ns: u64,
}

impl Claims {
    pub fn new(nodes: usize) -> Self {
        Self {
            said: vec![Said::default(); nodes],
            followed: None,
        }
    }

    /// A node has said something. Gives the tip that is to be followed where that is another than the one that is, and a node that
    /// has it: again and again, until [`Self::follow`] says that it is. `now_ns`: by a clock that only goes forward.
    pub fn hear(&mut self, node: usize, word: Word, now_ns: u64) -> Option<(Claim, usize)> {
        let said = &mut self.said[node];
        match word {
            Word::Nothing => said.is_well = false,
            Word::Has(claim) => {
                *said = Said {
                    last: Some(claim),
                    is_well: true,
                    left: said.left.filter(|left| *left != claim.tip),
                }
            }
            Word::Left { tip, claim } => {
                *said = Said {
                    last: Some(claim),
                    is_well: true,
                    left: Some(tip),
                }
            }
        }
        if let Some(Followed { claim, node, .. }) = self.followed
            && let Some(has_it) = self.who_has(&claim, node)
        {
            self.follow(claim, has_it, now_ns);
        }
        let most = self.claims().map(|claim| claim.work).max()?;
        if let Some(followed) = &self.followed
            && followed.claim.work >= most
            && self.stands(followed, now_ns)
        {
            return None;
        }
        let best = self.claims().find(|claim| claim.work == most)?;
        Some((best, self.who_has(&best, node)?))
    }

    /// A tip is followed from now on, and this node asked about it.
    pub fn follow(&mut self, claim: Claim, node: usize, now_ns: u64) {
        self.followed = Some(Followed {
            claim,
            node,
            confirmed_ns: now_ns,
        });
    }

    /// The tip that is followed.
    pub fn followed(&self) -> Option<Claim> {
        self.followed.as_ref().map(|followed| followed.claim)
    }

    /// The node that is asked about it: the same until another has it and this one does not.
    pub fn in_use(&self) -> Option<usize> {
        self.followed.as_ref().map(|followed| followed.node)
    }

    /// Whether this node is well and has the tip that is followed.
    pub fn has_tip(&self, node: usize) -> bool {
        self.followed.is_some() && self.said[node].claim() == self.followed()
    }

    /// The tips that rival the one that is followed, each once, so no more than there are nodes. Like that one a rival stands while the
    /// nodes that had it are merely not well.
    pub fn rivals(&self) -> Vec<Rival> {
        let mut rivals: Vec<Rival> = Vec::new();
        for claim in self.said.iter().filter_map(|said| said.last) {
            if self.is_rival(&claim) && rivals.iter().all(|rival| rival.claim != claim) {
                let node = self.who_has(&claim, 0);
                rivals.push(Rival { claim, node });
            }
        }
        rivals
    }

    /// Whether this node is well and has a rival of the tip that is followed.
    pub fn has_rival(&self, node: usize) -> bool {
        self.said[node].claim().is_some_and(|claim| self.is_rival(&claim))
    }

    fn is_rival(&self, claim: &Claim) -> bool {
        self.followed()
            .is_some_and(|followed| claim.work == followed.work && claim.tip != followed.tip)
    }

    /// Nodes that are well, and have another tip than the one that is followed although none has that.
    pub fn lagging(&self) -> Vec<usize> {
        let nodes = 0..self.said.len();
        match self.followed.is_none() || nodes.clone().any(|node| self.has_tip(node)) {
            true => Vec::new(),
            false => nodes.filter(|node| self.said[*node].is_well).collect(),
        }
    }

    /// Whether another node than this is well.
    pub fn others_are_well(&self, node: usize) -> bool {
        let mut others = self.said.iter().enumerate().filter(|(other, _)| *other != node);
        others.any(|(_, said)| said.is_well)
    }

    fn claims(&self) -> impl Iterator<Item = Claim> {
        self.said.iter().filter_map(Said::claim)
    }

    /// A node that has this tip; `first` where it does.
    fn who_has(&self, claim: &Claim, first: usize) -> Option<usize> {
        std::iter::once(first)
            .chain(0..self.said.len())
            .find(|node| self.said[*node].claim() == Some(*claim))
    }

    /// Whether the tip is held to, though there may be none who has it.
    fn stands(&self, followed: &Followed, now_ns: u64) -> bool {
        let tip = followed.claim.tip;
        let is_left = |said: &Said| said.is_well && said.left == Some(tip);
        let unconfirmed = Duration::from_nanos(now_ns.saturating_sub(followed.confirmed_ns));
        self.claims().any(|claim| claim == followed.claim) || unconfirmed < STANDS_FOR && !self.said.iter().any(is_left)
    }
}

impl Said {
    /// None while the node is not well.
    fn claim(&self) -> Option<Claim> {
        self.last.filter(|_| self.is_well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is far longer than any that a test lets pass.
    const LATER_NS: u64 = 1_000_000_000_000_000;

    fn claim(tip: u8, work: u8) -> Claim {
        Claim {
            tip: Shown([tip; 32]),
            work: ChainWork([work; 32]),
        }
    }

    fn has(tip: u8, work: u8) -> Word {
        Word::Has(claim(tip, work))
    }

    fn left(tip: u8, now: Claim) -> Word {
        Word::Left {
            tip: Shown([tip; 32]),
            claim: now,
        }
    }

    /// Hears at a time, and follows what is to be followed: that, by its tip, and the node that it is of.
    fn hear_at(claims: &mut Claims, node: usize, word: Word, now_ns: u64) -> Option<(u8, usize)> {
        let (claim, node) = claims.hear(node, word, now_ns)?;
        claims.follow(claim, node, now_ns);
        Some((claim.tip.0[0], node))
    }

    fn hear(claims: &mut Claims, node: usize, word: Word) -> Option<(u8, usize)> {
        hear_at(claims, node, word, LATER_NS)
    }

    #[test]
    fn the_most_work_is_followed_and_the_first_of_equals() {
        let mut claims = Claims::new(2);
        assert_eq!(hear(&mut claims, 0, has(1, 1)), Some((1, 0)));
        assert_eq!(hear(&mut claims, 1, has(2, 1)), None, "a race: the first stays");
        assert_eq!(hear(&mut claims, 1, has(3, 2)), Some((3, 1)));
        assert_eq!(hear(&mut claims, 0, has(3, 2)), None);
        assert_eq!(hear(&mut claims, 0, has(1, 1)), None, "a node that lags");
    }

    #[test]
    fn a_tip_stands_while_the_node_that_had_it_is_not_well() {
        let mut claims = Claims::new(2);
        hear(&mut claims, 0, has(5, 5));
        hear(&mut claims, 1, has(4, 4));
        assert_eq!(hear(&mut claims, 0, Word::Nothing), None, "the other lags");
        assert_eq!((claims.lagging(), claims.has_tip(0)), (vec![1], false));
        assert_eq!(hear(&mut claims, 1, has(14, 5)), None, "nor for one of as much work");
        assert_eq!(
            hear(&mut claims, 1, has(6, 6)),
            Some((6, 1)),
            "its next block, on either"
        );
        assert_eq!(claims.lagging(), [0; 0]);
        assert_eq!(hear(&mut claims, 1, Word::Nothing), None);
        assert_eq!(claims.lagging(), [0; 0], "none is well");
        assert_eq!(hear(&mut claims, 0, has(5, 5)), None, "back, and behind");
        assert_eq!(claims.lagging(), [0]);
    }

    #[test]
    fn a_tip_that_nobody_has_is_given_up_in_time() {
        let stands_ns = u64::try_from(STANDS_FOR.as_nanos()).expect("minutes");
        let mut claims = Claims::new(2);
        hear_at(&mut claims, 0, has(5, 5), 1);
        hear_at(&mut claims, 1, has(4, 4), 1);
        // The last word of somebody who has it counts.
        assert_eq!(hear_at(&mut claims, 0, has(5, 5), 1_000), None);
        assert_eq!(hear_at(&mut claims, 0, Word::Nothing, 2_000), None);
        assert_eq!(hear_at(&mut claims, 0, Word::Nothing, 2_000 + stands_ns), Some((4, 1)));
        // Where none is well there is nothing else to stand on.
        let mut alone = Claims::new(1);
        hear_at(&mut alone, 0, has(5, 5), 1);
        assert_eq!(hear_at(&mut alone, 0, Word::Nothing, LATER_NS), None);
        assert_eq!(alone.followed(), Some(claim(5, 5)));
        assert_eq!(hear_at(&mut alone, 0, has(4, 4), LATER_NS), Some((4, 0)));
    }

    #[test]
    fn a_node_that_leaves_the_tip_knowingly_is_followed_at_once() {
        let mut claims = Claims::new(1);
        hear(&mut claims, 0, has(5, 5));
        assert_eq!(hear(&mut claims, 0, left(5, claim(4, 4))), Some((4, 0)));
        assert_eq!(hear(&mut claims, 0, has(5, 5)), Some((5, 0)), "and comes back to it");
        // It was not well in between.
        hear(&mut claims, 0, Word::Nothing);
        assert_eq!(hear(&mut claims, 0, left(5, claim(14, 5))), Some((14, 0)));
        // One that has lost the block lags: it was restored from an old copy, say.
        assert_eq!(hear(&mut claims, 0, has(4, 4)), None);
    }

    #[test]
    fn a_tip_that_one_node_has_left_and_another_has_stands_until_that_one_goes() {
        let mut claims = Claims::new(3);
        hear(&mut claims, 0, has(5, 5));
        hear(&mut claims, 1, has(5, 5));
        hear(&mut claims, 2, has(3, 3));
        assert_eq!(hear(&mut claims, 0, left(5, claim(4, 4))), None);
        assert_eq!(claims.in_use(), Some(1), "the other is asked");
        assert_eq!(hear(&mut claims, 0, has(4, 4)), None);
        assert_eq!(
            hear(&mut claims, 1, Word::Nothing),
            Some((4, 0)),
            "whoever is left knows better"
        );
        // One that is not well has no say in it.
        hear(&mut claims, 1, has(5, 5));
        assert_eq!(claims.followed(), Some(claim(5, 5)));
        hear(&mut claims, 0, Word::Nothing);
        assert_eq!(hear(&mut claims, 1, Word::Nothing), None);
        assert_eq!((claims.followed(), claims.lagging()), (Some(claim(5, 5)), vec![2]));
    }

    #[test]
    fn a_tip_that_could_not_be_followed_is_tried_again() {
        let mut claims = Claims::new(2);
        assert_eq!(claims.hear(0, has(5, 5), 1), Some((claim(5, 5), 0)));
        assert_eq!(claims.hear(0, has(5, 5), 2), Some((claim(5, 5), 0)), "said again");
        // The one behind it is what is left meanwhile, and no word of it is lost.
        assert_eq!(claims.hear(0, Word::Nothing, 3), None);
        assert_eq!(hear(&mut claims, 1, has(4, 4)), Some((4, 1)));
        assert_eq!(hear(&mut claims, 0, has(5, 5)), Some((5, 0)));
    }

    #[test]
    fn a_tip_is_asked_of_a_node_that_has_it_and_of_no_other_until_that_goes() {
        let mut claims = Claims::new(3);
        hear(&mut claims, 1, has(5, 5));
        hear(&mut claims, 2, has(5, 5));
        hear(&mut claims, 0, has(4, 4));
        assert_eq!(claims.in_use(), Some(1));
        assert_eq!(hear(&mut claims, 1, Word::Nothing), None);
        assert_eq!(claims.in_use(), Some(2), "at once");
        hear(&mut claims, 1, has(5, 5));
        assert_eq!(claims.in_use(), Some(2), "back, and the other goes on");
        assert!(claims.has_tip(1) && !claims.has_tip(0));
        // With nobody who has it there is nobody better to ask.
        hear(&mut claims, 1, Word::Nothing);
        hear(&mut claims, 2, Word::Nothing);
        assert_eq!(claims.in_use(), Some(2));
        hear(&mut claims, 0, has(5, 5));
        assert_eq!(claims.in_use(), Some(0), "it has caught up");
    }

    /// Rivals by their tips, and the node that is asked about each.
    fn rivals(claims: &Claims) -> Vec<(u8, Option<usize>)> {
        let rivals = claims.rivals();
        rivals.iter().map(|rival| (rival.claim.tip.0[0], rival.node)).collect()
    }

    #[test]
    fn a_tip_of_as_much_work_is_a_rival_once_whoever_has_it() {
        let mut claims = Claims::new(4);
        assert_eq!(rivals(&claims), []);
        hear(&mut claims, 0, has(5, 5));
        hear(&mut claims, 1, has(4, 4));
        assert_eq!(rivals(&claims), [], "one that lags is none");
        for node in [1, 2] {
            assert_eq!(hear(&mut claims, node, has(15, 5)), None);
        }
        hear(&mut claims, 3, has(25, 5));
        assert_eq!(rivals(&claims), [(15, Some(1)), (25, Some(3))]);
        assert_eq!(
            [0, 1, 2, 3].map(|node| claims.has_rival(node)),
            [false, true, true, true]
        );
        // A node has one tip, so one rival at most.
        hear(&mut claims, 3, has(15, 5));
        assert_eq!(rivals(&claims), [(15, Some(1))]);
        // The chain goes on, on the one or the other.
        assert_eq!(hear(&mut claims, 2, has(16, 6)), Some((16, 2)));
        assert_eq!((rivals(&claims), claims.has_rival(1)), (vec![], false));
    }

    #[test]
    fn a_rival_stands_while_its_nodes_are_not_well_and_ends_when_they_have_another_tip() {
        let mut claims = Claims::new(3);
        hear(&mut claims, 0, has(5, 5));
        for node in [1, 2] {
            hear(&mut claims, node, has(15, 5));
        }
        hear(&mut claims, 1, Word::Nothing);
        assert_eq!(rivals(&claims), [(15, Some(2))], "the other is asked");
        hear(&mut claims, 2, Word::Nothing);
        assert_eq!((rivals(&claims), claims.has_rival(2)), (vec![(15, None)], false));
        hear(&mut claims, 1, left(15, claim(5, 5)));
        assert_eq!(rivals(&claims), [(15, None)], "one is left that had it last");
        hear(&mut claims, 2, left(15, claim(4, 4)));
        assert_eq!(rivals(&claims), []);
    }

    #[test]
    fn a_tip_that_is_given_up_for_its_rival_may_be_the_rival_of_that() {
        let mut claims = Claims::new(2);
        hear(&mut claims, 0, has(5, 5));
        hear(&mut claims, 1, has(15, 5));
        assert_eq!(hear(&mut claims, 0, left(5, claim(15, 5))), Some((15, 0)));
        assert_eq!(rivals(&claims), []);
        assert_eq!(hear(&mut claims, 0, has(5, 5)), None, "it is back on it");
        assert_eq!(rivals(&claims), [(5, Some(0))]);
    }
}
