//! What the guards hold everybody to, and which part of it is a shard's.

use ipnet::IpNet;
use std::net::IpAddr;

use super::bucket::Rate;
use super::standing::BanTerms;

/// What may come in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that are accepted.
    pub connections: Rate,
    /// Those of them that shake hands to be told that the policy denies them, for whatever reason ([`super::Guards::tell`]).
    pub told: Rate,
    /// Bytes before HELLO is complete.
    pub early_bytes: Rate,
    /// Frames before HELLO, which are passed over.
    pub early_frames: Rate,
    /// Bytes of sessions.
    pub bytes: Rate,
    /// Frames of sessions.
    pub frames: Rate,
}

/// What guards go by; a shard's are its [`Self::part`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Of one address.
    pub address: Traffic,
    /// Of one address, at a time.
    pub handshakes: u32,
    /// Of one address.
    pub sessions: u32,
    /// Bytes of answers to the sessions of one address. No more of all addresses: at a new tip all of them ask.
    pub answers: Rate,
    /// Of all addresses.
    pub all: Traffic,
    /// Refused shares of a session, in tenths ([`super::refusal_weight`]).
    pub refused: Rate,
    /// Shares a second of a session, which no gateway finds; one that is steered is held to less ([`super::share_rate`]).
    pub session_shares_per_s: u32,
    pub bans: BanTerms,
    /// Addresses that a shard knows.
    pub addresses: usize,
    /// No guard by address holds for these.
    pub allow: Vec<IpNet>,
    /// Whose connections begin with a PROXY header, version 2; what comes through one is counted for whom that names.
    pub proxies: Vec<IpNet>,
}

impl Limits {
    /// What one of so many shards allows. Connections of an address are spread over the shards by the kernel, gateways by a
    /// hash of their keys: a part is an even one and twice the root of it, which chance hardly goes beyond. All parts
    /// together are a little more than the whole; with one shard they are the whole.
    #[must_use]
    pub fn part(&self, shards: usize) -> Self {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
        Self {
            address: self.address.part(shards),
            handshakes: part(self.handshakes, shards),
            sessions: part(self.sessions, shards),
            answers: self.answers.part(shards),
            all: self.all.part(shards),
            ..self.clone()
        }
    }

    /// Whether no guard by address holds for it: the operator has said so, or it is the operator's own proxy, whose own connections are
    /// looks at whether the pool is there. To ban it would ban all that come through it.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        is_in(&self.allow, address) || self.is_proxy(address)
    }

    /// Whether its connections begin with a PROXY header.
    #[must_use]
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        is_in(&self.proxies, address)
    }
}

impl Traffic {
    fn part(&self, shards: u32) -> Self {
        Self {
            connections: self.connections.part(shards),
            told: self.told.part(shards),
            early_bytes: self.early_bytes.part(shards),
            early_frames: self.early_frames.part(shards),
            bytes: self.bytes.part(shards),
            frames: self.frames.part(shards),
        }
    }
}

impl Rate {
    fn part(self, shards: u32) -> Self {
        Self {
            per_s: part(self.per_s, shards),
            burst: part(self.burst, shards),
        }
    }
}

fn part(whole: u32, shards: u32) -> u32 {
    let even = whole.div_ceil(shards);
    whole.min(even.saturating_add(2 * even.isqrt()))
}

fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_enough_for_the_whole_and_little_more() {
        for whole in [1, 2, 7, 64, 1_000, 100_000] {
            assert_eq!(part(whole, 1), whole);
            for shards in [2, 3, 8, 256] {
                let part = part(whole, shards);
                assert!((1..=whole).contains(&part));
                assert!(part * shards >= whole);
            }
        }
        assert_eq!(part(1_000, 4), 250 + 30);
    }

    #[test]
    fn a_network_holds_mapped_addresses_too() {
        let networks = ["10.0.0.0/8".parse().expect("a network")];
        let is_in = |text: &str| is_in(&networks, text.parse().expect("an address"));
        assert!(is_in("10.1.2.3") && is_in("::ffff:10.1.2.3"));
        assert!(!is_in("11.1.2.3") && !is_in("::1"));
    }
}
