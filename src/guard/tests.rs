//! The guards of a shard as a whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use proptest::prelude::*;

pub(super) fn limits() -> Limits {
    let traffic = Traffic {
        connections: Rate::with_burst(10, 2),
        told: Rate::with_burst(1, 2),
        early_bytes: Rate::with_burst(1_000, 2),
        early_frames: Rate::with_burst(10, 2),
        bytes: Rate::with_burst(10_000, 2),
        frames: Rate::with_burst(100, 2),
    };
    Limits {
        address: traffic,
        handshakes: 4,
        sessions: 3,
        answers: Rate::with_burst(1_000, 10),
        all: Traffic {
            connections: Rate::with_burst(1_000, 2),
            told: Rate::with_burst(10, 2),
            ..traffic
        },
        refused: Rate::with_burst(100, 10),
        session_shares_per_s: 1_000,
        bans: BanTerms {
            faults_per_min: 12,
            first_ms: 60_000,
            most_ms: 3_600_000,
            forget_ms: 86_400_000,
        },
        addresses: 8,
        allow: vec!["10.0.0.0/8".parse().expect("a network")],
        proxies: vec!["192.0.2.1/32".parse().expect("a network")],
    }
}

fn guards() -> Guards {
    Guards::new(&limits(), 1, [7; 16], 0)
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

#[test]
fn a_connection_rate_is_of_an_address_and_not_of_its_neighbour() {
    let mut guards = guards();
    let tried: Vec<_> = (0..25).map(|_| guards.arrive(v4(1), 0).map(drop)).collect();
    assert!(tried[..20].iter().all(Result::is_ok));
    assert!(tried[20..].iter().all(|tried| *tried == Err(Rule::Connections.into())));
    assert!(guards.arrive(v4(2), 0).is_ok());
    assert!(guards.arrive(v4(1), 100).is_ok(), "it comes back with time");
}

#[test]
fn handshakes_and_sessions_count_until_they_are_dropped() {
    let mut guards = guards();
    let guests: Vec<_> = (0..4).map(|_| guards.arrive(v4(1), 0).expect("room")).collect();
    assert_eq!(guards.arrive(v4(1), 0).err(), Some(Rule::Handshakes.into()));
    drop(guests);
    assert!(guards.arrive(v4(1), 0).is_ok());
    let mut seats: Vec<_> = (0..3).map(|_| guards.seat(v4(1), 0).expect("room")).collect();
    assert_eq!(guards.seat(v4(1), 0).err(), Some(Rule::Sessions.into()));
    seats.pop();
    assert!(guards.seat(v4(1), 0).is_ok());
}

fn early(bytes: usize, frames: u32) -> Early {
    Early {
        bytes,
        frames,
        hello_is_whole: false,
    }
}

#[test]
fn what_early_frames_of_others_owe_holds_up_no_hello() {
    let mut guards = guards();
    let floods: Vec<_> = (1..=4).map(|last| guards.arrive(v4(last), 0).expect("room")).collect();
    for flood in &floods {
        guards.hear_early(flood, early(2_000, 20), 0);
    }
    let of_a_flood = guards.hear_early(&floods[0], early(0, 0), 0);
    assert_eq!((of_a_flood.ms, of_a_flood.rule), (6_000, Rule::AllEarly));
    let guest = guards.arrive(v4(5), 0).expect("room");
    assert_eq!(guards.hear_early(&guest, early(500, 0), 0).ms, 0, "a part of HELLO");
    let whole = Early {
        hello_is_whole: true,
        ..early(500, 0)
    };
    assert_eq!(guards.hear_early(&guest, whole, 0).ms, 0);
    // It counts all the same, and once it has sent such a frame it is one of those that owe.
    assert_eq!(guards.hear_early(&guest, early(0, 1), 0).ms, 7_000);
    assert_eq!(guards.hear_early(&guest, whole, 0).ms, 7_500);
    // What an address owes by itself does not hold up a whole HELLO either, but all that is not.
    let guest = guards.arrive(v4(6), 0).expect("room");
    assert_eq!(guards.hear_early(&guest, early(3_000, 0), 0).rule, Rule::EarlyBytes);
    assert_eq!(guards.hear_early(&guest, whole, 0).ms, 0);
}

#[test]
fn what_comes_too_fast_waits() {
    let mut guards = guards();
    let guest = guards.arrive(v4(1), 0).expect("room");
    assert_eq!(guards.hear_early(&guest, early(2_000, 0), 0).ms, 0);
    let wait = guards.hear_early(&guest, early(500, 0), 0);
    assert_eq!((wait.ms, wait.rule), (500, Rule::EarlyBytes));
    let seat = guards.seat(v4(1), 0).expect("room");
    assert_eq!(guards.hear(&seat, 20_000, 200, 0).ms, 0);
    assert_eq!(guards.hear(&seat, 0, 50, 0).ms, 500);
}

#[test]
fn who_asks_waits_for_what_its_address_was_answered_and_shares_do_not() {
    let mut guards = guards();
    let [asks, asks_too, mines] = [1, 1, 1].map(|last| guards.seat(v4(last), 0).expect("room"));
    let neighbour = guards.seat(v4(2), 0).expect("room");
    assert_eq!(guards.answer(&asks, 9_000, true, 0).ms, 0);
    assert_eq!(guards.answer(&mines, 1_000, false, 0).ms, 0);
    let wait = guards.answer(&asks, 500, true, 0);
    assert_eq!((wait.ms, wait.rule), (500, Rule::Answers));
    // It is the address that owes.
    assert_eq!(guards.answer(&asks_too, 500, true, 0).ms, 1_000);
    assert_eq!(
        guards.answer(&mines, 500, false, 0).ms,
        0,
        "what it brought is counted already"
    );
    assert_eq!(
        guards.answer(&asks, 0, true, 0).ms,
        1_500,
        "and its answers count all the same"
    );
    assert_eq!(guards.hear(&mines, 100, 1, 0).ms, 0);
    assert_eq!(guards.answer(&neighbour, 9_000, true, 0).ms, 0);
    assert_eq!(guards.answer(&asks, 0, true, 1_500).ms, 0, "with time it is paid");
    assert_eq!(
        guards.answer(&asks, usize::MAX, true, 1_500).ms,
        10_000,
        "no wait is longer"
    );
    // To ask too much is no fault.
    assert_eq!(guards.bans(0), []);
    let allowed = guards.seat([10, 0, 0, 1].into(), 0).expect("room");
    assert_eq!(guards.answer(&allowed, usize::MAX, true, 0).ms, 0);
}

#[test]
fn wrong_again_and_again_is_banned_and_told() {
    let mut guards = guards();
    let banned = (0..100).find_map(|_| guards.offend(v4(1), Rule::BadHello, 0));
    let banned = banned.expect("points run out");
    assert_eq!((banned.subject, banned.ban.why), (v4(1).into(), Rule::BadHello));
    assert_eq!(guards.arrive(v4(1), 0).err(), Some(Rule::Banned.into()));
    assert!(guards.arrive(v4(2), 0).is_ok());
    assert_eq!(guards.bans(0), [banned]);
    // Another shard.
    let mut other = self::guards();
    other.hear_ban(banned, 0);
    assert_eq!(other.arrive(v4(1), 59_999).err(), Some(Rule::Banned.into()));
    assert!(other.arrive(v4(1), 60_000).is_ok());
    // Lifted.
    assert_eq!(guards.lift(Some(v4(2).into()), 0), 0);
    assert_eq!(guards.lift(Some(v4(1).into()), 0), 1);
    assert!(guards.arrive(v4(1), 0).is_ok());
    assert_eq!(guards.bans(0), []);
}

#[test]
fn a_site_whose_uplink_breaks_again_and_again_is_not_banned_and_who_does_nothing_else_is() {
    let mut guards = guards();
    for times in 0..20 {
        for _ in 0..30 {
            assert_eq!(guards.offend(v4(1), Rule::Broken, times * 6_000), None, "{times}");
        }
    }
    // As often as an address may connect.
    let mut tries = (0..60_000).step_by(50);
    let banned = tries.find_map(|now_ms| guards.offend(v4(2), Rule::Broken, now_ms));
    assert_eq!(banned.map(|banned| banned.ban.why), Some(Rule::Broken));
}

#[test]
fn a_thousand_gateways_behind_one_address_all_come_back_and_a_flood_does_not() {
    let open = Limits {
        address: Traffic {
            connections: Rate::with_burst(20, 10),
            ..limits().address
        },
        all: Traffic {
            connections: Rate::with_burst(2_000, 10),
            ..limits().all
        },
        handshakes: 128,
        sessions: 1_000,
        ..limits()
    };
    let mut guards = Guards::new(&open, 1, [7; 16], 0);
    let mut seats = Vec::new();
    // Each tries again 5 s after it was turned away, as gateways do, and all began at once.
    for now_ms in (0..60_000).step_by(5_000) {
        let mut came: Vec<_> = (seats.len()..1_000).map(|_| guards.arrive(v4(1), now_ms)).collect();
        for refused in came.iter().filter_map(|came| came.as_ref().err()) {
            assert!(
                refused.rule != Rule::Banned && refused.banned.is_none(),
                "{refused:?} at {now_ms} ms"
            );
        }
        came.retain(Result::is_ok);
        seats.extend(came.iter().map(|_| guards.seat(v4(1), now_ms).expect("room")));
    }
    assert_eq!(seats.len(), 1_000);
    // As fast as one can: a connection each 0.1 ms.
    let banned = (0..50_000).find_map(|n| guards.arrive(v4(2), n / 10).err().and_then(|refused| refused.banned));
    assert_eq!(banned.map(|banned| banned.ban.why), Some(Rule::Connections));
}

#[test]
fn who_is_allowed_is_not_counted() {
    let mut guards = guards();
    let address: IpAddr = [10, 1, 2, 3].into();
    let guests: Vec<_> = (0..1_000)
        .map(|_| guards.arrive(address, 0).expect("allowed"))
        .collect();
    assert_eq!(guests.len(), 1_000);
    assert!((0..1_000).all(|_| guards.offend(address, Rule::BadHello, 0).is_none()));
    // A proxy is not banned for what comes through it.
    assert!((0..1_000).all(|_| guards.offend([192, 0, 2, 1].into(), Rule::SlowHello, 0).is_none()));
    assert!((0..1_000).all(|_| guards.arrive([192, 0, 2, 1].into(), 0).is_ok()));
    assert!(guards.is_empty());
    assert!(guards.is_proxy([192, 0, 2, 1].into()) && !guards.is_proxy(address));
}

/// Knows more addresses than others here.
fn wide_guards() -> Guards {
    let limits = Limits {
        addresses: 1_000,
        ..limits()
    };
    Guards::new(&limits, 1, [7; 16], 0)
}

/// Twenty of each address, as many as it may have, until all have had theirs; and some that are refused.
fn strangers_take_all(guards: &mut Guards, now_ms: u64) {
    for n in 0..75 {
        let tried = (0..50).filter(|_| guards.arrive([127, 0, 1, n].into(), now_ms).is_ok());
        assert_eq!(
            tried.count(),
            20,
            "what is refused of one takes nothing from others: {n}"
        );
    }
    let next = guards.arrive([127, 0, 1, 100].into(), now_ms);
    assert_eq!(next.err(), Some(Rule::AllConnections.into()));
}

#[test]
fn addresses_that_mine_have_connections_that_no_stranger_takes() {
    let mut guards = wide_guards();
    let mut other = wide_guards();
    let seat = guards.seat(v4(1), 0).expect("room");
    let told = guards.note_mined(&seat, 0);
    assert_eq!(told, Some(v4(1).into()));
    assert_eq!(guards.note_mined(&seat, 899_999), None, "it was said");
    other.hear_mined(v4(1).into(), 0);
    for guards in [&mut guards, &mut other] {
        strangers_take_all(guards, 0);
        assert_eq!((0..20).filter(|_| guards.arrive(v4(1), 0).is_ok()).count(), 20);
        assert_eq!(guards.arrive(v4(1), 0).err(), Some(Rule::Connections.into()));
        // They are a part of the whole, and an hour later it is an address as others are.
        strangers_take_all(guards, 3_599_000);
        assert!(guards.arrive(v4(1), 3_599_000).is_ok());
        strangers_take_all(guards, 3_700_000);
        assert_eq!(guards.arrive(v4(1), 3_700_000).err(), Some(Rule::AllConnections.into()));
    }
    // It mines on, and the other shards hear it again.
    assert_eq!(guards.note_mined(&seat, 3_700_000), told);
    assert!(guards.arrive(v4(1), 3_700_000).is_ok());
}

#[test]
fn the_reserve_is_no_more_than_its_part() {
    let mut guards = wide_guards();
    let seats: Vec<_> = (0..101)
        .map(|n| guards.seat([127, 0, 2, n].into(), 0).expect("room"))
        .collect();
    assert!(seats.iter().all(|seat| guards.note_mined(seat, 0).is_some()));
    let came = |guards: &mut Guards, n| {
        (0..20)
            .filter(|_| guards.arrive([127, 0, 2, n].into(), 0).is_ok())
            .count()
    };
    let all: usize = (0..101).map(|n| came(&mut guards, n)).sum();
    assert_eq!(all, 2_000, "of the reserve, and then of what is everybody's");
}

#[test]
fn the_whole_pool_has_limits_too() {
    let mut guards = wide_guards();
    strangers_take_all(&mut guards, 0);
    assert!(guards.arrive([127, 0, 1, 100].into(), 1_000).is_ok());
    for (pressure, accepted, stranger) in [(Pressure::RefuseNew, true, false), (Pressure::CloseIdle, false, false)] {
        guards.set_pressure(pressure);
        assert_eq!(
            (guards.accept().is_ok(), guards.admit(false).is_ok()),
            (accepted, stranger)
        );
    }
    assert_eq!(guards.admit(true), Err(Rule::Memory.into()));
    guards.set_pressure(Pressure::None);
    assert_eq!((guards.accept(), guards.admit(false)), (Ok(()), Ok(Admission::Free)));
}

#[test]
fn who_is_denied_is_told_now_and_then_and_all_of_them_not_much_more_often() {
    let mut guards = guards();
    let told = |guards: &mut Guards, address| (0..100).filter(|_| guards.tell(address, 0)).count();
    assert_eq!(told(&mut guards, v4(1)), 2);
    assert!(guards.tell(v4(1), 1_000) && !guards.tell(v4(1), 1_000));
    let mut guards = self::guards();
    assert_eq!((1..=50).map(|last| told(&mut guards, v4(last))).sum::<usize>(), 20);
    assert_eq!(
        told(&mut guards, [10, 0, 0, 1].into()),
        0,
        "an allowed address is one of all"
    );
}

#[test]
fn the_address_that_rested_longest_is_forgotten_and_no_other() {
    let mut guards = guards();
    let seat = guards.seat(v4(1), 0).expect("room");
    for _ in 0..100 {
        guards.offend(v4(2), Rule::BadHello, 0);
    }
    for last in 3..200 {
        assert!(guards.arrive(v4(last), 0).is_ok());
    }
    assert_eq!(guards.len(), limits().addresses);
    // Two more sessions fit beside the first, which was never forgotten.
    let more: Vec<_> = (0..3).map(|_| guards.seat(v4(1), 0)).collect();
    assert!(more[1].is_ok() && more[2].is_err());
    assert_eq!(guards.arrive(v4(2), 0).err(), Some(Rule::Banned.into()));
    assert!(guards.table.find(v4(3).into()).is_none());
    drop(seat);
}

#[test]
fn an_address_that_has_mined_is_forgotten_after_strangers() {
    let mut guards = guards();
    guards.hear_mined(v4(1).into(), 0);
    let come = |guards: &mut Guards, now_ms| (3..100).for_each(|last| drop(guards.arrive(v4(last), now_ms)));
    come(&mut guards, 0);
    assert!(guards.table.find(v4(1).into()).is_some());
    come(&mut guards, 3_600_000);
    assert!(guards.table.find(v4(1).into()).is_none());
}

#[test]
fn a_table_of_the_connected_takes_nobody_else() {
    let mut guards = guards();
    let seats: Vec<_> = (0..8).map(|last| guards.seat(v4(last), 0).expect("room")).collect();
    assert_eq!(guards.arrive(v4(100), 0).err(), Some(Rule::Addresses.into()));
    drop(seats);
    assert!(guards.arrive(v4(100), 0).is_ok());
}

#[test]
fn a_table_of_the_banned_takes_others() {
    let mut guards = guards();
    for last in 0..8 {
        for _ in 0..100 {
            guards.offend(v4(last), Rule::BadHello, 0);
        }
    }
    assert_eq!(guards.bans(0).len(), 8);
    assert!(guards.arrive(v4(100), 0).is_ok());
    assert_eq!(guards.bans(0).len(), 7);
}

#[derive(Debug, Clone)]
enum Act {
    Arrive(u8),
    Leave(usize),
    Seat(u8),
    Rise(usize),
    Offend(u8),
    Lift,
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0_u8..20).prop_map(Act::Arrive),
        (0_usize..100).prop_map(Act::Leave),
        (0_u8..20).prop_map(Act::Seat),
        (0_usize..100).prop_map(Act::Rise),
        (0_u8..20).prop_map(Act::Offend),
        Just(Act::Lift),
        (0_u64..5_000).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 0..400)
}

proptest! {
    /// Whatever comes in whatever order: bounds hold, and all that was counted is given back.
    #[test]
    fn bounds_hold_and_counts_come_back(acts in acts()) {
        let mut guards = guards();
        let (mut guests, mut seats) = (Vec::new(), Vec::new());
        let mut now_ms = 0;
        let address = |n: u8| -> IpAddr {
            if n.is_multiple_of(2) { v4(n) } else { Ipv6Addr::new(0x2001, 0xdb8, 0, n.into(), 1, 2, 3, 4).into() }
        };
        for act in acts {
            match act {
                Act::Arrive(n) => guests.extend(guards.arrive(address(n), now_ms)),
                Act::Leave(at) if at < guests.len() => drop(guests.swap_remove(at)),
                Act::Seat(n) => seats.extend(guards.seat(address(n), now_ms)),
                Act::Rise(at) if at < seats.len() => drop(seats.swap_remove(at)),
                Act::Offend(n) => drop(guards.offend(address(n), Rule::RefusedShares, now_ms)),
                Act::Lift => drop(guards.lift(None, now_ms)),
                Act::Pass(ms) => now_ms += ms,
                Act::Leave(_) | Act::Rise(_) => {}
            }
            prop_assert!(guards.len() <= limits().addresses);
            let counted = |of: fn(&Row) -> u32| guards.table.iter().map(|row| of(row)).sum::<u32>() as usize;
            prop_assert_eq!(counted(|row| row.handshakes.get()), guests.len());
            prop_assert_eq!(counted(|row| row.sessions.get()), seats.len());
            prop_assert!(guards.table.iter().all(|row| row.handshakes.get() <= 4 && row.sessions.get() <= 3));
        }
        drop((guests, seats));
        prop_assert!(guards.table.iter().all(|row| row.handshakes.get() == 0 && row.sessions.get() == 0));
    }
}
