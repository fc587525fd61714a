//! Names that nobody uses are forgotten where there is need, and nothing else is.

use bitcoin::{Address, Network, WitnessProgram, WitnessVersion};

use super::*;

/// An hour, in s.
const HOUR: u64 = 3_600;

/// More than a name must have rested for.
const LONG: u64 = NAME_UNUSED_S as u64;

const START_S: u64 = 1_700_000_000;

fn miners() -> Miners {
    let mut miners = Miners::new([3; 16], None);
    miners.forget_unused(START_S);
    miners
}

/// The address of one of many payees.
fn address(number: u16) -> String {
    let mut program = [7; 20];
    program[..2].copy_from_slice(&number.to_le_bytes());
    let program = WitnessProgram::new(WitnessVersion::V0, &program).expect("20 bytes");
    Address::from_witness_program(program, Network::Bitcoin).to_string()
}

fn name(address: &str, worker: u32) -> Vec<u8> {
    format!("{address}.{worker}").into_bytes()
}

/// Forgets what may go by then.
fn forget_all(miners: &mut Miners, now_s: u64) -> usize {
    std::iter::repeat_with(|| miners.forget_unused(now_s))
        .take_while(|gone| *gone > 0)
        .sum()
}

/// A shard for as long as names come and go: more than it may know, ever new ones, and one that stays.
#[test]
fn a_shard_takes_more_usernames_in_its_life_than_it_may_know_at_a_time() {
    const PAYEES: u16 = 100;
    const OF_PAYEE: u32 = 13_000;
    let mut miners = miners();
    let (faithful, _) = miners.learn(address(u16::MAX).as_bytes()).expect("room");
    let mut now_s = START_S;
    let mut numbers = 0;
    for number in 0..PAYEES {
        now_s += HOUR;
        miners.note_used(faithful);
        // Twice a second, and the names of an hour need no more of it.
        for _ in 0..200 {
            miners.forget_unused(now_s);
        }
        let address = address(number);
        for worker in 0..OF_PAYEE {
            let (id, new) = miners.learn(&name(&address, worker)).expect("there is room again");
            assert!(new.is_some());
            numbers = numbers.max(id.0 + 1);
        }
    }
    assert!(u32::from(PAYEES) * OF_PAYEE > u32::try_from(MINERS_MAX).expect("a million") + 200_000);
    assert!(numbers as usize <= MINERS_MAX && miners.len() <= MINERS_MAX);
    assert_eq!(miners.who(address(u16::MAX).as_bytes()), Ok(MinerRef::Known(faithful)));
    // Those of the last hours are known, those of the first are not, and no two have one number.
    assert!(matches!(
        miners.who(&name(&address(PAYEES - 1), 0)),
        Ok(MinerRef::Known(_))
    ));
    assert_eq!(miners.who(&name(&address(0), 0)), Ok(MinerRef::New));
    let mut ids: Vec<u32> = miners.by_name.values().map(|known| known.id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), miners.len());
    assert_eq!(miners.by_use.len(), miners.len());
    assert_eq!(miners.names.len(), miners.len() + miners.free.len());
    let workers: u32 = miners.workers_by_payee.values().sum();
    assert_eq!(workers as usize, miners.len());
}

#[test]
fn the_longest_unused_go_first_and_no_more_than_must() {
    let mut miners = miners();
    let address = address(0);
    let ids: Vec<_> = (0..=WORKERS_CROWDED)
        .map(|worker| miners.learn(&name(&address, worker)).expect("room").0)
        .collect();
    // All were used since they came, in an order of their own: a third of an hour lies between the first and the last.
    let turn = |worker: u32| worker * 7 % (WORKERS_CROWDED + 1);
    let mut by_turn: Vec<u32> = (0..=WORKERS_CROWDED).collect();
    by_turn.sort_by_key(|worker| turn(*worker));
    for (at, worker) in by_turn.iter().enumerate() {
        miners.forget_unused(START_S + HOUR + at as u64 / 12);
        miners.note_used(ids[*worker as usize]);
    }
    assert_eq!(
        forget_all(&mut miners, START_S + HOUR + LONG - 1),
        0,
        "all were used of late"
    );
    // A look takes so many steps, so all that were used since have their places first.
    let looks = ids.len().div_ceil(FORGET_PART) + 1;
    let gone: usize = (0..looks).map(|_| miners.forget_unused(START_S + 10 * LONG)).sum();
    assert_eq!(gone, 1, "there is no need for more");
    assert_eq!(forget_all(&mut miners, START_S + 10 * LONG), 0);
    let is_known = |miners: &Miners, worker| matches!(miners.who(&name(&address, worker)), Ok(MinerRef::Known(_)));
    let forgotten: Vec<u32> = (0..=WORKERS_CROWDED)
        .filter(|worker| !is_known(&miners, *worker))
        .collect();
    let used_with_the_first = by_turn.iter().take(12).copied().collect::<Vec<_>>();
    assert!(
        used_with_the_first.contains(&forgotten[0]) && forgotten.len() == 1,
        "{forgotten:?}"
    );
}

#[test]
fn a_name_that_comes_back_is_introduced_anew_and_has_whatever_number_is_free() {
    let mut miners = miners();
    let (one, other) = (address(0), address(1));
    let (stranger, _) = miners.learn(one.as_bytes()).expect("room");
    for worker in 0..=WORKERS_CROWDED {
        miners.learn(&name(&other, worker)).expect("room");
    }
    let crowd: Vec<_> = miners
        .by_name
        .values()
        .map(|known| known.id)
        .filter(|id| *id != stranger)
        .collect();
    miners.forget_unused(START_S + LONG);
    assert!(
        matches!(miners.who(one.as_bytes()), Ok(MinerRef::New)),
        "the oldest, whoever's it is"
    );
    crowd.iter().for_each(|id| miners.note_used(*id));
    let (next, new) = miners.learn(address(2).as_bytes()).expect("room");
    assert!(new.is_some());
    let (back, new) = miners.learn(one.as_bytes()).expect("room");
    assert_eq!(new, NewMiner::parse(one.as_bytes()).ok());
    // The payee that crowded the shard has one worker less.
    assert_eq!([back, next], [stranger, MinerId(stranger.0 + 1)]);
    assert_eq!(miners.learn(one.as_bytes()), Ok((back, None)));
}

#[test]
fn a_payee_whose_workers_come_and_go_has_room_for_others_and_hears_so() {
    let mut miners = miners();
    let address = address(0);
    for worker in 0..WORKERS_PER_PAYEE_MAX {
        miners.learn(&name(&address, worker)).expect("room");
    }
    let newcomer = name(&address, WORKERS_PER_PAYEE_MAX);
    for hours in 0..6 {
        assert_eq!(forget_all(&mut miners, START_S + hours * HOUR), 0, "they may come back");
        let refusal = miners.who(&newcomer).expect_err("no room");
        assert_eq!(refusal.bound, Some(WorkBound::WorkersPerPayee));
        assert_eq!(miners.who(b"nobody").expect_err("no address").bound, None);
    }
    let gone = forget_all(&mut miners, START_S + LONG);
    assert_eq!(gone, (WORKERS_PER_PAYEE_MAX - WORKERS_CROWDED) as usize);
    assert_eq!(
        miners.who(&newcomer),
        Ok(MinerRef::New),
        "what was found before is no answer any more"
    );
    assert!(miners.learn(&newcomer).is_ok());
    assert!(miners.who(b"nobody").is_err());
}

#[test]
fn a_shard_with_room_forgets_nobody() {
    let mut miners = miners();
    let (id, _) = miners.learn(address(0).as_bytes()).expect("room");
    assert_eq!(miners.forget_unused(START_S + 365 * 24 * HOUR), 0);
    assert_eq!(miners.who(address(0).as_bytes()), Ok(MinerRef::Known(id)));
}
