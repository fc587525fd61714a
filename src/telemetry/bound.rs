//! The bounds of the pool, by name, to count how often each was hit.

use super::table::Labelled;
use crate::work::WorkBound;

/// A bound that something came up against and was refused for; the numbers are in `docs/ARCHITECTURE.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// Connections of a shard between accept and session.
    Handshakes,
    /// File descriptors of the process: a connection could not be accepted.
    Descriptors,
    /// Sessions of a shard.
    Sessions,
    /// Gateways that a shard remembers.
    Gateways,
    /// Memory of a shard for parents that its gateways named.
    GatewayMemory,
    /// Terms of a gateway: the oldest were forgotten.
    Terms,
    /// Splits of a gateway: the oldest were forgotten.
    Splits,
    /// Entries of a shard that the ledger has not made durable: a session waited with its share.
    RingFull,
    /// Output that a gateway did not take.
    UnsentOutput,
    /// Early frames of a connection (protocol section 2).
    EarlyFrames,
    /// Large answers that the process awaits at a time (protocol section 7).
    LargeAnswers,
    /// Templates that wait to be held against a node.
    Templates,
    /// Parcels that wait for a shard.
    Inbox,
    /// INFO lines that wait for a session.
    InfoLines,
    /// Coinbases kept of a session.
    CoinbaseBudget,
    /// Duplicates remembered of a gateway.
    Duplicates,
    /// Stale parents remembered of a gateway.
    StaleParents,
    /// Templates that a gateway does not show: its work was refused.
    Unshown,
    /// Splits computed in vain for coinbases of a gateway.
    SplitLooks,
    /// Parents remembered of a gateway with their duplicates: the chain came back to an older one, and
    /// they could not be read back.
    ForgottenDuplicates,
    /// Duplicates of a gateway that a shard has read back at a time.
    Reloads,
    /// Shares that wait for a parent that no node of ours has seen.
    Waiting,
    /// Usernames that a shard knows.
    Miners,
    /// Usernames that came first by one gateway.
    MinersPerGateway,
    /// Workers of a payee.
    // Stays last: the assertion below counts by it.
    WorkersPerPayee,
}

const _: () = assert!(
    Bound::WorkersPerPayee as usize + 1 == Bound::ALL.len(),
    "a bound is missing in ALL"
);

impl Bound {
    pub const ALL: [Self; 25] = [
        Self::Handshakes,
        Self::Descriptors,
        Self::Sessions,
        Self::Gateways,
        Self::GatewayMemory,
        Self::Terms,
        Self::Splits,
        Self::RingFull,
        Self::UnsentOutput,
        Self::EarlyFrames,
        Self::LargeAnswers,
        Self::Templates,
        Self::Inbox,
        Self::InfoLines,
        Self::CoinbaseBudget,
        Self::Duplicates,
        Self::StaleParents,
        Self::Unshown,
        Self::SplitLooks,
        Self::ForgottenDuplicates,
        Self::Reloads,
        Self::Waiting,
        Self::Miners,
        Self::MinersPerGateway,
        Self::WorkersPerPayee,
    ];

    /// For metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::Descriptors => "descriptors",
            Self::Sessions => "sessions",
            Self::Gateways => "gateways",
            Self::GatewayMemory => "gateway_memory",
            Self::Terms => "terms",
            Self::Splits => "splits",
            Self::RingFull => "ring_full",
            Self::UnsentOutput => "unsent_output",
            Self::EarlyFrames => "early_frames",
            Self::LargeAnswers => "large_answers",
            Self::Templates => "templates",
            Self::Inbox => "inbox",
            Self::InfoLines => "info_lines",
            Self::CoinbaseBudget => "coinbase_budget",
            Self::Duplicates => "duplicates",
            Self::StaleParents => "stale_parents",
            Self::Unshown => "unshown",
            Self::SplitLooks => "split_looks",
            Self::ForgottenDuplicates => "forgotten_duplicates",
            Self::Reloads => "reloads",
            Self::Waiting => "waiting",
            Self::Miners => "miners",
            Self::MinersPerGateway => "miners_per_gateway",
            Self::WorkersPerPayee => "workers_per_payee",
        }
    }
}

impl From<WorkBound> for Bound {
    fn from(bound: WorkBound) -> Self {
        match bound {
            WorkBound::CoinbaseBudget => Self::CoinbaseBudget,
            WorkBound::Duplicates => Self::Duplicates,
            WorkBound::StaleParents => Self::StaleParents,
            WorkBound::Unshown => Self::Unshown,
            WorkBound::SplitLooks => Self::SplitLooks,
            WorkBound::ForgottenDuplicates => Self::ForgottenDuplicates,
            WorkBound::Waiting => Self::Waiting,
            WorkBound::Miners => Self::Miners,
            WorkBound::MinersPerGateway => Self::MinersPerGateway,
            WorkBound::WorkersPerPayee => Self::WorkersPerPayee,
        }
    }
}

impl Labelled for Bound {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        self.label()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::table::tests::check_keys;

    #[test]
    fn bounds_are_dense_and_labels_differ() {
        check_keys::<Bound>();
    }

    #[test]
    fn a_bound_of_work_keeps_its_name() {
        assert_eq!(Bound::from(WorkBound::Miners).label(), "miners");
        assert_eq!(Bound::from(WorkBound::WorkersPerPayee).label(), "workers_per_payee");
    }
}
