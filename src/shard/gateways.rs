//! What a shard remembers of its gateways between their sessions.
//!
//! A gateway is its long-term Ed25519 key, made anew at each start of its process and kept for all its reconnects.
//! Keys are free to make, so a gateway is remembered only once it has sent a frame under its channel key.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use super::absent::{Absent, Place};
use super::slots::SlotKey;
use super::strangers::Strangers;
use super::unproved::{Newcomer, UnprovedSessions};
use crate::ledger::{HelloName, Unproved, hello_name};
use crate::wire::ChannelKey;
use crate::work::{GatewayMemory, Terms};

/// Gateways looked at by one call of [`Gateways::expire`]: some 0.1 ms, so that all of a full shard take a minute.
pub(super) const EXPIRE_PART: usize = 512;

/// Bytes that the gateways of a shard take together for what no accepted share stands behind, that is parents they named.
/// Each may name 65,536 and take 1 MiB; an honest one names 144 a day.
pub const GATEWAY_BYTES_MAX: usize = 1 << 30;

/// HELLOs of a gateway that are known again: some six hours of one that comes back as often as it can, every 5 s. Only the gateway
/// can sign one, so nobody else can have others forgotten; 8 bytes each.
pub const HELLOS_KNOWN: usize = 4_096;

/// The same of a stranger, which has proved no session: keys are free to make, and what is replayed of one proves nothing either.
const STRANGER_HELLOS_KNOWN: usize = 64;

/// One gateway, shared by its sessions on the shard.
pub(super) struct Gateway {
    /// Terms, parents and duplicates: what makes its shares count, once.
    pub memory: GatewayMemory,
    former: FormerKeys,
    /// The session that sent the latest proof; an older one is displaced by it.
    pub session: Option<SlotKey>,
    /// Where it came from when it proved one last; none before that, and after a start.
    home: Option<IpAddr>,
    /// Begun here and not proved: their terms are the gateway's, once a frame of it has come in a later one.
    unproved: UnprovedSessions,
    /// The same that a former process left. No HELLO can take them away.
    left_terms: Vec<Terms>,
    /// The sessions of all those that are the gateway's now, by `prime_id`, until it proves one.
    adopted: Vec<u32>,
    /// The ledger has still to hear of them.
    adopted_unmarked: bool,
    /// The last that came, the newest last.
    hellos: VecDeque<HelloName>,
    /// It is no stranger: it has proved a session, or the ledger knows it.
    is_known: bool,
    live_sessions: u32,
    last_seen_s: u64,
    /// Where it stands among those without a session, where it is known and has none.
    absent: Option<Place>,
    /// What its memory took without work when it was last looked at.
    bytes: usize,
    /// Where it stands in the round of those that are known.
    turn: u64,
}

/// The channel keys under which early frames can come (protocol section 2), beside those of sessions that begun here and were
/// not proved: that of the last session that sent a good frame, and what a former process left.
#[derive(Default)]
struct FormerKeys {
    /// With the session's `prime_id`.
    proven: Option<(u32, ChannelKey)>,
    /// That of the last session which a former process left unproved: no HELLO takes its place.
    left: Option<ChannelKey>,
    /// When `left` was first looked at and no proof had come, s since 1970.
    left_since_s: Option<u64>,
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
            home: None,
            unproved: UnprovedSessions::default(),
            left_terms: Vec::new(),
            adopted: Vec::new(),
            adopted_unmarked: false,
            hellos: VecDeque::new(),
            is_known: false,
            live_sessions: 0,
            last_seen_s: 0,
            absent: None,
            bytes: 0,
            turn: 0,
        }
    }

    /// As the ledger knows it from before the pool started; `hellos`: those of its sessions then.
    pub fn restored(
        memory: GatewayMemory,
        former: Option<(u32, ChannelKey)>,
        unproved: Unproved,
        hellos: Vec<HelloName>,
    ) -> Self {
        let mut gateway = Self::new(memory);
        gateway.is_known = true;
        hellos.into_iter().for_each(|hello| {
            gateway.note_hello(hello);
        });
        gateway.former.proven = former;
        gateway.former.left = unproved.key;
        gateway.left_terms = unproved.terms;
        gateway
    }

    /// Whether a HELLO with this Ed25519 session key is new; what is not was replayed, and proves nothing ever.
    pub fn meet_hello(&mut self, session_ed25519: &[u8; 32]) -> bool {
        self.note_hello(hello_name(session_ed25519))
    }

    fn note_hello(&mut self, hello: HelloName) -> bool {
        if self.hellos.contains(&hello) {
            return false;
        }
        let known_max = match self.is_known {
            true => HELLOS_KNOWN,
            false => STRANGER_HELLOS_KNOWN,
        };
        if self.hellos.len() >= known_max {
            self.hellos.pop_front();
        }
        self.hellos.push_back(hello);
        true
    }

    /// A session starts, and waits for its proof: the keys to try on its early frames, and the session that must end for it,
    /// where too many wait.
    pub fn begin_session(&mut self, newcomer: Newcomer) -> (Vec<ChannelKey>, Option<SlotKey>) {
        self.join_session();
        let proven = self.former.proven.as_ref().map(|(_, key)| key);
        let others = [self.former.left.as_ref(), proven].into_iter().flatten();
        let former = self.unproved.keys(self.home).chain(others).cloned().collect();
        (former, self.unproved.begin(newcomer, self.home))
    }

    /// A session that began before the gateway was known is its own.
    fn join_session(&mut self) {
        self.live_sessions += 1;
    }

    /// One that was its own is another's.
    fn leave_session(&mut self, prime_id: u32) {
        self.live_sessions -= 1;
        self.unproved.prove(prime_id);
    }

    /// It has proved a session from there.
    pub fn note_home(&mut self, home: IpAddr) {
        self.home = Some(home);
    }

    /// The session's first good frame came.
    pub fn prove_session(&mut self, prime_id: u32, key: &ChannelKey, session: SlotKey) -> Proved {
        self.unproved.prove(prime_id);
        self.former.left = None;
        let replaces = self.former.proven.replace((prime_id, key.clone()));
        Proved {
            displaced: self.session.replace(session).filter(|older| *older != session),
            replaces: replaces
                .map(|(replaced, _)| replaced)
                .filter(|replaced| *replaced != prime_id),
        }
    }

    /// Sessions before this one that nobody had proved are the gateway's from now on: a frame of it has come, early or not.
    /// Whether terms had to go for theirs. One that lives may still be proved by itself, so the ledger keeps what it has of them.
    pub fn adopt_before(&mut self, prime_id: u32, now_s: u64) -> bool {
        let mut terms = std::mem::take(&mut self.left_terms);
        terms.extend(self.unproved.take_before(prime_id));
        let mut some_went = false;
        for terms in terms {
            self.adopted.push(terms.prime_id);
            self.adopted_unmarked = true;
            let prime_id = terms.prime_id;
            some_went |= self.memory.learn_terms(terms, now_s);
            self.memory.note_named(prime_id);
        }
        if self.session.is_none() {
            // None of these sessions goes on, as far as anybody knows.
            self.memory.end_terms(now_s);
        }
        some_went
    }

    /// Whether this session waits for its proof, and no other has taken it over.
    pub fn is_unproved(&self, prime_id: u32) -> bool {
        self.unproved.has(prime_id)
    }

    /// Whether the ledger has to hear of them before the gateway's next share.
    pub fn has_unmarked(&self) -> bool {
        self.adopted_unmarked
    }

    /// All of them, by `prime_id`; what the ledger has to hear of stays so.
    pub fn adopted(&self) -> Vec<u32> {
        self.adopted.clone()
    }

    /// Those of which it has.
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

    /// Wipes what a former process left and nobody has proved for so long: no early frame comes under it any more. The keys of
    /// sessions that ended here go with them, and that of the last proven one with the gateway.
    fn forget_left_key(&mut self, now_s: u64, resume_for_s: u64) {
        let since_s = *self.former.left_since_s.get_or_insert(now_s);
        if now_s.saturating_sub(since_s) > resume_for_s {
            self.former.left = None;
        }
    }

    /// The last proven session goes on under another `prime_id`.
    pub fn renew_session(&mut self, prime_id: u32, key: &ChannelKey) {
        self.former.proven = Some((prime_id, key.clone()));
    }

    /// A session has ended; `told`: it had its CONFIG. Which one goes for it that nobody proved, by `prime_id`.
    fn end_session(&mut self, ended: Ended, now_s: u64) -> Option<u32> {
        self.live_sessions -= 1;
        self.last_seen_s = now_s;
        if self.session == Some(ended.session) {
            self.session = None;
            self.memory.end_terms(now_s);
        }
        self.unproved.end(ended.prime_id, ended.told, now_s)
    }

    /// Lets go of sessions that ended before `since_s` and were never proved, and says which.
    pub fn forget_unproved(&mut self, since_s: u64) -> Vec<u32> {
        self.unproved.forget(since_s)
    }

    /// Nobody will find it any more: which of its sessions have no share, by `prime_id`.
    fn forget_all(&mut self, gone: &mut Vec<u32>) {
        gone.extend(self.forget_unproved(u64::MAX));
        self.memory.forget_all_terms();
        gone.extend(self.memory.take_unnamed());
    }

    pub fn lives(&self) -> bool {
        self.live_sessions > 0
    }

    /// Whether nothing of it is worth remembering.
    pub fn is_blank(&self) -> bool {
        self.unproved.is_empty() && self.left_terms.is_empty() && self.memory.min_diff().is_none()
    }

    /// Bytes on the heap that no accepted share stands behind.
    fn bytes_without_work(&self) -> usize {
        self.memory.bytes_without_work() + self.hellos.capacity() * size_of::<HelloName>()
    }

    /// S since 1970.
    pub fn last_seen_s(&self) -> u64 {
        self.last_seen_s
    }
}

/// A session that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub session: SlotKey,
    pub prime_id: u32,
    /// It had its CONFIG, so there may be work on it.
    pub told: bool,
}

/// The gateways of one shard by long-term Ed25519 key.
pub(super) struct Gateways {
    known: HashMap<[u8; 32], Rc<RefCell<Gateway>>>,
    /// Those of `known`, in the order in which they came.
    round: BTreeMap<u64, [u8; 32]>,
    /// The first to be looked at next.
    next_turn: u64,
    /// Those of `known` that have no session.
    absent: Absent,
    strangers: Strangers,
    /// Sessions that no share was made under and none can be any more, by `prime_id`: the ledger has still to hear of them.
    gone: Vec<u32>,
    /// What all of `known` took when they were last looked at.
    bytes: usize,
    /// How many ever came to be known.
    came: u64,
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
            round: BTreeMap::new(),
            next_turn: 0,
            absent: Absent::default(),
            strangers: Strangers::default(),
            gone: Vec::new(),
            bytes: 0,
            came: 0,
            capacity,
            bytes_max,
            resume_for_s,
        }
    }

    /// The gateway with this key, a stranger too.
    pub fn find(&self, key: &[u8; 32]) -> Option<Rc<RefCell<Gateway>>> {
        self.known.get(key).or_else(|| self.strangers.find(key)).cloned()
    }

    /// The same for a session that begins; a stranger where it never came before.
    pub fn meet(&mut self, key: [u8; 32]) -> Rc<RefCell<Gateway>> {
        match self.known.get(&key).cloned() {
            Some(known) => {
                self.is_back(&known);
                known
            }
            None => self.strangers.meet(key),
        }
    }

    /// A session of `former`, which was forgotten while it lasted, is proved: it is one of `known` from now on, which has come in the
    /// place of that. What `former` had of others that nobody proved goes with its last session, like that of any gateway which
    /// nobody will find any more.
    pub fn move_session(&mut self, former: &RefCell<Gateway>, known: &RefCell<Gateway>, prime_id: u32) {
        self.is_back(known);
        known.borrow_mut().join_session();
        let mut former = former.borrow_mut();
        former.leave_session(prime_id);
        if !former.lives() {
            former.forget_all(&mut self.gone);
        }
    }

    fn is_back(&mut self, gateway: &RefCell<Gateway>) {
        if let Some(place) = gateway.borrow_mut().absent.take() {
            self.absent.remove(place);
        }
    }

    /// Whether it is more than a stranger.
    pub fn knows(&self, key: &[u8; 32]) -> bool {
        self.known.contains_key(key)
    }

    /// A session of the gateway has ended.
    pub fn end_session(&mut self, key: &[u8; 32], gateway: &RefCell<Gateway>, ended: Ended, now_s: u64) {
        self.gone.extend(gateway.borrow_mut().end_session(ended, now_s));
        self.gone.extend(gateway.borrow_mut().memory.take_unnamed());
        let is_it = |known: &Rc<RefCell<Gateway>>| std::ptr::eq(&**known, gateway);
        if self.known.get(key).is_some_and(is_it) {
            self.is_absent(*key, gateway);
            self.keep_to_capacity();
        } else if self.strangers.find(key).is_some_and(is_it) {
            self.strangers.session_ended(key, &mut self.gone);
        } else if !gateway.borrow().lives() {
            // It was forgotten during its session; another may have its key by now.
            gateway.borrow_mut().forget_all(&mut self.gone);
        }
    }

    fn is_absent(&mut self, key: [u8; 32], gateway: &RefCell<Gateway>) {
        let mut gateway = gateway.borrow_mut();
        if !gateway.lives() && gateway.absent.is_none() {
            gateway.absent = Some(self.absent.push(key, gateway.memory.has_work()));
        }
    }

    /// Lets those go that are beyond the bound; none that has a session.
    fn keep_to_capacity(&mut self) {
        while let Some(first) = self.absent.first_beyond(self.capacity, self.known.len()) {
            self.forget(&first);
        }
    }

    fn forget(&mut self, key: &[u8; 32]) {
        if let Some(gateway) = self.known.remove(key) {
            self.is_back(&gateway);
            let mut gateway = gateway.borrow_mut();
            self.round.remove(&gateway.turn);
            self.bytes -= std::mem::take(&mut gateway.bytes);
            // Shares may still come in a session that lives, until it has ended.
            if !gateway.lives() {
                gateway.forget_all(&mut self.gone);
            }
        }
    }

    /// Sessions that no share was made under and none can be any more, by `prime_id`; each once.
    pub fn take_gone(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.gone)
    }

    /// Remembers a gateway that has proved its key, or was read back from the ledger. False: there are as many as may be. Then one
    /// without a session goes that never had a share accepted; where there is none, whoever has a session stays for as long as it
    /// has, since its memory is to be counted like any other's.
    pub fn remember(&mut self, key: [u8; 32], gateway: Rc<RefCell<Gateway>>, now_s: u64) -> bool {
        gateway.borrow_mut().last_seen_s = now_s;
        if self.known.contains_key(&key) {
            return true;
        }
        let has_room = self.known.len() < self.capacity;
        self.strangers.remove(&key);
        gateway.borrow_mut().turn = self.came;
        gateway.borrow_mut().is_known = true;
        self.round.insert(self.came, key);
        self.came += 1;
        self.known.insert(key, gateway.clone());
        self.is_absent(key, &gateway);
        self.keep_to_capacity();
        has_room
    }

    /// Forgets gateways without a session for longer than work in flight can matter, and of those that stay the terms
    /// that were superseded as long ago. Where all together take more than they may without work, those without a session
    /// go at once, and of the others those that take more than the average: they begin anew, their old work is refused.
    /// Looks at the next [`EXPIRE_PART`] of them.
    pub fn expire(&mut self, now_s: u64) -> Expired {
        let oldest_s = now_s.saturating_sub(self.resume_for_s);
        let mut expired = Expired::default();
        self.strangers.expire(oldest_s, EXPIRE_PART, &mut self.gone);
        let part = self.round.range(self.next_turn..).take(EXPIRE_PART);
        let part: Vec<(u64, [u8; 32])> = part.map(|(turn, key)| (*turn, *key)).collect();
        // Behind the last it begins anew.
        self.next_turn = match part.len() {
            EXPIRE_PART => part[EXPIRE_PART - 1].0 + 1,
            _ => 0,
        };
        for (_, key) in part {
            let Some(known) = self.known.get(&key).cloned() else {
                continue;
            };
            let mut gateway = known.borrow_mut();
            gateway.memory.forget_terms(oldest_s);
            self.gone.extend(gateway.memory.take_unnamed());
            gateway.memory.forget_splits(now_s);
            self.gone.extend(gateway.forget_unproved(oldest_s));
            gateway.forget_left_key(now_s, self.resume_for_s);
            let bytes = gateway.bytes_without_work();
            self.bytes = self.bytes - gateway.bytes + bytes;
            gateway.bytes = bytes;
            let lives = gateway.lives();
            let too_much = self.bytes > self.bytes_max && (!lives || bytes > self.bytes / self.known.len());
            if too_much {
                expired.for_memory += 1;
                expired.sessions.extend(gateway.session);
            }
            let stays = (lives || gateway.last_seen_s >= oldest_s) && !too_much;
            drop(gateway);
            if !stays {
                self.forget(&key);
            }
        }
        expired
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests;
