//! Why a share is refused (section 6).

/// The reject reasons of the protocol; the number is what stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    BadJobId = 10,
    BadCoinbaseId = 11,
    BadExtranonce = 12,
    BadTarget = 13,
    BadUsername = 14,
    BadCoinbaserId = 15,
    BadMerkleCount = 16,
    CoinbaseTooLarge = 17,
    CoinbaseMissing = 18,
    TargetMismatch = 19,
    HNotZero = 20,
    HighHash = 21,
    CoinbaseIdMismatch = 22,
    BadNtime = 23,
    BadVersion = 24,
    StaleBlock = 25,
    BadCoinbase = 26,
    BadCoinbaseOutputs = 27,
    MissingPoolTag = 28,
    DuplicateWork = 29,
    Other = 30,
}

impl Reason {
    pub const ALL: [Self; 21] = [
        Self::BadJobId,
        Self::BadCoinbaseId,
        Self::BadExtranonce,
        Self::BadTarget,
        Self::BadUsername,
        Self::BadCoinbaserId,
        Self::BadMerkleCount,
        Self::CoinbaseTooLarge,
        Self::CoinbaseMissing,
        Self::TargetMismatch,
        Self::HNotZero,
        Self::HighHash,
        Self::CoinbaseIdMismatch,
        Self::BadNtime,
        Self::BadVersion,
        Self::StaleBlock,
        Self::BadCoinbase,
        Self::BadCoinbaseOutputs,
        Self::MissingPoolTag,
        Self::DuplicateWork,
        Self::Other,
    ];

    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The position in [`Self::ALL`], for tables by reason.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.code() - Self::ALL[0].code())
    }

    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// For metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::BadJobId => "bad_job_id",
            Self::BadCoinbaseId => "bad_coinbase_id",
            Self::BadExtranonce => "bad_extranonce",
            Self::BadTarget => "bad_target",
            Self::BadUsername => "bad_username",
            Self::BadCoinbaserId => "bad_coinbaser_id",
            Self::BadMerkleCount => "bad_merkle_count",
            Self::CoinbaseTooLarge => "coinbase_too_large",
            Self::CoinbaseMissing => "coinbase_missing",
            Self::TargetMismatch => "target_mismatch",
            Self::HNotZero => "h_not_zero",
            Self::HighHash => "high_hash",
            Self::CoinbaseIdMismatch => "coinbase_id_mismatch",
            Self::BadNtime => "bad_ntime",
            Self::BadVersion => "bad_version",
            Self::StaleBlock => "stale_block",
            Self::BadCoinbase => "bad_coinbase",
            Self::BadCoinbaseOutputs => "bad_coinbase_outputs",
            Self::MissingPoolTag => "missing_pool_tag",
            Self::DuplicateWork => "duplicate_work",
            Self::Other => "other",
        }
    }

    /// What is wrong, and what a person can do about it.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::BadJobId => {
                "the job is not known here: its section never came, or the slot is above 7; a new template mends it"
            }
            Self::BadCoinbaseId => "no such coinbase class; update the gateway",
            Self::BadExtranonce => "the extranonce has not 12 bytes; update the gateway",
            Self::BadTarget => "the share's difficulty is below what the pool asked for; the miner's next job mends it",
            Self::BadUsername => "the username is not an address of this network; correct it in the miner",
            Self::BadCoinbaserId => {
                "the split was never dictated to this gateway, or has expired; the next template mends it"
            }
            Self::BadMerkleCount => "the merkle branches do not fit the number of transactions; update the gateway",
            Self::CoinbaseTooLarge => "the coinbase is above the protocol's size; update the gateway",
            Self::CoinbaseMissing => "the coinbase's section never came; a new template mends it",
            Self::TargetMismatch => "the target index does not point at the difficulty byte; update the gateway",
            Self::HNotZero => "the hash is above difficulty 1; the miner's hardware or a reused slot",
            Self::HighHash => "the hash is above the share's target; the miner's hardware or a reused slot",
            Self::CoinbaseIdMismatch => "the coinbase sent is not the one the share names; update the gateway",
            Self::BadNtime => "the time is more than two hours off; set the miner's or the gateway's clock",
            Self::BadVersion => "the top three bits of the version are not 001; check version rolling in the miner",
            Self::StaleBlock => "the share builds on an old block; check the gateway's node and network",
            Self::BadCoinbase => "the coinbase departs from the protocol's form; update the gateway",
            Self::BadCoinbaseOutputs => "the coinbase does not pay what the pool dictated; a new template mends it",
            Self::MissingPoolTag => {
                "the coinbase lacks the pool's tag or this gateway's prime id; reconnect the gateway"
            }
            Self::DuplicateWork => "this work was submitted before; check the miner's firmware",
            Self::Other => "a limit of the pool was hit; its log and metrics say which",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_labels_differ() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert_eq!(Reason::from_code(9), None);
        assert_eq!(Reason::from_code(31), None);
    }
}
