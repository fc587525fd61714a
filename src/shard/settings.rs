//! What a shard is told once, when it starts.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use super::large::LargeAnswers;
use super::standing::Standing;
use super::stop::Greetings;
use crate::config::{Limits, SplitUseRule};
use crate::guard::{self, Banned};
use crate::identity::KeyRing;
use crate::ledger::{PrimeIds, Published};
use crate::wire::{Config, Encode, SessionSigner};
use crate::work::{Chain, GatewayClaim, MinDiff, Policy, SteerRule, Terms};

/// The same for all shards of a pool, and for as long as it runs.
pub struct Settings {
    /// The pool's long-term keys as they were when it started; shards hear of each change.
    pub keys: Arc<KeyRing>,
    /// The chain as it was when the pool started; shards hear of each new tip.
    pub chain: Arc<Chain>,
    /// Output script, 1 to 64 bytes, for what a split leaves over.
    pub script: Vec<u8>,
    /// Coinbase tag, at most 83 bytes without NUL.
    pub tag: Vec<u8>,
    pub min_diff: MinDiff,
    /// None where every gateway keeps `min_diff`.
    pub steering: Option<SteerRule>,
    /// Shown in the gateway's log; at most 510 bytes without NUL.
    pub motd: Vec<u8>,
    pub shards: usize,
    /// The core of each shard; fewer than shards leaves the rest unpinned.
    pub cores: Vec<usize>,
    /// How long a gateway's terms and duplicates outlive its last session, in s.
    pub resume_for_s: u64,
    pub limits: Limits,
    /// Of the whole pool.
    pub guards: guard::Limits,
    /// Bans that a former process gave.
    pub bans: Vec<Banned>,
    /// Where the `prime_id` of a new session comes from.
    pub prime_ids: PrimeIds,
    /// Where the latest split is found.
    pub published: Published,
    pub split_use: SplitUseRule,
    /// Who may mine, as it was when the pool started; shards hear of each change.
    pub policy: Arc<Policy>,
    /// Made from randomness at each start: keys the hashes that peers must not be able to aim.
    pub secret: [u8; 16],
    pub large_answers: LargeAnswers,
    /// None where there is no node to hold templates against.
    pub templates: Option<TemplateChecks>,
    /// Whether a drain leaves the listening sockets open.
    pub standing: Arc<Standing>,
    /// HELLOs under way on any shard, which may belong to any other.
    pub greetings: Greetings,
}

/// Which templates are held against a node, and who does that.
pub struct TemplateChecks {
    /// Of those that do not look odd one in so many is checked; 0 for none.
    pub one_in: u32,
    /// Whether a gateway that does not show its templates has its work refused.
    pub refuses_unshown: bool,
    pub tell: TellClaim,
}

/// Takes a claim to be checked, and returns at once; false where too many wait already.
pub type TellClaim = Box<dyn Fn(GatewayClaim) -> bool + Send + Sync>;

impl Settings {
    /// The shard that a gateway belongs to. Keys are free to make, so an open hash could be aimed at one shard.
    pub fn owner(&self, gateway: &[u8; 32]) -> usize {
        let shards = self.shards as u64;
        usize::try_from(self.hash(gateway) % shards).expect("below the number of shards")
    }

    /// The terms of a session under this `prime_id`, and the CONFIG that tells of them, with its signature.
    pub(super) fn terms(&self, prime_id: u32, min_diff: MinDiff, signer: &SessionSigner) -> (Terms, Vec<u8>) {
        let config = Config {
            script: &self.script,
            prime_id,
            tag: &self.tag,
            min_diff: min_diff.get(),
        };
        let mut signed = Vec::new();
        config.encode(&mut signed);
        signed.extend_from_slice(&signer.sign(&signed));
        (Terms::new(prime_id, &self.script, &self.tag, min_diff), signed)
    }

    /// For what a session draws, and its peer must not foresee.
    pub fn seed(&self, prime_id: u32) -> u64 {
        self.hash(&prime_id.to_le_bytes())
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(bytes);
        hasher.finish()
    }
}
