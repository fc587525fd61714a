//! What the pool knows of the chain that its gateways build on.

use super::judge::POT_MAX;
use super::target::Target;
use crate::wire::Reason;

/// Satoshi that there can ever be.
pub const MONEY_MAX: u64 = 21_000_000 * 100_000_000;

/// Satoshi of the first subsidy.
const FIRST_SUBSIDY: u64 = 50 * 100_000_000;
const HALVING_BLOCKS: u32 = 210_000;

/// Satoshi that a coinbase may take above the subsidy: more than all fees of any block there was, and far less than a slip
/// of a digit.
const FEES_MAX: u64 = 500 * 100_000_000;

/// How far the dev chain's targets lie above the real ones, in bits: a share of pot p needs about `2^p` hashes.
const DEV_TARGET_SHIFT: u32 = 32;

/// Blocks that a chain of a node names, the tip first: on older ones nobody works, and none that is forgotten becomes the
/// tip again but by a reorganisation of a day.
pub const PARENTS_KNOWN: usize = 144;

/// The compact target of difficulty 1: the least that a testnet has.
pub const TESTNET_LEAST_NBITS: u32 = 0x1d00_ffff;

/// How much easier than the tip's a block on an unknown parent may be: a retarget allows four times.
const RETARGET_MAX_BITS: u32 = 2;

/// The rules of one chain at one moment. Shards get a new one with each tip, and each that rivals it; nothing in it changes.
#[derive(Debug, Clone)]
pub struct Chain {
    /// By pot.
    share_targets: [Target; POT_MAX as usize + 1],
    view: View,
    /// Whose addresses are good; none where any network's are.
    network: Option<NetworkKind>,
}

#[derive(Debug, Clone)]
enum View {
    /// Any parent is current for whoever names it, any height and nbits are good.
    Dev { network_target: Target },
    Node {
        /// The tip first, [`PARENTS_KNOWN`] at most, and never none.
        parents: Vec<Known>,
        /// What a hash on a parent that is not among them must meet at least.
        easiest: Target,
    },
}

/// A parent with the target of its nbits, which no share should have to work out.
#[derive(Debug, Clone, Copy)]
struct Known {
    parent: Parent,
    target: Target,
}

/// Networks by what their addresses look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkKind {
    Main,
    /// Testnets and signets.
    Test,
    Regtest,
}

/// A block that others can be built on, and what its node asks of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The block's hash as hashed.
    pub hash: [u8; 32],
    /// The height of a block on it.
    pub next_height: u32,
    /// The compact target that a block on it must have, as its header's field reads as a number.
    pub next_nbits: u32,
    /// On testnets a block may have the least difficulty instead, [`TESTNET_LEAST_NBITS`], where its time lies beyond this,
    /// s since 1970: none came for 20 minutes. None where it may not.
    pub easy_after_s: Option<u32>,
    /// The least time of a block on it, s since 1970.
    pub min_time: u32,
    /// Satoshi that a block on it creates.
    pub subsidy: u64,
    /// Until when shares on it count, s since 1970; none for the tip, and for tips of nodes that rival it.
    pub good_until_s: Option<u64>,
    /// Whether the best chain has it; not one of a branch that was left, or that rivals it.
    pub is_in_chain: bool,
}

/// What a chain says of a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// Its gateway alone decides, by naming it: the dev chain.
    AsNamed,
    Current(&'a Parent),
    /// Another block is the tip, and the grace is over.
    Stale(&'a Parent),
    /// No node of ours has seen it.
    Unknown,
}

impl Chain {
    /// The chain for development and load: no node, targets shifted up by 32 bits, and a block where a hash meets
    /// `(difficulty-1 target << 32) / network_difficulty`.
    ///
    /// # Panics
    /// The difficulty is 0: the configuration refuses that.
    #[must_use]
    pub fn dev(network_difficulty: u64) -> Self {
        let base = Target::DIFFICULTY_1.shifted_up(DEV_TARGET_SHIFT);
        Self {
            share_targets: share_targets(base),
            view: View::Dev {
                network_target: base.divided_by(network_difficulty),
            },
            network: None,
        }
    }

    /// A chain as a node knows it. `parents`: the tip, then the blocks below it, tips that rival it and tips that were, of which
    /// [`PARENTS_KNOWN`] are kept. `target_shift`: bits by which the targets of shares lie above the real ones; 0 but on
    /// test chains.
    ///
    /// # Panics
    /// There is no tip.
    #[must_use]
    pub fn of_node(network: NetworkKind, target_shift: u32, parents: &[Parent]) -> Self {
        let known = |parent: &Parent| Known {
            parent: *parent,
            target: Target::from_nbits(parent.next_nbits),
        };
        let parents: Vec<Known> = parents.iter().take(PARENTS_KNOWN).map(known).collect();
        let tip = parents.first().expect("a node has a tip");
        Self {
            share_targets: share_targets(Target::DIFFICULTY_1.shifted_up(target_shift)),
            view: View::Node {
                easiest: tip.target.shifted_up(RETARGET_MAX_BITS),
                parents,
            },
            network: Some(network),
        }
    }

    /// The tip; none on the dev chain.
    #[must_use]
    pub fn tip(&self) -> Option<&Parent> {
        match &self.view {
            View::Dev { .. } => None,
            View::Node { parents, .. } => parents.first().map(|tip| &tip.parent),
        }
    }

    /// What is known of a parent; none of it on the dev chain.
    #[must_use]
    pub fn parent(&self, hash: &[u8; 32]) -> Option<&Parent> {
        self.known(hash).map(|known| &known.parent)
    }

    /// Whether a parent stands on no blocks of ours but those that the books count: the best chain has it. On the dev chain it
    /// stands on all of ours.
    #[must_use]
    pub fn has(&self, hash: &[u8; 32]) -> bool {
        matches!(self.view, View::Dev { .. }) || self.parent(hash).is_some_and(|parent| parent.is_in_chain)
    }

    /// Whose addresses are good; none where any network's are.
    #[must_use]
    pub fn network(&self) -> Option<NetworkKind> {
        self.network
    }

    pub(super) fn standing(&self, parent: &[u8; 32], now_s: u64) -> Standing<'_> {
        match (&self.view, self.parent(parent)) {
            (View::Dev { .. }, _) => Standing::AsNamed,
            (View::Node { .. }, None) => Standing::Unknown,
            (View::Node { .. }, Some(known)) if known.good_until_s.is_some_and(|until_s| now_s >= until_s) => {
                Standing::Stale(known)
            }
            (View::Node { .. }, Some(known)) => Standing::Current(known),
        }
    }

    /// Whether a node has this parent current: work on it counts, whatever its gateway named since.
    pub(crate) fn is_current(&self, parent: &[u8; 32], now_s: u64) -> bool {
        matches!(self.standing(parent, now_s), Standing::Current(_))
    }

    /// The target of a share; `pot` is at most [`POT_MAX`], as checked before.
    pub(super) fn share_target(&self, pot: u8) -> &Target {
        &self.share_targets[usize::from(pot)]
    }

    /// What makes a hash on this parent, of a block with this time, a candidate: what its node asks; for a parent not seen yet what the job says,
    /// `nbits`, where that is at most four times as easy as the tip's (protocol section 5).
    #[must_use]
    pub fn network_target(&self, parent: &[u8; 32], nbits: u32, ntime: u32) -> Target {
        match (&self.view, self.known(parent)) {
            (View::Dev { network_target }, _) => *network_target,
            (_, Some(known)) if known.parent.is_easy(nbits, ntime) => Target::from_nbits(nbits),
            (_, Some(known)) => known.target,
            (View::Node { easiest, .. }, None) => {
                let of_job = Target::from_nbits(nbits);
                if of_job <= *easiest { of_job } else { Target::NONE }
            }
        }
    }

    /// Whether a share's hash must begin with 32 zero bits whatever its difficulty: where targets are not shifted.
    pub(super) fn top_word_is_zero(&self) -> bool {
        self.share_targets[0] == Target::DIFFICULTY_1
    }

    /// Satoshi that the block at `height` creates: mainnet's halving, as the gateway computes it on any chain.
    #[must_use]
    pub fn subsidy(height: u32) -> u64 {
        Self::subsidy_halved(height, HALVING_BLOCKS)
    }

    /// The same where it halves after so many blocks.
    #[must_use]
    pub fn subsidy_halved(height: u32, every: u32) -> u64 {
        FIRST_SUBSIDY.checked_shr(height / every).unwrap_or(0)
    }

    fn known(&self, hash: &[u8; 32]) -> Option<&Known> {
        match &self.view {
            View::Dev { .. } => None,
            View::Node { parents, .. } => parents.iter().find(|known| known.parent.hash == *hash),
        }
    }

    /// The most that a coinbase at `height` may take, in satoshi, as far as can be told without its parent.
    pub(super) fn value_max(height: u32) -> u64 {
        Self::subsidy(height) + FEES_MAX
    }

    /// Whether a block with these facts can stand on this parent.
    ///
    /// # Errors
    /// Reason 26: height or value, 23: time, 30: its compact target.
    pub fn confirm(&self, parent: &Parent, facts: &BlockFacts) -> Result<(), Reason> {
        if !parent.takes_coinbase(facts.height, facts.value) {
            return Err(Reason::BadCoinbase);
        }
        if facts.ntime < parent.min_time {
            return Err(Reason::BadNtime);
        }
        if !parent.takes_nbits(facts.nbits, facts.ntime) {
            return Err(Reason::Other);
        }
        Ok(())
    }
}

/// What a block says of itself that only its parent can confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// The compact target, as its header's field reads as a number.
    pub nbits: u32,
    pub height: u32,
    /// Satoshi that its coinbase takes.
    pub value: u64,
    /// Seconds since 1970.
    pub ntime: u32,
}

fn share_targets(of_pot_0: Target) -> [Target; POT_MAX as usize + 1] {
    std::array::from_fn(|pot| of_pot_0.divided_by(1 << pot))
}

impl From<NetworkKind> for bitcoin::Network {
    /// One of the kind: addresses of the others look the same.
    fn from(kind: NetworkKind) -> Self {
        match kind {
            NetworkKind::Main => Self::Bitcoin,
            NetworkKind::Test => Self::Signet,
            NetworkKind::Regtest => Self::Regtest,
        }
    }
}

impl Standing<'_> {
    pub fn parent(&self) -> Option<&Parent> {
        match self {
            Self::Current(parent) | Self::Stale(parent) => Some(parent),
            Self::AsNamed | Self::Unknown => None,
        }
    }
}

impl Parent {
    /// Whether a coinbase on it can be of this height and take so many satoshi.
    pub(super) fn takes_coinbase(&self, height: u32, value: u64) -> bool {
        height == self.next_height && value <= self.subsidy + FEES_MAX
    }

    /// Whether a block on it may have this compact target. Where it may have the least it need not: work that was begun before
    /// is honest.
    pub(super) fn takes_nbits(&self, nbits: u32, ntime: u32) -> bool {
        self.next_nbits == nbits || self.is_easy(nbits, ntime)
    }

    /// Whether this is the least difficulty, and a block of this time may have it.
    fn is_easy(&self, nbits: u32, ntime: u32) -> bool {
        nbits == TESTNET_LEAST_NBITS && self.easy_after_s.is_some_and(|after_s| ntime > after_s)
    }

    /// The network difficulty of blocks on it in whole units of the difficulty of pot 0, which `target_shift` moves; at
    /// least 1.
    #[must_use]
    pub fn difficulty(&self, target_shift: u32) -> u64 {
        Target::from_nbits(self.next_nbits).difficulty(target_shift).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsidy_halves_as_on_mainnet() {
        assert_eq!(Chain::subsidy(0), 5_000_000_000);
        assert_eq!(Chain::subsidy(209_999), 5_000_000_000);
        assert_eq!(Chain::subsidy(210_000), 2_500_000_000);
        assert_eq!(Chain::subsidy(840_000), 312_500_000);
        assert_eq!(Chain::subsidy(u32::MAX), 0);
    }

    #[test]
    fn pot_zero_is_nearly_always_met_and_pots_halve() {
        let chain = Chain::dev(1 << 20);
        let mut hash = [0; 32];
        hash[31] = 0x7f;
        assert!(chain.share_target(0).is_met_by(&hash));
        assert!(chain.share_target(1).is_met_by(&hash));
        assert!(!chain.share_target(2).is_met_by(&hash));
        assert!(!chain.network_target(&[0; 32], 0, 0).is_met_by(&hash));
        hash = [0xff; 32];
        assert!(!chain.share_target(0).is_met_by(&hash));
        assert!(chain.network_target(&[0; 32], 0, 0).is_met_by(&[0; 32]));
    }

    fn parent(hash: u8, next_nbits: u32, good_until_s: Option<u64>) -> Parent {
        Parent {
            hash: [hash; 32],
            next_height: 100,
            next_nbits,
            easy_after_s: None,
            min_time: 0,
            subsidy: 5_000_000_000,
            good_until_s,
            is_in_chain: true,
        }
    }

    #[test]
    fn a_parent_is_current_until_its_grace_is_over_and_known_from_then_on() {
        let tip = parent(1, 0x1d00_ffff, None);
        let old = parent(2, 0x1d00_ffff, Some(1_000));
        let chain = Chain::of_node(NetworkKind::Main, 0, &[tip, old]);
        assert_eq!(chain.standing(&[1; 32], u64::MAX), Standing::Current(&tip));
        assert_eq!(chain.standing(&[2; 32], 999), Standing::Current(&old));
        assert_eq!(chain.standing(&[2; 32], 1_000), Standing::Stale(&old));
        assert_eq!(chain.standing(&[3; 32], 0), Standing::Unknown);
        assert_eq!(Chain::dev(1).standing(&[3; 32], 0), Standing::AsNamed);
    }

    #[test]
    fn a_branch_that_was_left_is_known_and_not_in_the_chain() {
        let tip = parent(1, 0x1d00_ffff, None);
        let below = parent(2, 0x1d00_ffff, Some(0));
        let left = Parent {
            is_in_chain: false,
            ..parent(3, 0x1d00_ffff, Some(1_000))
        };
        let chain = Chain::of_node(NetworkKind::Main, 0, &[tip, below, left]);
        assert_eq!(chain.standing(&[3; 32], 999), Standing::Current(&left));
        let has = [1, 2, 3, 4].map(|hash| chain.has(&[hash; 32]));
        assert_eq!(has, [true, true, false, false]);
        assert!(Chain::dev(1).has(&[4; 32]));
    }

    #[test]
    fn a_testnet_takes_the_least_difficulty_only_when_no_block_came_for_long() {
        let (real, least) = (0x1b00_ffff, TESTNET_LEAST_NBITS);
        let tip = Parent {
            easy_after_s: Some(2_200),
            ..parent(1, real, None)
        };
        let of = |tip: Parent, nbits, ntime| {
            let target = Chain::of_node(NetworkKind::Test, 0, &[tip]).network_target(&[1; 32], nbits, ntime);
            let bits = [real, least]
                .into_iter()
                .find(|nbits| Target::from_nbits(*nbits) == target);
            (tip.takes_nbits(nbits, ntime), bits.expect("one of them"))
        };
        assert_eq!(of(tip, real, 2_200), (true, real));
        assert_eq!(
            of(tip, least, 2_200),
            (false, real),
            "too early: no node would take the block"
        );
        assert_eq!(of(tip, least, 2_201), (true, least));
        assert_eq!(of(tip, real, 2_201), (true, real), "begun before");
        assert_eq!(of(tip, 0x1c00_ffff, 2_201), (false, real));
        let elsewhere = parent(1, real, None);
        assert_eq!(
            of(elsewhere, least, u32::MAX),
            (false, real),
            "no testnet, or a retarget"
        );
    }

    #[test]
    fn a_block_on_a_parent_not_seen_is_at_most_four_times_as_easy() {
        let chain = Chain::of_node(NetworkKind::Main, 0, &[parent(1, 0x1b00_ffff, None)]);
        let of = |hash: u8, nbits| chain.network_target(&[hash; 32], nbits, 0);
        assert_eq!(
            of(1, 0x207f_ffff),
            Target::from_nbits(0x1b00_ffff),
            "the job is not asked"
        );
        assert_eq!(of(9, 0x1b00_ffff), Target::from_nbits(0x1b00_ffff));
        assert_eq!(of(9, 0x1b03_fffc), Target::from_nbits(0x1b03_fffc));
        assert_eq!(of(9, 0x1b03_fffd), Target::NONE);
        assert_eq!(of(9, 0x207f_ffff), Target::NONE);
    }
}
