//! With which nodes a block of ours is, and which are to be offered it again. Pure.

use super::fate::{LOST_AFTER, is_over};
use super::words::Words;
use crate::ledger::Submitted;

/// Offers of one block, until only tips bring another, and none where a node has it: twenty minutes.
pub(super) const OFFERS_MAX: u32 = 600;

/// How one node stands to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not been offered it, or has said nothing that counts: it is restarting, or lacks the parent yet.
    Owed,
    Has,
    Refuses,
}

/// What the nodes together made of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// None has it, and some may take it yet.
    Open,
    /// One has it at least.
    Taken,
    /// All say so: one that is silent may know better.
    Refused,
}

/// A block on its way to the nodes.
#[derive(Debug)]
pub(super) struct Delivery {
    /// By node.
    nodes: Vec<Standing>,
    /// Those that were given it, and whose answer is still to come.
    given: Vec<bool>,
    pub offers: u32,
    pub words: Words,
}

impl Delivery {
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![Standing::Owed; nodes],
            given: vec![false; nodes],
            offers: 0,
            words: Words::default(),
        }
    }

    pub fn outcome(&self) -> Outcome {
        if self.nodes.contains(&Standing::Has) {
            Outcome::Taken
        } else if self.nodes.contains(&Standing::Owed) {
            Outcome::Open
        } else {
            Outcome::Refused
        }
    }

    /// Whether it is offered with the next tip at the latest; `beyond`: how far the tip's height lies beyond its own. Where a node
    /// has it the others get it as long as it is young: that one may end before it has told anybody.
    pub fn is_due(&self, beyond: u32) -> bool {
        match self.outcome() {
            Outcome::Open => !self.owed().is_empty() && !is_over(beyond),
            Outcome::Taken => !self.owed().is_empty() && beyond < LOST_AFTER && self.offers < OFFERS_MAX,
            Outcome::Refused => false,
        }
    }

    /// Whether it is offered again in a moment, whatever the chain does.
    pub fn is_urgent(&self, beyond: u32) -> bool {
        self.is_due(beyond) && self.offers < OFFERS_MAX
    }

    /// Nodes that are to be offered it: not those whose answer is still to come.
    pub fn owed(&self) -> Vec<usize> {
        let mut owed = self.all(Standing::Owed);
        owed.retain(|node| !self.given[*node]);
        owed
    }

    /// It is given to the node. False where that has been done, and its answer is still to come.
    pub fn gives(&mut self, node: usize) -> bool {
        !std::mem::replace(&mut self.given[node], true)
    }

    pub fn is_given(&self, node: usize) -> bool {
        self.given[node]
    }

    pub fn having(&self) -> Vec<usize> {
        self.all(Standing::Has)
    }

    fn all(&self, standing: Standing) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, of)| **of == standing).map(|(node, _)| node).collect()
    }

    /// A node has it in its best chain.
    pub fn is_with(&mut self, node: usize) {
        self.nodes[node] = Standing::Has;
    }

    /// A node that is well knows nothing of it: one that had it has lost it, to an unclean end or an old copy.
    pub fn is_lost_by(&mut self, node: usize) {
        if self.nodes[node] == Standing::Has {
            self.nodes[node] = Standing::Owed;
        }
    }

    /// A node's word on it. True where the node has it.
    pub fn hear(&mut self, node: usize, outcome: Submitted) -> bool {
        self.given[node] = false;
        match outcome {
            Submitted::Accepted | Submitted::Duplicate | Submitted::Inconclusive => self.nodes[node] = Standing::Has,
            Submitted::Rejected => self.nodes[node] = Standing::Refuses,
            Submitted::Undecided | Submitted::Unanswered => {}
        }
        self.nodes[node] == Standing::Has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fate::WATCHED_FOR;

    #[test]
    fn nodes_that_were_silent_are_owed_a_young_block_that_another_has() {
        let mut delivery = Delivery::new(3);
        assert_eq!((delivery.outcome(), delivery.owed()), (Outcome::Open, vec![0, 1, 2]));
        assert!(delivery.hear(0, Submitted::Accepted));
        assert!(!delivery.hear(1, Submitted::Unanswered) && !delivery.hear(2, Submitted::Undecided));
        assert_eq!((delivery.outcome(), delivery.owed()), (Outcome::Taken, vec![1, 2]));
        assert!(delivery.is_due(0) && delivery.is_due(LOST_AFTER - 1) && !delivery.is_due(LOST_AFTER));
        assert!(!delivery.hear(1, Submitted::Rejected) && delivery.hear(2, Submitted::Duplicate));
        assert!(!delivery.is_due(0), "all have answered");
        assert_eq!(delivery.having(), [0, 2]);
        delivery.is_lost_by(2);
        delivery.is_lost_by(1);
        assert_eq!(delivery.owed(), [2], "one that refuses it has not lost it");
    }

    #[test]
    fn a_block_that_none_has_is_offered_as_long_as_it_is_watched_and_one_that_all_refuse_is_not() {
        let mut delivery = Delivery::new(2);
        delivery.hear(0, Submitted::Rejected);
        delivery.offers = OFFERS_MAX;
        assert_eq!(delivery.outcome(), Outcome::Open, "the other may know better");
        assert!(delivery.is_due(WATCHED_FOR) && !delivery.is_urgent(WATCHED_FOR));
        assert!(!delivery.is_due(WATCHED_FOR + 1), "nothing would become of it");
        delivery.is_with(1);
        assert!(!delivery.is_due(0));
        delivery.is_lost_by(1);
        delivery.hear(1, Submitted::Rejected);
        assert_eq!((delivery.outcome(), delivery.is_due(0)), (Outcome::Refused, false));
    }

    #[test]
    fn a_node_whose_answer_is_to_come_is_offered_nothing_and_keeps_no_other_waiting() {
        let mut delivery = Delivery::new(2);
        assert!(delivery.gives(0) && delivery.gives(1) && !delivery.gives(1));
        assert_eq!((delivery.outcome(), delivery.is_due(0)), (Outcome::Open, false));
        delivery.hear(0, Submitted::Undecided);
        assert_eq!((delivery.owed(), delivery.is_urgent(0)), (vec![0], true));
        delivery.hear(0, Submitted::Rejected);
        assert_eq!(delivery.outcome(), Outcome::Open, "the other may know better");
        assert!(delivery.is_given(1) && !delivery.is_due(0));
        delivery.hear(1, Submitted::Unanswered);
        assert_eq!(delivery.owed(), [1]);
    }

    #[test]
    fn offers_beside_those_that_tips_bring_have_an_end() {
        let mut delivery = Delivery::new(2);
        delivery.is_with(0);
        assert!(delivery.is_urgent(0));
        delivery.offers = OFFERS_MAX;
        assert!(!delivery.is_due(0));
    }
}
