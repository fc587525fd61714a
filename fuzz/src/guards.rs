//! What comes before a session, and beside all of them: the PROXY header, the early frames behind it, and the guards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace::guard::{
    BanTerms, Conduct, Early, Guards, Guest, Limits, Pressure, Rate, Rule, Seat, Steered, Step, Subject, Traffic,
    refusal_weight,
};
use millrace::wire::{BeforeHello, Lead, PROXY_MAX, ProxyLead, ProxySource, Reason, proxy_header};

use super::script::Script;

const ADDRESSES: usize = 8;
const HANDSHAKES: u32 = 4;
const SESSIONS: u32 = 3;

/// The first bytes of a connection from a proxy, as the shard reads them: a header, early frames, up to HELLO.
pub fn proxy(data: &[u8]) {
    let Ok(ProxyLead::Whole(source, len)) = proxy_header(data) else {
        // What is needed is bounded, and more than there is.
        if let Ok(ProxyLead::Need(len)) = proxy_header(data) {
            assert!(data.len() < len && len <= PROXY_MAX);
        }
        return;
    };
    assert!(len <= PROXY_MAX && len <= data.len());
    for cut in 0..len {
        assert!(matches!(proxy_header(&data[..cut]), Ok(ProxyLead::Need(need)) if cut < need && need <= len));
    }
    assert_eq!(proxy_header(&data[..len]), Ok(ProxyLead::Whole(source, len)));
    if let ProxySource::Peer(peer) = source {
        assert_eq!(peer.ip(), peer.ip().to_canonical());
    }
    let (mut before, mut rest) = (BeforeHello::new(), &data[len..]);
    while let Ok(Lead::Skip(len)) = before.next(rest) {
        rest = rest.get(len..).unwrap_or_default();
    }
}

/// Kinds, each with the number of an address first: 0 a connection, denied by policy or not, 1 one that ends, 2 a session, 3 one that ends, 4 bytes
/// and frames before HELLO, 5 of a session and what it is answered with, 6 an offence, 7 shares and refusals, 8 time forth or back, 9 pressure, 10 a ban
/// that another shard gave, 11 bans are lifted.
pub fn guards(data: &[u8]) {
    let limits = limits();
    let mut guards = Guards::new(&limits, 1, [5; 16], 0);
    let mut other = Guards::new(&limits, 3, [6; 16], 0);
    let mut now_ms = 0_u64;
    let mut guests: Vec<(Subject, Guest)> = Vec::new();
    let mut seats: Vec<(Subject, Seat)> = Vec::new();
    let mut conduct = Conduct::new(limits.refused, limits.session_shares_per_s, 0);
    for (kind, bytes) in Script::new(data) {
        let number = bytes.first().copied().unwrap_or_default();
        let word = bytes
            .get(1..5)
            .and_then(|word| word.try_into().ok())
            .map_or(0, u32::from_le_bytes);
        let address = address(number);
        match kind % 12 {
            0 => {
                guests.extend(guards.arrive(address, now_ms).map(|guest| (address.into(), guest)));
                guards.tell(address, now_ms);
            }
            1 if !guests.is_empty() => drop(guests.swap_remove(usize::from(number) % guests.len())),
            2 => seats.extend(guards.seat(address, now_ms).map(|seat| (address.into(), seat))),
            3 if !seats.is_empty() => drop(seats.swap_remove(usize::from(number) % seats.len())),
            4 if !guests.is_empty() => {
                let (_, guest) = &guests[usize::from(number) % guests.len()];
                let early = Early {
                    bytes: word as usize,
                    frames: word >> 16,
                    hello_is_whole: number & 1 == 0,
                };
                assert!(guards.hear_early(guest, early, now_ms).ms <= 10_000);
            }
            5 if !seats.is_empty() => {
                let (_, seat) = &seats[usize::from(number) % seats.len()];
                assert!(guards.hear(seat, word as usize, word >> 16, now_ms).ms <= 10_000);
                assert_eq!(guards.answer(seat, word as usize, false, now_ms).ms, 0);
                assert!(guards.answer(seat, word as usize, true, now_ms).ms <= 10_000);
            }
            6 => {
                let rule = Rule::ALL[word as usize % Rule::ALL.len()];
                if let Some(banned) = guards.offend(address, rule, now_ms) {
                    assert!(banned.ban.until_ms - now_ms <= limits.bans.most_ms);
                    assert!(guards.arrive(address, now_ms).is_err());
                    other.hear_ban(banned, now_ms);
                    assert!(other.arrive(address, now_ms).is_err());
                }
            }
            7 => {
                let weight = refusal_weight(Reason::ALL[usize::from(number) % Reason::ALL.len()]);
                let steered = Steered {
                    shares_per_minute: number.into(),
                    min_diff: word.into(),
                };
                conduct.steer((number > 0).then_some(steered), now_ms);
                match conduct.note(word, limits.refused, weight.saturating_mul(word), now_ms) {
                    Step::Slow { until_ms, .. } => assert!(until_ms > now_ms && until_ms <= now_ms + 10_000),
                    Step::Cut(rule) => assert!(rule.points() > 0),
                    Step::Go => {}
                }
            }
            8 if number & 1 == 0 => now_ms = now_ms.saturating_add(word.into()),
            8 => now_ms = now_ms.saturating_sub(word.into()),
            9 => guards.set_pressure(Pressure::of(word.into(), 1 << 30)),
            10 => other
                .bans(now_ms)
                .into_iter()
                .for_each(|banned| guards.hear_ban(banned, now_ms)),
            11 => {
                guards.lift(None, now_ms);
                assert!(guards.bans(now_ms).is_empty());
            }
            _ => {}
        }
        assert!(guards.len() <= ADDRESSES && other.len() <= ADDRESSES);
        for subject in guests.iter().map(|(subject, _)| subject) {
            let held = guests.iter().filter(|(other, _)| other == subject).count();
            assert!(held <= HANDSHAKES as usize);
        }
        for subject in seats.iter().map(|(subject, _)| subject) {
            let held = seats.iter().filter(|(other, _)| other == subject).count();
            assert!(held <= SESSIONS as usize);
        }
    }
    // All is given back: an address that did nothing wrong comes in again.
    drop((guests, seats));
    guards.lift(None, now_ms);
    guards.set_pressure(Pressure::None);
    assert!(guards.arrive(address(1), now_ms.saturating_add(1_000_000)).is_ok());
}

fn address(number: u8) -> IpAddr {
    match number % 3 {
        0 => Ipv4Addr::new(127, 0, 0, number % 32).into(),
        1 => Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(number % 32), number.into(), 0, 0, 1).into(),
        _ => Ipv4Addr::new(127, 0, 0, number % 32).to_ipv6_mapped().into(),
    }
}

fn limits() -> Limits {
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
        handshakes: HANDSHAKES,
        sessions: SESSIONS,
        answers: Rate::with_burst(10_000, 10),
        all: traffic,
        refused: Rate::with_burst(100, 10),
        session_shares_per_s: 1_000,
        bans: BanTerms {
            faults_per_min: 12,
            first_ms: 60_000,
            most_ms: 3_600_000,
            forget_ms: 86_400_000,
        },
        addresses: ADDRESSES,
        allow: Vec::new(),
        proxies: Vec::new(),
    }
}
