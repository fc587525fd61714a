//! What a shard remembers of its gateways between their sessions.
//!
//! A gateway is its long-term Ed25519 key, made anew at each start of its process and kept for all its reconnects.
//! Keys are free to make, so a gateway is remembered only once it has sent a frame under its channel key.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::slots::SlotKey;
use crate::ledger::{UNPROVED_MAX, Unproved};
use crate::wire::ChannelKey;
use crate::work::{GatewayMemory, Terms};

/// Gateways looked at by one call of [`Gateways::expire`]: some 0.1 ms, so that all of a full shard take a minute.
pub(super) const EXPIRE_PART: usize = 512;

/// Bytes that the gateways of a shard take together for what no accepted share stands behind, that is parents they named.
/// Each may name 65,536 and take 1 MiB; an honest one names 144 a day.
pub const GATEWAY_BYTES_MAX: usize = 1 << 30;

/// HELLOs of a gateway that are known again, by their session key, which a gateway makes anew for each.
const HELLOS_KNOWN: usize = 16;

/// One gateway, shared by its sessions on the shard.
pub(super) struct Gateway {
    /// Terms, parents and duplicates: what makes its shares count, once.
    pub memory: GatewayMemory,
    former: FormerKeys,
    /// The session that sent the latest proof; an older one is displaced by it.
    pub session: Option<SlotKey>,
    /// Begun and not proved, the oldest first.
    unproved: VecDeque<SlotKey>,
    /// Terms of sessions that a former process left unproved: the gateway's, once a frame of it has come. No HELLO can take
    /// them away.
    left_terms: Vec<Terms>,
    /// The sessions of those that are the gateway's now, by `prime_id`, until it proves one here.
    adopted: Vec<u32>,
    /// The ledger has still to hear of them.
    adopted_unmarked: bool,
    /// The first bytes of the last session keys, the newest last. Only the gateway can sign one, so nobody can aim at them.
    hellos: VecDeque<[u8; 8]>,
    live_sessions: u32,
    last_seen_s: u64,
    /// What its memory took without work when it was last looked at.
    bytes: usize,
}

/// The channel keys under which early frames can come (protocol section 2): that of the last session that sent a
/// good frame, and the newest one made since.
#[derive(Default)]
struct FormerKeys {
    /// With the session's `prime_id`.
    proven: Option<(u32, ChannelKey)>,
    newest: Option<ChannelKey>,
    /// That of the last session which a former process left unproved: a HELLO that is replayed here does not take its place.
    left: Option<ChannelKey>,
    /// When `newest` was first looked at and no proof had come, s since 1970.
    newest_since_s: Option<u64>,
}

/// What the proof of a session comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proved {
    /// The session that it displaces.
    pub displaced: Option<SlotKey>,
    /// The session that was the last proven one, by `prime_id`.
    pub replaces: Option<u32>,
}

impl Gateway {
    pub fn new(memory: GatewayMemory) -> Self {
        Self {
            memory,
            former: FormerKeys::default(),
            session: None,
            unproved: VecDeque::new(),
            left_terms: Vec::new(),
            adopted: Vec::new(),
            adopted_unmarked: false,
            hellos: VecDeque::new(),
            live_sessions: 0,
            last_seen_s: 0,
            bytes: 0,
        }
    }

    /// As the ledger knows it from before the pool started.
    pub fn restored(memory: GatewayMemory, former: Option<(u32, ChannelKey)>, unproved: Unproved) -> Self {
        let mut gateway = Self::new(memory);
        gateway.former.proven = former;
        gateway.former.left = unproved.key;
        gateway.left_terms = unproved.terms;
        gateway
    }

    /// Whether a HELLO with this session key is new; what is not was replayed, and proves nothing ever.
    pub fn meet_hello(&mut self, session_ed25519: &[u8; 32]) -> bool {
        let name = session_ed25519[..8].try_into().expect("8 of 32 bytes");
        if self.hellos.contains(&name) {
            return false;
        }
        if self.hellos.len() == HELLOS_KNOWN {
            self.hellos.pop_front();
        }
        self.hellos.push_back(name);
        true
    }

    /// A session waits for its proof. The one that must end for it, where there are more than [`UNPROVED_MAX`]: the oldest,
    /// so that nobody can keep the gateway out by holding all places.
    pub fn await_proof(&mut self, session: SlotKey) -> Option<SlotKey> {
        self.unproved.push_back(session);
        (self.unproved.len() > UNPROVED_MAX)
            .then(|| self.unproved.pop_front())
            .flatten()
    }

    /// The keys to try on early frames of a session that starts now, whose own key is noted as the newest.
    pub fn begin_session(&mut self, key: &ChannelKey) -> Vec<ChannelKey> {
        self.live_sessions += 1;
        let proven = self.former.proven.as_ref().map(|(_, key)| key);
        let former = [self.former.newest.as_ref(), self.former.left.as_ref(), proven];
        let former = former.into_iter().flatten().cloned().collect();
        self.former.newest = Some(key.clone());
        self.former.newest_since_s = None;
        former
    }

    /// The session's first good frame came.
    pub fn prove_session(&mut self, prime_id: u32, key: &ChannelKey, session: SlotKey) -> Proved {
        self.unproved.retain(|unproved| *unproved != session);
        self.former.left = None;
        let replaces = self.former.proven.replace((prime_id, key.clone()));
        // A session begun after this one may still be the gateway's next.
        if self
            .former
            .newest
            .as_ref()
            .is_some_and(|newest| newest.as_bytes() == key.as_bytes())
        {
            self.former.newest = None;
        }
        Proved {
            displaced: self.session.replace(session).filter(|older| *older != session),
            replaces: replaces
                .map(|(replaced, _)| replaced)
                .filter(|replaced| *replaced != prime_id),
        }
    }

    /// Sessions that a former process left unproved are the gateway's from now on: a frame of it has come, early or not.
    /// Whether terms had to go for theirs.
    pub fn adopt_left(&mut self, now_s: u64) -> bool {
        let mut some_went = false;
        for terms in std::mem::take(&mut self.left_terms) {
            self.adopted.push(terms.prime_id);
            self.adopted_unmarked = true;
            some_went |= self.memory.learn_terms(terms, now_s);
        }
        some_went
    }

    /// Whether the ledger has to hear of them before the gateway's next share.
    pub fn has_unmarked(&self) -> bool {
        self.adopted_unmarked
    }

    /// Those of which it has, by `prime_id`.
    pub fn take_unmarked(&mut self) -> Vec<u32> {
        match std::mem::replace(&mut self.adopted_unmarked, false) {
            true => self.adopted.clone(),
            false => Vec::new(),
        }
    }

    /// Those of them that the ledger has to hear of with the gateway's proof.
    pub fn take_adopted(&mut self) -> Vec<u32> {
        self.adopted_unmarked = false;
        std::mem::take(&mut self.adopted)
    }

    /// Wipes the keys of sessions that nobody has proved for so long: no early frame comes under them any more. That of the
    /// last proven one goes with the gateway.
    fn forget_unproven_key(&mut self, now_s: u64, resume_for_s: u64) {
        let since_s = *self.former.newest_since_s.get_or_insert(now_s);
        if now_s.saturating_sub(since_s) > resume_for_s {
            self.former.newest = None;
            self.former.left = None;
        }
    }

    /// The last proven session goes on under another `prime_id`.
    pub fn renew_session(&mut self, prime_id: u32, key: &ChannelKey) {
        self.former.proven = Some((prime_id, key.clone()));
    }

    pub fn end_session(&mut self, session: SlotKey, now_s: u64) {
        self.unproved.retain(|unproved| *unproved != session);
        self.live_sessions -= 1;
        self.last_seen_s = now_s;
        if self.session == Some(session) {
            self.session = None;
        }
    }
}

/// The gateways of one shard by long-term Ed25519 key.
pub(super) struct Gateways {
    known: HashMap<[u8; 32], Rc<RefCell<Gateway>>>,
    /// The keys of `known`, each once; the next to be looked at in front.
    round: VecDeque<[u8; 32]>,
    /// What all of them took when they were last looked at.
    bytes: usize,
    capacity: usize,
    bytes_max: usize,
    resume_for_s: u64,
}

/// What a look at some gateways came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// Gateways forgotten because memory ran out.
    pub for_memory: u64,
    /// Sessions of such gateways: they must end.
    pub sessions: Vec<SlotKey>,
}

impl Gateways {
    /// `capacity`: gateways remembered at most, and `bytes_max` what they may take. `resume_for_s`: how long one is
    /// remembered after its last session.
    pub fn new(capacity: usize, bytes_max: usize, resume_for_s: u64) -> Self {
        Self {
            known: HashMap::new(),
            round: VecDeque::new(),
            bytes: 0,
            capacity,
            bytes_max,
            resume_for_s,
        }
    }

    pub fn find(&self, key: &[u8; 32]) -> Option<Rc<RefCell<Gateway>>> {
        self.known.get(key).cloned()
    }

    /// Remembers a gateway that has proved its key, or was read back from the ledger. False: at capacity, so that it
    /// will start afresh when it reconnects.
    pub fn remember(&mut self, key: [u8; 32], gateway: Rc<RefCell<Gateway>>, now_s: u64) -> bool {
        gateway.borrow_mut().last_seen_s = now_s;
        let known = self.known.contains_key(&key);
        if !known && self.known.len() >= self.capacity {
            return false;
        }
        self.known.insert(key, gateway);
        if !known {
            self.round.push_back(key);
        }
        true
    }

    /// Forgets gateways without a session for longer than work in flight can matter, and of those that stay the terms
    /// that were superseded as long ago. Where all together take more than they may without work, those without a session
    /// go at once, and of the others those that take more than the average: they begin anew, their old work is refused.
    /// Looks at the next [`EXPIRE_PART`] of them.
    pub fn expire(&mut self, now_s: u64) -> Expired {
        let oldest_s = now_s.saturating_sub(self.resume_for_s);
        let mut expired = Expired::default();
        for _ in 0..self.round.len().min(EXPIRE_PART) {
            let Some((key, known)) = self.round.pop_front().and_then(|key| Some((key, self.find(&key)?))) else {
                continue;
            };
            let mut gateway = known.borrow_mut();
            gateway.memory.forget_terms(oldest_s);
            gateway.forget_unproven_key(now_s, self.resume_for_s);
            let bytes = gateway.memory.bytes_without_work();
            self.bytes = self.bytes - gateway.bytes + bytes;
            gateway.bytes = bytes;
            let lives = gateway.live_sessions > 0;
            let too_much = self.bytes > self.bytes_max && (!lives || bytes > self.bytes / self.known.len());
            if too_much {
                expired.for_memory += 1;
                expired.sessions.extend(gateway.session);
            }
            if (lives || gateway.last_seen_s >= oldest_s) && !too_much {
                self.round.push_back(key);
            } else {
                self.bytes -= bytes;
                gateway.bytes = 0;
                self.known.remove(&key);
            }
        }
        expired
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{MinDiff, Terms};

    const RESUME_FOR_S: u64 = 3_600;

    fn key(byte: u8) -> ChannelKey {
        ChannelKey::from_bytes([byte; 32])
    }

    fn bytes(keys: &[ChannelKey]) -> Vec<u8> {
        keys.iter().map(|key| key.as_bytes()[0]).collect()
    }

    fn slot(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    fn terms(prime_id: u32) -> Terms {
        Terms::new(prime_id, &[0x51], b"tag", MinDiff::from_pot(0).expect("a pot"))
    }

    fn fresh() -> Rc<RefCell<Gateway>> {
        Rc::new(RefCell::new(Gateway::new(GatewayMemory::new())))
    }

    #[test]
    fn early_frames_are_tried_with_the_last_proven_key_and_the_newest_since() {
        let mut gateway = Gateway::new(GatewayMemory::new());
        assert!(gateway.begin_session(&key(1)).is_empty());
        gateway.prove_session(1, &key(1), slot(1));
        assert_eq!(bytes(&gateway.begin_session(&key(2))), [1]);
        // Never proved: the gateway may not have had the response, or may have.
        assert_eq!(bytes(&gateway.begin_session(&key(3))), [2, 1]);
        assert_eq!(bytes(&gateway.begin_session(&key(4))), [3, 1]);
        gateway.prove_session(4, &key(4), slot(4));
        assert_eq!(bytes(&gateway.begin_session(&key(5))), [4]);
        // A session begun later is still the newest when an older one is proved.
        gateway.prove_session(4, &key(4), slot(4));
        assert_eq!(bytes(&gateway.begin_session(&key(6))), [5, 4]);
    }

    #[test]
    fn the_latest_proof_displaces_the_older_session_alone() {
        let mut gateway = Gateway::new(GatewayMemory::new());
        for byte in 1..=2 {
            gateway.begin_session(&key(byte));
        }
        let proved = |displaced, replaces| Proved { displaced, replaces };
        assert_eq!(gateway.prove_session(1, &key(1), slot(1)), proved(None, None));
        assert_eq!(
            gateway.prove_session(1, &key(1), slot(1)),
            proved(None, None),
            "nobody displaces itself"
        );
        assert_eq!(
            gateway.prove_session(2, &key(2), slot(2)),
            proved(Some(slot(1)), Some(1))
        );
        gateway.end_session(slot(1), 0);
        assert_eq!(
            gateway.session,
            Some(slot(2)),
            "the end of the displaced session is not that of its heir"
        );
        gateway.end_session(slot(2), 0);
        assert_eq!(gateway.session, None);
    }

    #[test]
    fn a_hello_is_new_once_and_unproved_sessions_are_bounded() {
        let mut gateway = Gateway::new(GatewayMemory::new());
        assert!(gateway.meet_hello(&[1; 32]));
        assert!(!gateway.meet_hello(&[1; 32]));
        assert!(gateway.meet_hello(&[2; 32]));
        gateway.begin_session(&key(9));
        gateway.prove_session(9, &key(9), slot(9));
        let most = u32::try_from(UNPROVED_MAX).expect("small");
        for index in 0..most {
            assert_eq!(gateway.await_proof(slot(index)), None);
        }
        assert_eq!(gateway.await_proof(slot(most)), Some(slot(0)), "the oldest");
        // The proven one is none of them.
        assert_eq!(gateway.session, Some(slot(9)));
        gateway.prove_session(2, &key(2), slot(2));
        assert_eq!(gateway.await_proof(slot(most + 1)), None);
        gateway.begin_session(&key(3));
        gateway.end_session(slot(1), 0);
        assert_eq!(gateway.await_proof(slot(most + 2)), None);
    }

    #[test]
    fn what_a_former_process_left_unproved_counts_with_the_first_proof_and_no_hello_takes_it_away() {
        let unproved = Unproved {
            terms: vec![terms(3), terms(4)],
            key: Some(key(4)),
        };
        let mut gateway = Gateway::restored(GatewayMemory::new(), Some((1, key(1))), unproved);
        assert_eq!(bytes(&gateway.begin_session(&key(5))), [4, 1]);
        for replayed in 6..100 {
            gateway.begin_session(&key(replayed));
            gateway.end_session(slot(replayed.into()), 0);
        }
        assert_eq!(bytes(&gateway.begin_session(&key(100))), [99, 4, 1]);
        assert!(!gateway.memory.has_terms(3) && gateway.take_unmarked().is_empty());
        assert!(!gateway.adopt_left(0));
        assert!(gateway.memory.has_terms(3) && gateway.memory.has_terms(4));
        assert_eq!(gateway.take_unmarked(), [3, 4]);
        assert_eq!(gateway.take_unmarked(), [0; 0], "once");
        assert_eq!(
            bytes(&gateway.begin_session(&key(100))),
            [100, 4, 1],
            "nothing is proved yet"
        );
        gateway.prove_session(100, &key(100), slot(100));
        assert_eq!(gateway.take_adopted(), [3, 4]);
        assert_eq!(bytes(&gateway.begin_session(&key(101))), [100]);
        assert!(!gateway.adopt_left(0));
        assert_eq!(gateway.take_adopted(), [0; 0], "once");
    }

    #[test]
    fn a_gateway_is_forgotten_after_its_last_session_and_not_during_one() {
        let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
        let gateway = fresh();
        gateway.borrow_mut().begin_session(&key(1));
        assert!(gateways.remember([1; 32], gateway.clone(), 0));
        gateways.expire(10 * RESUME_FOR_S);
        assert!(gateways.find(&[1; 32]).is_some());
        gateway.borrow_mut().end_session(slot(1), 10 * RESUME_FOR_S);
        gateways.expire(11 * RESUME_FOR_S);
        assert!(gateways.find(&[1; 32]).is_some());
        gateways.expire(11 * RESUME_FOR_S + 1);
        assert!(gateways.find(&[1; 32]).is_none());
        assert_eq!(gateways.len(), 0);
        // Remembered again, it is looked at again.
        assert!(gateways.remember([1; 32], fresh(), 0));
        gateways.expire(RESUME_FOR_S + 1);
        assert_eq!(gateways.len(), 0);
    }

    #[test]
    fn the_key_of_a_session_that_nobody_proved_is_wiped_in_time_and_a_proven_one_stays() {
        let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
        let gateway = fresh();
        gateway.borrow_mut().begin_session(&key(1));
        gateway.borrow_mut().prove_session(1, &key(1), slot(1));
        gateways.remember([1; 32], gateway.clone(), 0);
        gateway.borrow_mut().begin_session(&key(2));
        let kept = |gateways: &mut Gateways, now_s| {
            gateways.expire(now_s);
            let gateway = gateway.borrow();
            let proven = gateway.former.proven.as_ref().map(|(_, key)| key);
            bytes(&gateway.former.newest.iter().chain(proven).cloned().collect::<Vec<_>>())
        };
        assert_eq!(kept(&mut gateways, 1_000), [2, 1]);
        // One that is made later has its own time.
        gateway.borrow_mut().begin_session(&key(3));
        assert_eq!(kept(&mut gateways, 1_001 + RESUME_FOR_S), [3, 1]);
        assert_eq!(kept(&mut gateways, 1_001 + 2 * RESUME_FOR_S), [3, 1]);
        assert_eq!(kept(&mut gateways, 1_002 + 2 * RESUME_FOR_S), [1]);
        assert_eq!(kept(&mut gateways, 100 * RESUME_FOR_S), [1], "its session lives");
    }

    #[test]
    fn terms_of_a_gateway_that_stays_are_forgotten_in_time() {
        let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
        let gateway = fresh();
        gateway.borrow_mut().begin_session(&key(1));
        for (prime_id, now_s) in [(1, 0), (2, 1_000)] {
            gateway.borrow_mut().memory.learn_terms(terms(prime_id), now_s);
        }
        gateways.remember([1; 32], gateway.clone(), 0);
        let learnt =
            |gateway: &Rc<RefCell<Gateway>>| format!("{:?}", gateway.borrow().memory).matches("prime_id").count();
        gateways.expire(1_000 + RESUME_FOR_S);
        assert_eq!(learnt(&gateway), 2);
        gateways.expire(1_001 + RESUME_FOR_S);
        assert_eq!(learnt(&gateway), 1);
        gateways.expire(100 * RESUME_FOR_S);
        assert_eq!(learnt(&gateway), 1, "the terms in force stay");
    }

    #[test]
    fn memory_that_runs_out_is_taken_from_the_absent_and_from_those_that_hold_more_than_most() {
        let mut gateways = Gateways::new(10, 10_000, RESUME_FOR_S);
        let with_parents = |parents: u64| {
            let gateway = fresh();
            for name in 1..=parents {
                let mut parent = [0; 32];
                parent[..8].copy_from_slice(&name.to_le_bytes());
                let restored = gateway.borrow_mut().memory.restore_share(&parent, name);
                restored.expect("room");
            }
            gateway
        };
        let live = |index: u8, parents| {
            let gateway = with_parents(parents);
            gateway.borrow_mut().begin_session(&key(index));
            gateway
                .borrow_mut()
                .prove_session(index.into(), &key(index), slot(index.into()));
            gateway
        };
        gateways.remember([1; 32], live(1, 10), 0);
        gateways.remember([2; 32], live(2, 500), 0);
        assert_eq!(gateways.expire(0), Expired::default(), "together they may take so much");
        gateways.remember([3; 32], with_parents(500), 0);
        gateways.remember([4; 32], live(4, 1_000), 0);
        let expired = gateways.expire(0);
        // The absent one first; then there is still too much, and the largest goes with its session.
        assert_eq!(
            expired,
            Expired {
                for_memory: 2,
                sessions: vec![slot(4)]
            }
        );
        for (index, stays) in [(1, true), (2, true), (3, false), (4, false)] {
            assert_eq!(gateways.find(&[index; 32]).is_some(), stays, "{index}");
        }
        assert_eq!(gateways.expire(0), Expired::default());
    }

    #[test]
    fn a_full_shard_remembers_no_more_and_looks_at_all_in_turn() {
        let count = EXPIRE_PART + 10;
        let name = |index: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&index.to_le_bytes());
            name
        };
        let mut gateways = Gateways::new(count, usize::MAX, RESUME_FOR_S);
        for index in 0..count {
            assert!(gateways.remember(name(index), fresh(), 0));
        }
        assert!(!gateways.remember([0xff; 32], fresh(), 0));
        assert!(
            gateways.remember(name(0), fresh(), 0),
            "one that is known already takes no more room"
        );
        gateways.expire(RESUME_FOR_S + 1);
        assert_eq!(gateways.len(), 10);
        gateways.expire(RESUME_FOR_S + 1);
        assert_eq!(gateways.len(), 0);
        assert!(gateways.remember([0xff; 32], fresh(), 0));
    }
}
