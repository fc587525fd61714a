use std::net::Ipv4Addr;

use super::*;
use crate::ledger::UNPROVED_MAX;
use crate::shard::strangers::STRANGERS_MAX;
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

fn ended(index: u32, told: bool) -> Ended {
    Ended {
        session: slot(index),
        prime_id: index,
        told,
    }
}

fn fresh() -> Rc<RefCell<Gateway>> {
    Rc::new(RefCell::new(Gateway::new(GatewayMemory::new())))
}

/// The session key of a HELLO, another for each number.
fn hello(index: usize) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&index.to_le_bytes());
    key
}

/// Where nobody ever proved anything.
const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A session of this number begins, its key made of it.
fn newcomer(index: u32, from: IpAddr) -> Newcomer {
    Newcomer {
        slot: slot(index),
        terms: terms(index),
        key: key(index as u8),
        from,
    }
}

/// The keys that are tried on early frames of one that begins.
fn tried(gateway: &mut Gateway, index: u32) -> Vec<u8> {
    bytes(&gateway.begin_session(newcomer(index, AWAY)).0)
}

/// The one that must end for it.
fn displaced_by(gateway: &mut Gateway, index: u32, from: IpAddr) -> Option<SlotKey> {
    gateway.begin_session(newcomer(index, from)).1
}

#[test]
fn early_frames_are_tried_with_the_last_proven_key_and_those_begun_since() {
    let mut gateway = Gateway::new(GatewayMemory::new());
    assert!(tried(&mut gateway, 1).is_empty());
    gateway.prove_session(1, &key(1), slot(1));
    assert_eq!(tried(&mut gateway, 2), [1]);
    // Never proved: the gateway may not have had the response, or may have.
    assert_eq!(tried(&mut gateway, 3), [2, 1]);
    assert_eq!(tried(&mut gateway, 4), [3, 2, 1]);
    gateway.adopt_before(4, 0);
    gateway.prove_session(4, &key(4), slot(4));
    assert_eq!(tried(&mut gateway, 5), [4]);
    // A session begun later may still be its next when an older one is proved.
    gateway.prove_session(4, &key(4), slot(4));
    assert_eq!(tried(&mut gateway, 6), [5, 4]);
}

#[test]
fn what_is_sent_again_from_elsewhere_takes_no_key_of_the_gateway_away() {
    let home = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
    let mut gateway = Gateway::new(GatewayMemory::new());
    gateway.begin_session(newcomer(1, home));
    gateway.prove_session(1, &key(1), slot(1));
    gateway.note_home(home);
    // It breaks before it says anything; others are quicker than its next connection.
    gateway.begin_session(newcomer(2, home));
    for replayed in 3..20 {
        gateway.begin_session(newcomer(replayed, AWAY));
    }
    let (former, displaced) = gateway.begin_session(newcomer(20, home));
    assert!(bytes(&former).contains(&2), "{:?}", bytes(&former));
    assert_eq!(displaced, None);
}

#[test]
fn the_latest_proof_displaces_the_older_session_alone() {
    let mut gateway = Gateway::new(GatewayMemory::new());
    for index in 1..=2 {
        gateway.begin_session(newcomer(index, AWAY));
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
    gateway.end_session(ended(1, true), 0);
    assert_eq!(
        gateway.session,
        Some(slot(2)),
        "the end of the displaced session is not that of its heir"
    );
    gateway.end_session(ended(2, true), 0);
    assert_eq!(gateway.session, None);
}

#[test]
fn as_many_hellos_are_known_as_a_gateway_can_send_in_hours() {
    let gateway = fresh();
    // Few of one that has proved nothing.
    assert!((0..HELLOS_KNOWN).all(|index| gateway.borrow_mut().meet_hello(&hello(index))));
    assert!(!gateway.borrow_mut().meet_hello(&hello(HELLOS_KNOWN - 1)));
    assert!(gateway.borrow().bytes_without_work() <= 8 * 2 * STRANGER_HELLOS_KNOWN);
    gateway.borrow_mut().join_session();
    assert!(Gateways::new(10, usize::MAX, RESUME_FOR_S).remember([1; 32], gateway.clone(), 0));
    let mut gateway = gateway.borrow_mut();
    let oldest = HELLOS_KNOWN - STRANGER_HELLOS_KNOWN;
    assert!(
        (0..oldest).all(|index| gateway.meet_hello(&hello(index))),
        "forgotten meanwhile"
    );
    assert!((0..HELLOS_KNOWN).all(|index| !gateway.meet_hello(&hello(index))));
    // The oldest goes for another, and what was sent again in vain takes no place.
    assert!(gateway.meet_hello(&hello(HELLOS_KNOWN)));
    assert!(!gateway.meet_hello(&hello(oldest + 1)) && gateway.meet_hello(&hello(oldest)));
    assert!(gateway.bytes_without_work() >= 8 * HELLOS_KNOWN);
}

#[test]
fn a_hello_is_new_once_and_sessions_that_wait_for_a_proof_are_not_the_proven_one() {
    let mut gateway = Gateway::new(GatewayMemory::new());
    assert!(gateway.meet_hello(&[1; 32]));
    assert!(!gateway.meet_hello(&[1; 32]));
    assert!(gateway.meet_hello(&[2; 32]));
    assert_eq!(displaced_by(&mut gateway, 9, AWAY), None);
    gateway.prove_session(9, &key(9), slot(9));
    let most = u32::try_from(UNPROVED_MAX).expect("small");
    for index in 10..10 + most {
        assert_eq!(displaced_by(&mut gateway, index, AWAY), None);
    }
    assert_eq!(displaced_by(&mut gateway, 50, AWAY), Some(slot(10)), "the oldest");
    assert_eq!(gateway.session, Some(slot(9)));
}

#[test]
fn what_began_before_counts_with_a_frame_of_a_later_session_and_no_sooner() {
    let mut gateway = Gateway::new(GatewayMemory::new());
    for prime_id in 1..=3 {
        gateway.begin_session(newcomer(prime_id, AWAY));
    }
    // The pool need not have seen that the connection is gone.
    assert_eq!(gateway.end_session(ended(1, true), 0), None);
    assert!(!gateway.memory.has_terms(1) && !gateway.has_unmarked());
    gateway.adopt_before(3, 0);
    gateway.prove_session(3, &key(3), slot(3));
    assert!(gateway.memory.has_terms(1) && gateway.memory.has_terms(2));
    assert!(gateway.has_unmarked());
    assert_eq!(gateway.take_adopted(), [1, 2]);
    assert_eq!(gateway.end_session(ended(2, true), 0), None, "it is the gateway's");
    assert!(!gateway.is_blank());
}

#[test]
fn strangers_are_remembered_while_they_live_and_few_of_them_after_that() {
    let name = |index: usize| {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&index.to_le_bytes());
        name
    };
    let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
    let come = |gateways: &mut Gateways, index: usize| {
        let prime_id = u32::try_from(index).expect("few");
        let gateway = gateways.meet(name(index));
        gateway.borrow_mut().begin_session(newcomer(prime_id, AWAY));
        gateway
    };
    let go = |gateways: &mut Gateways, index: usize, told| {
        let gateway = gateways.find(&name(index)).expect("it lives");
        let ended = ended(u32::try_from(index).expect("few"), told);
        gateways.end_session(&name(index), &gateway, ended, 0);
    };
    come(&mut gateways, 1);
    go(&mut gateways, 1, false);
    assert!(gateways.find(&name(1)).is_none(), "no work can be made on it");
    assert_eq!(gateways.take_gone(), [1]);
    for index in 2..2 + STRANGERS_MAX {
        come(&mut gateways, index);
        go(&mut gateways, index, true);
    }
    assert_eq!(gateways.take_gone(), [0; 0]);
    // The first has come back, and lives; the second is proved.
    come(&mut gateways, 2);
    let third = come(&mut gateways, 3);
    third.borrow_mut().adopt_before(u32::MAX, 0);
    assert!(gateways.remember(name(3), third, 0) && gateways.knows(&name(3)));
    for index in 10_000..10_003 {
        come(&mut gateways, index);
        go(&mut gateways, index, true);
    }
    assert_eq!(gateways.take_gone(), [4]);
    for (index, stays) in [(2, true), (3, true), (4, false), (5, true), (10_002, true)] {
        assert_eq!(gateways.find(&name(index)).is_some(), stays, "{index}");
    }
    // In their time the others go, but for the one that lives.
    for _ in 0..2 * STRANGERS_MAX / EXPIRE_PART {
        gateways.expire(RESUME_FOR_S + 1);
    }
    assert_eq!(gateways.take_gone().len(), STRANGERS_MAX);
    assert!(gateways.find(&name(2)).is_some() && gateways.find(&name(10_002)).is_none());
}

#[test]
fn what_a_former_process_left_unproved_counts_with_the_first_proof_and_no_hello_takes_it_away() {
    let unproved = Unproved {
        terms: vec![terms(3), terms(4)],
        key: Some(key(4)),
    };
    let hellos = vec![hello_name(&[3; 32]), hello_name(&[4; 32])];
    let mut gateway = Gateway::restored(GatewayMemory::new(), Some((1, key(1))), unproved, hellos);
    assert!(
        !gateway.meet_hello(&[3; 32]) && !gateway.meet_hello(&[4; 32]),
        "it had them"
    );
    assert!(gateway.meet_hello(&[5; 32]));
    assert_eq!(tried(&mut gateway, 5), [4, 1]);
    for replayed in 6..100 {
        gateway.begin_session(newcomer(replayed, AWAY));
        gateway.end_session(ended(replayed, true), 0);
    }
    let keys = tried(&mut gateway, 100);
    assert_eq!((keys.len(), &keys[4..]), (6, &[4, 1][..]));
    assert!(!gateway.memory.has_terms(3) && gateway.take_unmarked().is_empty());
    assert!(!gateway.adopt_before(100, 0));
    assert!(gateway.memory.has_terms(3) && gateway.memory.has_terms(4));
    assert_eq!(gateway.take_unmarked()[..2], [3, 4]);
    assert_eq!(gateway.take_unmarked(), [0; 0], "once");
    assert_eq!(tried(&mut gateway, 101), [100, 4, 1], "nothing is proved yet");
    gateway.prove_session(100, &key(100), slot(100));
    assert_eq!(gateway.take_adopted()[..2], [3, 4]);
    gateway.adopt_before(102, 0);
    assert_eq!(tried(&mut gateway, 102), [100]);
    assert_eq!(gateway.take_adopted(), [101], "once");
}

#[test]
fn a_gateway_is_forgotten_after_its_last_session_and_not_during_one() {
    let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
    let gateway = fresh();
    gateway.borrow_mut().begin_session(newcomer(1, AWAY));
    assert!(gateways.remember([1; 32], gateway.clone(), 0));
    gateways.expire(10 * RESUME_FOR_S);
    assert!(gateways.find(&[1; 32]).is_some());
    gateway.borrow_mut().end_session(ended(1, true), 10 * RESUME_FOR_S);
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
fn the_keys_of_sessions_that_nobody_proved_are_wiped_in_time_and_a_proven_one_stays() {
    let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
    let left = Unproved {
        terms: vec![],
        key: Some(key(9)),
    };
    let gateway = Gateway::restored(GatewayMemory::new(), Some((1, key(1))), left, vec![]);
    let gateway = Rc::new(RefCell::new(gateway));
    gateways.remember([1; 32], gateway.clone(), 0);
    let kept = |gateways: &mut Gateways, now_s| {
        gateways.expire(now_s);
        let gateway = gateway.borrow();
        let proven = gateway.former.proven.as_ref().map(|(_, key)| key);
        let all = gateway.unproved.keys(None).chain(&gateway.former.left).chain(proven);
        bytes(&all.cloned().collect::<Vec<_>>())
    };
    for index in 2..=3 {
        gateway.borrow_mut().begin_session(newcomer(index, AWAY));
    }
    gateway.borrow_mut().end_session(ended(2, true), 500);
    assert_eq!(kept(&mut gateways, 400), [3, 2, 9, 1]);
    assert_eq!(kept(&mut gateways, 400 + RESUME_FOR_S), [3, 2, 9, 1]);
    assert_eq!(kept(&mut gateways, 401 + RESUME_FOR_S), [3, 2, 1], "what was left");
    assert_eq!(kept(&mut gateways, 501 + RESUME_FOR_S), [3, 1], "what has ended");
    assert_eq!(kept(&mut gateways, 100 * RESUME_FOR_S), [3, 1], "its session lives");
}

#[test]
fn terms_of_a_gateway_that_stays_are_forgotten_in_time() {
    let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
    let gateway = fresh();
    gateway.borrow_mut().begin_session(newcomer(1, AWAY));
    for (prime_id, now_s) in [(1, 0), (2, 1_000)] {
        gateway.borrow_mut().memory.learn_terms(terms(prime_id), now_s);
    }
    gateways.remember([1; 32], gateway.clone(), 0);
    let learnt = |gateway: &Rc<RefCell<Gateway>>| format!("{:?}", gateway.borrow().memory).matches("prime_id").count();
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
        gateway.borrow_mut().begin_session(newcomer(index.into(), AWAY));
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
        !gateways.knows(&name(0)) && gateways.knows(&[0xff; 32]),
        "the oldest goes"
    );
    assert!(
        gateways.remember(name(1), fresh(), 0),
        "one that is known already takes no more room"
    );
    gateways.expire(RESUME_FOR_S + 1);
    assert_eq!(gateways.len(), 10);
    gateways.expire(RESUME_FOR_S + 1);
    assert_eq!(gateways.len(), 0);
    assert!(gateways.remember([0xff; 32], fresh(), 0));
}

/// One with an accepted share.
fn with_work() -> Rc<RefCell<Gateway>> {
    let gateway = fresh();
    gateway.borrow_mut().memory.note_work(1);
    gateway
}

/// A gateway of this number comes, and proves itself.
fn come(gateways: &mut Gateways, index: u8) -> Rc<RefCell<Gateway>> {
    let gateway = gateways.meet([index; 32]);
    gateway.borrow_mut().begin_session(newcomer(index.into(), AWAY));
    gateways.remember([index; 32], gateway.clone(), 0);
    gateway
        .borrow_mut()
        .prove_session(index.into(), &key(index), slot(index.into()));
    gateway
}

/// Its session ends.
fn go(gateways: &mut Gateways, index: u8) {
    let gateway = gateways.find(&[index; 32]).expect("it is known");
    gateways.end_session(&[index; 32], &gateway, ended(index.into(), true), 0);
}

fn known(gateways: &Gateways) -> Vec<u8> {
    (0..=u8::MAX).filter(|index| gateways.knows(&[*index; 32])).collect()
}

#[test]
fn a_gateway_beyond_the_bound_is_counted_like_any_other_until_its_session_ends() {
    let mut gateways = Gateways::new(1, usize::MAX, RESUME_FOR_S);
    assert!(gateways.remember([1; 32], with_work(), 0));
    for _ in 0..2 {
        let gateway = come(&mut gateways, 2);
        assert_eq!(known(&gateways), [1, 2]);
        (0..100).for_each(|hello| {
            gateway.borrow_mut().meet_hello(&[hello; 32]);
        });
        gateways.expire(0);
        let bytes = gateway.borrow().bytes_without_work();
        assert!(bytes > 0 && gateways.bytes >= bytes);
        assert_eq!((gateways.round.len(), gateways.len()), (2, 2));
        let of_first = gateways.bytes - bytes;
        // It has no work, so it goes itself.
        go(&mut gateways, 2);
        assert_eq!(known(&gateways), [1]);
        assert_eq!(gateways.bytes, of_first);
    }
}

#[test]
fn no_flood_of_gateways_without_work_has_one_with_work_forgotten() {
    let mut gateways = Gateways::new(4, usize::MAX, RESUME_FOR_S);
    // Two that mined and are away for a moment, and one that mines.
    for index in 1..=2 {
        gateways.remember([index; 32], with_work(), 0);
    }
    let mines = come(&mut gateways, 3);
    mines.borrow_mut().memory.note_work(3);
    for index in 10..200 {
        come(&mut gateways, index);
        go(&mut gateways, index);
        assert_eq!(known(&gateways), [1, 2, 3, index], "the last of the others");
    }
    // While many of them have a session at once, too.
    (10..100).for_each(|index| drop(come(&mut gateways, index)));
    go(&mut gateways, 3);
    (10..100).for_each(|index| go(&mut gateways, index));
    assert_eq!(known(&gateways), [1, 2, 3, 99]);
    assert_eq!((gateways.round.len(), gateways.len()), (4, 4));
}

#[test]
fn of_gateways_with_work_those_go_last_that_were_here_last() {
    let mut gateways = Gateways::new(2, usize::MAX, RESUME_FOR_S);
    for index in 1..=2 {
        assert!(gateways.remember([index; 32], with_work(), 0));
    }
    // The first comes back and goes again; then another comes to be known.
    come(&mut gateways, 1);
    go(&mut gateways, 1);
    let third = come(&mut gateways, 3);
    third.borrow_mut().memory.note_work(3);
    assert_eq!(known(&gateways), [1, 2, 3], "one more while it lives");
    go(&mut gateways, 3);
    assert_eq!(known(&gateways), [1, 3]);
}

/// Its terms, and those of sessions of the same number.
fn learn(gateway: &Rc<RefCell<Gateway>>, prime_id: u32, now_s: u64) {
    gateway.borrow_mut().memory.learn_terms(terms(prime_id), now_s);
}

#[test]
fn the_ledger_hears_of_sessions_without_a_share_when_nobody_can_work_under_them() {
    let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
    for index in 1..=2 {
        learn(&come(&mut gateways, index), index.into(), 0);
    }
    gateways
        .find(&[1; 32])
        .expect("it lives")
        .borrow_mut()
        .memory
        .note_work(1);
    // New terms take the place of the second's, which has none.
    learn(&gateways.find(&[2; 32]).expect("it lives"), 20, 100);
    gateways.expire(100 + RESUME_FOR_S);
    assert_eq!(gateways.take_gone(), [0; 0], "work in flight may come");
    gateways.expire(101 + RESUME_FOR_S);
    assert_eq!(gateways.take_gone(), [2], "once");
    for index in 1..=2 {
        go(&mut gateways, index);
    }
    gateways.expire(RESUME_FOR_S);
    assert_eq!(gateways.take_gone(), [0; 0]);
    gateways.expire(RESUME_FOR_S + 1);
    assert_eq!((gateways.len(), gateways.take_gone()), (0, vec![20]));
}

#[test]
fn it_hears_of_those_that_go_for_others_too_but_not_while_a_share_can_come() {
    let mut gateways = Gateways::new(1, 0, RESUME_FOR_S);
    for index in 1..=3 {
        learn(&come(&mut gateways, index), index.into(), 0);
        go(&mut gateways, index);
    }
    assert_eq!(gateways.take_gone(), [1, 2]);
    // One that takes too much is forgotten, and mines until its session ends.
    let large = come(&mut gateways, 4);
    learn(&large, 4, 0);
    learn(&large, 40, 0);
    (0..100).for_each(|hello| {
        large.borrow_mut().meet_hello(&[hello; 32]);
    });
    come(&mut gateways, 5);
    gateways.take_gone();
    assert_eq!(gateways.expire(0).for_memory, 1);
    assert_eq!(gateways.take_gone(), [0; 0]);
    large.borrow_mut().memory.note_work(40);
    gateways.end_session(&[4; 32], &large, ended(4, true), 0);
    assert_eq!(gateways.take_gone(), [4]);
    // Of more terms than are kept the oldest go.
    let many = gateways.find(&[5; 32]).expect("it lives");
    (100..170).for_each(|prime_id| learn(&many, prime_id, 0));
    gateways.expire(0);
    assert_eq!(gateways.take_gone(), (100..106).collect::<Vec<_>>());
}

#[test]
fn it_does_not_hear_of_those_that_may_yet_be_proved() {
    let mut gateways = Gateways::new(10, usize::MAX, RESUME_FOR_S);
    let gateway = gateways.meet([1; 32]);
    for prime_id in 1..=2 {
        gateway.borrow_mut().begin_session(newcomer(prime_id, AWAY));
    }
    gateway.borrow_mut().adopt_before(2, 0);
    assert!(gateway.borrow().memory.has_terms(1));
    gateway.borrow_mut().forget_all(&mut gateways.gone);
    assert_eq!(gateways.take_gone(), [0; 0]);
}

/// It was forgotten for the memory it took, came again, and is proved in the session that began before. The ledger hears of the
/// sessions that the former object had of it, when nobody can prove them any more and not before.
#[test]
fn it_hears_of_what_a_gateway_left_whose_session_is_now_another_objects() {
    for others_live in [false, true] {
        let mut gateways = Gateways::new(1, 0, RESUME_FOR_S);
        let former = come(&mut gateways, 1);
        former.borrow_mut().prove_session(1, &key(1), slot(1));
        for index in 2..=4 {
            gateways.meet([1; 32]);
            former.borrow_mut().begin_session(newcomer(index, AWAY));
        }
        // One of them broke off behind its CONFIG.
        gateways.end_session(&[1; 32], &former, ended(2, true), 0);
        come(&mut gateways, 9);
        (0..100).for_each(|number| {
            former.borrow_mut().meet_hello(&hello(number));
        });
        assert_eq!(gateways.expire(0).for_memory, 1);
        gateways.end_session(&[1; 32], &former, ended(1, true), 0);
        if !others_live {
            gateways.end_session(&[1; 32], &former, ended(4, true), 0);
        }
        assert_eq!(gateways.take_gone(), [0; 0]);
        let known = come(&mut gateways, 1);
        gateways.move_session(&former, &known, 3);
        if others_live {
            assert_eq!(gateways.take_gone(), [0; 0], "one of its sessions may be proved yet");
            gateways.end_session(&[1; 32], &former, ended(4, true), 0);
        }
        let mut gone = gateways.take_gone();
        gone.sort_unstable();
        assert_eq!(gone, [2, 4], "and not of the one that was proved");
        assert!(known.borrow().lives() && !former.borrow().lives());
        gateways.end_session(&[1; 32], &known, ended(3, true), 0);
        assert_eq!(gateways.take_gone(), [0; 0]);
    }
}

#[test]
fn one_that_lives_is_not_forgotten_for_another_of_its_key() {
    let mut gateways = Gateways::new(1, 0, RESUME_FOR_S);
    let first = come(&mut gateways, 1);
    (0..100).for_each(|hello| {
        first.borrow_mut().meet_hello(&[hello; 32]);
    });
    come(&mut gateways, 2);
    // It takes too much, and comes again before its session has ended.
    assert_eq!(gateways.expire(0).for_memory, 1);
    assert_eq!(known(&gateways), [2]);
    come(&mut gateways, 1);
    gateways.end_session(&[1; 32], &first, ended(1, true), 0);
    come(&mut gateways, 9);
    go(&mut gateways, 9);
    assert_eq!(known(&gateways), [1, 2]);
}

#[test]
fn one_from_where_the_gateway_proved_itself_outlives_those_from_elsewhere() {
    let home = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
    let mut gateway = Gateway::new(GatewayMemory::new());
    gateway.note_home(home);
    assert_eq!(displaced_by(&mut gateway, 1, home), None);
    for index in 2..200 {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, index as u8));
        assert_ne!(displaced_by(&mut gateway, index, from), Some(slot(1)));
    }
    // Where too many are its own the oldest goes.
    for index in 201..=203 {
        assert_ne!(displaced_by(&mut gateway, index, home), Some(slot(1)));
    }
    assert_eq!(displaced_by(&mut gateway, 204, home), Some(slot(1)));
}
