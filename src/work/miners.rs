//! Whom a username means: an address, and the worker behind the first dot.
//!
//! A share carries its username as text, but no map of strings stands on its way: a shard knows a username by a
//! keyed 128-bit hash of it. Two names with one hash would take more tries than there are to make.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use siphasher::{sip, sip128};

use super::address::PayeeAddress;
use super::chain::NetworkKind;
use super::judge::{MinerRef, Refusal, WorkBound};
use super::policy::Policy;
use super::refused_names::{NameRefusal, RefusedNames};
use crate::wire::Reason;

/// Usernames that one shard knows. Past it shares of new ones are refused.
pub const MINERS_MAX: usize = 1 << 20;

/// Usernames that came first by one gateway, at once; each [`MINER_EACH_S`] it may bring another.
pub const MINERS_PER_GATEWAY_MAX: u32 = 16_384;

/// A gateway that is steered finds a share in so many s, and may find each by another of its miners, who come so seldom that they are
/// forgotten meanwhile.
pub const MINER_EACH_S: u64 = 2;

/// Workers of one payee that one shard knows.
pub const WORKERS_PER_PAYEE_MAX: u32 = 16_384;

/// From this much of either on usernames that nobody uses are forgotten. A name that comes back is numbered anew, which costs its
/// share an entry more, so none goes before there is need.
const MINERS_CROWDED: usize = MINERS_MAX / 8 * 7;
const WORKERS_CROWDED: u32 = WORKERS_PER_PAYEE_MAX / 8 * 7;

/// None goes that an accepted share had within so many s: slow miners of a large site find one in some hours.
pub const NAME_UNUSED_S: u32 = 6 * 3_600;

/// Names looked at by one call of [`Miners::forget_unused`]: some 0.1 ms.
const FORGET_PART: usize = 512;

/// Bytes of a worker's name. What is longer is cut, since a name is no reason to refuse work: names that share these
/// bytes are one worker.
pub const WORKER_MAX: usize = 128;

/// A username as one shard numbers them, from 0; it gives the number of one that it has forgotten to another.
///
/// So it is good for no longer than until the shard's next task: the ledger reads entries of a shard in their order, and knows by
/// the last that introduced the number whom it means. Everything else goes by the ledger's own payees and workers, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinerId(pub u32);

/// What a username says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMiner {
    /// The payee: the output script of the address.
    pub script: Box<[u8]>,
    /// What follows the first dot, any bytes: [`WORKER_MAX`] at most, perhaps none.
    pub worker: Box<[u8]>,
}

/// The usernames of one shard.
pub struct Miners {
    secret: [u8; 16],
    /// Whose addresses are good; none where any network's are.
    network: Option<NetworkKind>,
    by_name: HashMap<u128, Known, BuildHasherDefault<AlreadyHashed>>,
    /// By number.
    names: Vec<Numbered>,
    /// Numbers of names that were forgotten.
    free: Vec<u32>,
    /// Every name that is known, by when it was used when it was last looked at here; the longest unused first.
    by_use: BinaryHeap<Reverse<(u32, u32)>>,
    refused: RefusedNames,
    /// By keyed hash of the payee's script: two with one hash would only have one bound together.
    workers_by_payee: HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>>,
    /// Payees with more than [`WORKERS_CROWDED`].
    crowded_payees: usize,
    /// As [`Self::forget_unused`] was last told, s.
    now_s: u32,
    policy: Arc<Policy>,
    /// Of the policy, to know which names were judged by it.
    round: u32,
}

/// A username that was numbered. What the policy says of it is looked up once a policy, so that a share costs no more for it.
struct Known {
    id: MinerId,
    /// Of the policy that admitted it; none where the last one that was asked did not.
    admitted: Cell<Option<u32>>,
}

/// What is known of a number.
struct Numbered {
    name: u128,
    payee: u64,
    /// When a share under it was last accepted, s.
    used_s: Cell<u32>,
}

impl Miners {
    /// `secret` keys the hash of names. `network`: whose addresses are good; none where any network's are.
    #[must_use]
    pub fn new(secret: [u8; 16], network: Option<NetworkKind>) -> Self {
        Self {
            secret,
            network,
            by_name: HashMap::default(),
            names: Vec::new(),
            free: Vec::new(),
            by_use: BinaryHeap::new(),
            refused: RefusedNames::new(),
            workers_by_payee: HashMap::default(),
            crowded_payees: 0,
            now_s: 0,
            policy: Arc::default(),
            round: 0,
        }
    }

    /// Names are judged by this from now on, those that are known too.
    pub fn follow(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
        self.round += 1;
    }

    /// Whom the name means.
    ///
    /// # Errors
    /// Those of [`Self::learn`], which has none where this has none.
    pub(super) fn who(&self, username: &[u8]) -> Result<MinerRef, Refusal> {
        let hash = self.hash(username);
        let known = self.by_name.get(&hash);
        if let Some(known) = known.filter(|known| known.admitted.get() == Some(self.round)) {
            return Ok(MinerRef::Known(known.id));
        }
        if let Some(why) = self.refused.find(hash, self.round) {
            return Err(why.refusal);
        }
        let judged = match known {
            Some(known) => self.admit(username).map(|_| {
                known.admitted.set(Some(self.round));
                MinerRef::Known(known.id)
            }),
            None => self.newcomer(username).map(|_| MinerRef::New),
        };
        judged.map_err(|why| {
            self.refused.note(hash, self.round, why);
            why.refusal
        })
    }

    /// Numbers a username, after a share of it was accepted; says what is new about it the first time.
    ///
    /// # Errors
    /// Reason 14: it means nobody. Reason 30: the shard, or the payee, has as many as it may.
    pub fn learn(&mut self, username: &[u8]) -> Result<(MinerId, Option<NewMiner>), Refusal> {
        let hash = self.hash(username);
        if let Some(known) = self.by_name.get(&hash) {
            self.note_used(known.id);
            return Ok((known.id, None));
        }
        let miner = self.newcomer(username).map_err(|why| why.refusal)?;
        let payee = self.payee_hash(&miner.script);
        let workers = self.workers_by_payee.entry(payee).or_default();
        *workers += 1;
        self.crowded_payees += usize::from(*workers == WORKERS_CROWDED + 1);
        let id = self.number(Numbered {
            name: hash,
            payee,
            used_s: Cell::new(self.now_s),
        });
        let admitted = Cell::new(Some(self.round));
        self.by_name.insert(hash, Known { id, admitted });
        Ok((id, Some(miner)))
    }

    fn number(&mut self, name: Numbered) -> MinerId {
        let number = self.free.pop().unwrap_or_else(|| {
            let next = u32::try_from(self.names.len()).expect("bounded above");
            assert!(
                self.names.len() < MINERS_MAX,
                "there is a number for each that may be known"
            );
            next
        });
        self.by_use.push(Reverse((self.now_s, number)));
        match self.names.get_mut(number as usize) {
            Some(freed) => *freed = name,
            None => self.names.push(name),
        }
        MinerId(number)
    }

    /// A share under this name was accepted.
    pub fn note_used(&self, id: MinerId) {
        self.names[id.0 as usize].used_s.set(self.now_s);
    }

    /// Where the shard, or a payee on it, nearly has as many names as it may: forgets some of those that no accepted share had for
    /// [`NAME_UNUSED_S`], the longest unused first. How many went. `now_s` is of a clock that does not go back; names are used
    /// at the time of the last call.
    pub fn forget_unused(&mut self, now_s: u64) -> usize {
        self.now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        let mut gone = 0;
        for _ in 0..FORGET_PART {
            if self.by_name.len() <= MINERS_CROWDED && self.crowded_payees == 0 {
                break;
            }
            let Some(mut first) = self.by_use.peek_mut() else {
                break;
            };
            let Reverse((noted_s, number)) = *first;
            let used_s = self.names[number as usize].used_s.get();
            if used_s != noted_s {
                // Used since: it takes the place that it has by now.
                *first = Reverse((used_s, number));
                continue;
            }
            if self.now_s.saturating_sub(used_s) < NAME_UNUSED_S {
                break;
            }
            PeekMut::pop(first);
            self.forget(number);
            gone += 1;
        }
        if gone > 0 {
            self.refused.forget_bounds();
        }
        gone
    }

    fn forget(&mut self, number: u32) {
        let Numbered { name, payee, .. } = self.names[number as usize];
        self.by_name.remove(&name);
        self.free.push(number);
        if let Some(workers) = self.workers_by_payee.get_mut(&payee) {
            self.crowded_payees -= usize::from(*workers == WORKERS_CROWDED + 1);
            *workers -= 1;
            if *workers == 0 {
                self.workers_by_payee.remove(&payee);
            }
        }
    }

    /// Usernames known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name that is not known, where there is room for it.
    fn newcomer(&self, username: &[u8]) -> Result<NewMiner, NameRefusal> {
        let miner = self.admit(username)?;
        if self.by_name.len() >= MINERS_MAX {
            return Err(NameRefusal::at(WorkBound::Miners));
        }
        if self
            .workers_by_payee
            .get(&self.payee_hash(&miner.script))
            .is_some_and(|workers| *workers >= WORKERS_PER_PAYEE_MAX)
        {
            return Err(NameRefusal::at(WorkBound::WorkersPerPayee));
        }
        Ok(miner)
    }

    /// Reason 14 where the name means nobody, or somebody whom the policy does not admit.
    fn admit(&self, username: &[u8]) -> Result<NewMiner, NameRefusal> {
        let refused = |by_policy| NameRefusal {
            refusal: Reason::BadUsername.into(),
            by_policy,
        };
        let miner = NewMiner::parse_of(username, self.network).map_err(|_| refused(false))?;
        match self.policy.admits_payee(&miner.script) {
            true => Ok(miner),
            false => Err(refused(true)),
        }
    }

    /// Whether the policy alone keeps anybody from mining under this name: asked of one that was just refused.
    #[must_use]
    pub fn is_denied(&self, username: &[u8]) -> bool {
        let known = self.refused.find(self.hash(username), self.round);
        known.map_or_else(
            || self.admit(username).is_err_and(|why| why.by_policy),
            |why| why.by_policy,
        )
    }

    fn hash(&self, username: &[u8]) -> u128 {
        sip128::SipHasher24::new_with_key(&self.secret).hash(username).as_u128()
    }

    fn payee_hash(&self, script: &[u8]) -> u64 {
        sip::SipHasher24::new_with_key(&self.secret).hash(script)
    }
}

impl NewMiner {
    /// `address` or `address.worker`, where the address may be one of any Bitcoin network.
    ///
    /// # Errors
    /// Reason 14: what comes before the first dot is no address of a standard type.
    pub fn parse(username: &[u8]) -> Result<Self, Reason> {
        Self::parse_of(username, None)
    }

    /// The same where it must be an address of a network.
    ///
    /// # Errors
    /// Reason 14: what comes before the first dot is no such address of a standard type.
    pub fn parse_of(username: &[u8], network: Option<NetworkKind>) -> Result<Self, Reason> {
        let mut parts = username.splitn(2, |byte| *byte == b'.');
        let (address, worker) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let address = std::str::from_utf8(address).map_err(|_| Reason::BadUsername)?;
        let address: PayeeAddress = address.parse().map_err(|_| Reason::BadUsername)?;
        if network.is_some_and(|network| !address.is_of(network)) {
            return Err(Reason::BadUsername);
        }
        Ok(Self {
            script: address.into_script(),
            worker: worker[..worker.len().min(WORKER_MAX)].into(),
        })
    }
}

/// Passes a keyed hash on as a map's own.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are hashes already");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod forgetting;

#[cfg(test)]
mod tests {
    use super::*;

    const P2WPKH: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

    #[test]
    fn an_address_is_of_the_network_or_of_any() {
        let main = P2WPKH.as_bytes();
        let regtest = b"bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
        let is_good = |name, network| NewMiner::parse_of(name, network).is_ok();
        assert!(is_good(main, None) && is_good(regtest, None));
        assert!(is_good(main, Some(NetworkKind::Main)) && !is_good(regtest, Some(NetworkKind::Main)));
        assert!(!is_good(main, Some(NetworkKind::Regtest)) && is_good(regtest, Some(NetworkKind::Regtest)));
        assert!(!is_good(main, Some(NetworkKind::Test)) && !is_good(regtest, Some(NetworkKind::Test)));
    }

    #[test]
    fn addresses_of_all_networks_and_types_have_a_payee() {
        for address in [
            P2WPKH,
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "mzjP9Hn7aqaCLM5pSgMSQzgs3gnxSFv91B",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        ] {
            let miner = NewMiner::parse(address.as_bytes()).expect(address);
            assert!(!miner.script.is_empty() && miner.worker.is_empty());
        }
    }

    #[test]
    fn the_payee_is_the_script_and_the_worker_what_follows_the_first_dot() {
        let parse = |name: &str| NewMiner::parse(name.as_bytes());
        let lower = parse(&format!("{P2WPKH}.rig.1")).expect("a worker with a dot");
        let upper = parse(&format!("{}.rig.1", P2WPKH.to_uppercase())).expect("upper case");
        assert_eq!(lower, upper);
        assert_eq!(&*lower.worker, b"rig.1");
    }

    #[test]
    fn a_policy_holds_for_names_that_are_known_and_can_be_lifted() {
        let name = format!("{P2WPKH}.rig");
        let mut miners = Miners::new([1; 16], None);
        let (id, _) = miners.learn(name.as_bytes()).expect("room");
        let policy = |rules: &[&str]| {
            let rules: Vec<_> = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
            Arc::new(Policy::new(&rules).expect("few"))
        };
        let deny = format!("deny-payee {P2WPKH}");
        miners.follow(policy(&[&deny]));
        for _ in 0..2 {
            assert_eq!(miners.who(name.as_bytes()), Err(Reason::BadUsername.into()));
        }
        let other = format!("{P2WPKH}.other");
        assert_eq!(miners.who(other.as_bytes()), Err(Reason::BadUsername.into()));
        assert!(miners.is_denied(other.as_bytes()) && miners.is_denied(name.as_bytes()));
        // Of one that nobody asked for before, too.
        assert!(miners.is_denied(format!("{P2WPKH}.third").as_bytes()));
        miners.follow(policy(&[]));
        for _ in 0..2 {
            assert_eq!(miners.who(name.as_bytes()), Ok(MinerRef::Known(id)));
        }
        assert!(!miners.is_denied(other.as_bytes()));
        assert_eq!(miners.who(b"nobody"), Err(Reason::BadUsername.into()));
        assert!(!miners.is_denied(b"nobody"));
    }

    #[test]
    fn no_name_of_a_worker_costs_its_work() {
        let worker = |name: &[u8]| {
            let miner = NewMiner::parse(&[P2WPKH.as_bytes(), b".", name].concat());
            miner.expect("an address").worker
        };
        for name in [
            &b""[..],
            b"\x07",
            b"\xff\xfe",
            b"..",
            "вышка".as_bytes(),
            &[b'w'; WORKER_MAX],
        ] {
            assert_eq!(&*worker(name), name);
        }
        // Names that differ behind the limit are one worker, wherever in a letter that lies.
        let long = [b'w'; WORKER_MAX + 1];
        assert_eq!(*worker(&long), long[..WORKER_MAX]);
        let letters = "ы".repeat(WORKER_MAX);
        assert_eq!(
            *worker(format!("r{letters}").as_bytes()),
            format!("r{letters}").as_bytes()[..WORKER_MAX]
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let names: [&[u8]; 7] = [
            b"",
            b".rig",
            b"satoshi",
            b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
            b"\xff\xfe",
            b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\xff.rig",
            b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4 rig",
        ];
        for name in names {
            assert_eq!(NewMiner::parse(name), Err(Reason::BadUsername), "{name:?}");
        }
    }

    #[test]
    fn a_name_is_numbered_once_and_workers_are_bounded() {
        let mut miners = Miners::new([3; 16], None);
        assert_eq!(miners.who(P2WPKH.as_bytes()), Ok(MinerRef::New));
        let (first, new) = miners.learn(P2WPKH.as_bytes()).expect("room");
        assert!(new.is_some());
        assert_eq!(miners.who(P2WPKH.as_bytes()), Ok(MinerRef::Known(first)));
        assert_eq!(miners.learn(P2WPKH.as_bytes()), Ok((first, None)));
        for worker in 1..WORKERS_PER_PAYEE_MAX {
            miners.learn(format!("{P2WPKH}.{worker}").as_bytes()).expect("room");
        }
        let refusal = miners.learn(format!("{P2WPKH}.more").as_bytes()).expect_err("no room");
        assert_eq!(refusal.reason, Reason::Other);
        assert_eq!(refusal.bound, Some(WorkBound::WorkersPerPayee));
        assert_eq!(miners.who(format!("{P2WPKH}.more").as_bytes()), Err(refusal));
        assert_eq!(miners.who(P2WPKH.as_bytes()), Ok(MinerRef::Known(first)));
    }
}
