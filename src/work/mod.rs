//! What makes a share count: jobs, coinbases, merkle roots, targets, duplicates, verdicts.
//!
//! Pure: no clock of its own, no runtime, no database. [`judge`] is the one place that has the order of the checks.

mod address;
mod ask;
mod assembly;
mod body;
mod candidate;
mod chain;
mod choice;
mod coinbase;
mod difficulty;
mod duplicates;
mod findings;
mod gateway;
mod jobs;
mod judge;
pub(crate) mod known;
mod mined;
mod miners;
mod policy;
mod refused_names;
mod room;
mod sha256d;
mod split;
mod splits;
mod target;
mod template;
mod terms;

pub use self::address::{NoPayeeAddress, PayeeAddress};
pub use self::ask::{Answer, Ask, Purpose, ValidateOutcome};
pub use self::assembly::{AssemblyError, RawBlock};
pub use self::body::TemplateBody;
pub use self::candidate::{Booking, Candidate};
pub use self::chain::{BlockFacts, Chain, MONEY_MAX, NetworkKind, PARENTS_KNOWN, Parent, TESTNET_LEAST_NBITS};
pub use self::choice::{Chosen, OwnTemplate, TemplateChoice};
pub use self::coinbase::{OutputKind, is_leftover};
#[cfg(test)]
pub use self::difficulty::arrivals::Arrivals;
pub use self::difficulty::{CHANGE_EVERY_MS, CHANGES_AT_ONCE, Done, FALL_AFTER_MS, RISE_AFTER_MS, SteerRule, Steerer};
pub use self::duplicates::DUPLICATES_MAX;
pub use self::findings::{CONDEMNED_MAX, Checked, Finding, TemplateFindings, TemplateId, UNSHOWN_MAX};
pub use self::gateway::{
    GatewayMemory, PARENTS_ACCEPTED, PARENTS_CURRENT_MAX, RELOADS_PER_GATEWAY, ReloadWanted, STALE_PARENTS_MAX,
    TERMS_MAX,
};
pub use self::jobs::{COINBASE_BUDGET, Jobs, SLOTS};
pub use self::judge::{Accepted, Context, Judged, MinerRef, NTIME_WINDOW_S, POT_MAX, Refusal, WorkBound, judge};
pub use self::known::{KnownTemplates, KnownTransactions};
pub use self::mined::{CoinbaseMark, FormedCoinbase, MinedBlock};
pub use self::miners::{
    MINER_EACH_S, MINERS_MAX, MINERS_PER_GATEWAY_MAX, MinerId, Miners, NAME_UNUSED_S, NewMiner, WORKER_MAX,
    WORKERS_PER_PAYEE_MAX,
};
pub use self::policy::{Denied, Policy, RULES_MAX, Rule, RuleError, address_range};
pub use self::room::CoinbaseRoom;
pub use self::sha256d::header as header_hash;
pub use self::split::{Dictated, Payout, Pin, PinnedSplit, SPLIT_GOOD_FOR_S, Split};
pub use self::splits::{LOOKS_MAX, SPLIT_KNOWN_FOR_S, SPLITS_MAX};
pub use self::target::Target;
pub use self::template::{
    BLOCK_SIGOPS_MAX, BLOCK_WEIGHT_MAX, GatewayClaim, TemplateClaim, TemplateFault, TemplateTransaction,
    merkle_branches,
};
pub use self::terms::{MinDiff, Terms};
