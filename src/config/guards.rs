//! The section `[guards]`: what one address may take of the pool.
//!
//! What is not said depends on the chain. The dev chain is for trying things out, where all load comes from one host: its
//! guards are wide. Elsewhere they are what a few hundred gateways behind one address need.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::check::within;
use super::error::Fault;
use crate::guard::{BanTerms, Limits, Rate, Traffic};
use crate::work::address_range;

/// Seconds of their rate that may come at once. After a restart all gateways behind an address come back together.
const CONNECTIONS_BURST_S: u32 = 10;
const TRAFFIC_BURST_S: u32 = 4;

/// The same of answers: all gateways behind an address ask at a new tip, and hardly again until their next templates. A split of 300
/// payees is some 13 kB, one of as many outputs as there may be 22 kB; a thousand gateways that each ask twice, for what their node
/// has at once and for the full template behind it, are answered with 26 MB, or with 44 MB. So 2 MiB/s, which are 84 MB at once, have
/// room for two tips in a row of the latter. On and on a gateway asks with each template, every 40 s or so: for a thousand that is
/// 0.3 to 0.6 MB/s, and what 20 shares a minute of each are answered with is some 13 kB/s.
const ANSWERS_BURST_S: u32 = 40;

/// Of answers, so that a burst of them fits as well.
const ANSWERS_MAX: u64 = 100_000_000;

/// Handshakes that tell an address it is denied, or a gateway there, and with all of them: a gateway that may not mine tries again after 5 s at the soonest.
const TOLD: Rate = Rate { per_s: 1, burst: 5 };
const ALL_TOLD: Rate = Rate { per_s: 50, burst: 200 };

/// A gateway whose section was lost has every share refused until its next template.
const REFUSED_BURST_S: u32 = 60;

/// Of any rate: more is a slip of the unit, and a burst of it still fits what it is counted in.
const RATE_MAX: u64 = 1_000_000_000;

/// Connections or frames a second, handshakes or sessions: above what any host takes.
const COUNT_MAX: u64 = 10_000_000;

/// A year.
const BAN_MAX_S: u64 = 31_536_000;

/// Addresses of a shard: some 300 bytes each.
const ADDRESSES_MAX: u64 = 16_777_216;

/// Networks in a list; each connection is held against all of them.
const NETWORKS_MAX: usize = 256;

/// Below it no pool could start.
const MEMORY_LIMIT_MIN_BYTES: u64 = 16 << 20;

/// 1 PiB: more is a slip of the unit.
const MEMORY_LIMIT_MAX_BYTES: u64 = 1 << 50;

/// Every number of the section; lists stand beside it.
macro_rules! numbers {
    ($($key:ident: $wide:literal, $open:literal, $most:expr;)*) => {
        #[derive(Debug, Clone, Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Guards {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $key: Option<u64>,
            )*
            pub memory_limit_bytes: u64,
            pub allow: Vec<String>,
            pub proxies: Vec<String>,
        }

        struct Numbers {
            $($key: u32,)*
        }

        impl Guards {
            pub fn with_every_key() -> Self {
                Self {
                    $($key: Some($wide),)*
                    ..Self::default()
                }
            }

            fn numbers(&self, is_dev: bool) -> Result<Numbers, Fault> {
                Ok(Numbers {
                    $($key: within(
                        concat!("guards.", stringify!($key)),
                        self.$key.unwrap_or(if is_dev { $wide } else { $open }),
                        1..=$most,
                    )?,)*
                })
            }
        }
    };
}

// What is said nowhere: on the dev chain, elsewhere; and the most that is taken.
numbers! {
    address_connections_per_s: 100_000, 20, COUNT_MAX;
    address_handshakes: 1_000_000, 128, COUNT_MAX;
    address_sessions: 1_000_000, 1_000, COUNT_MAX;
    address_early_bytes_per_s: 1_000_000_000, 262_144, RATE_MAX;
    address_early_frames_per_s: 10_000_000, 1_000, COUNT_MAX;
    address_bytes_per_s: 1_000_000_000, 16_777_216, RATE_MAX;
    address_frames_per_s: 10_000_000, 20_000, COUNT_MAX;
    address_answer_bytes_per_s: 100_000_000, 2_097_152, ANSWERS_MAX;
    address_faults_per_min: 1_000_000, 12, COUNT_MAX;
    connections_per_s: 100_000, 2_000, COUNT_MAX;
    early_bytes_per_s: 1_000_000_000, 33_554_432, RATE_MAX;
    early_frames_per_s: 10_000_000, 100_000, COUNT_MAX;
    bytes_per_s: 1_000_000_000, 268_435_456, RATE_MAX;
    frames_per_s: 10_000_000, 400_000, COUNT_MAX;
    refused_shares_per_s: 1_000_000, 50, COUNT_MAX;
    session_shares_per_s: 1_000_000, 4_000, COUNT_MAX;
    ban_s: 60, 60, BAN_MAX_S;
    ban_max_s: 3_600, 3_600, BAN_MAX_S;
    ban_forget_s: 86_400, 86_400, BAN_MAX_S;
    addresses_per_shard: 65_536, 65_536, ADDRESSES_MAX;
}

/// The guards, and what the process may hold in memory, in bytes; 0 for no limit.
pub(super) fn check(guards: &Guards, is_dev: bool) -> Result<(Limits, u64), Fault> {
    let numbers = guards.numbers(is_dev)?;
    if numbers.ban_max_s < numbers.ban_s {
        let wrong = format!("{} s is below the first ban of {} s", numbers.ban_max_s, numbers.ban_s);
        let remedy = "Write `guards.ban_s` or more";
        return Err(Fault::new("guards.ban_max_s", wrong, remedy));
    }
    let connections = |per_s| Rate::with_burst(per_s, CONNECTIONS_BURST_S);
    let traffic = |per_s| Rate::with_burst(per_s, TRAFFIC_BURST_S);
    let limits = Limits {
        address: Traffic {
            connections: connections(numbers.address_connections_per_s),
            told: TOLD,
            early_bytes: traffic(numbers.address_early_bytes_per_s),
            early_frames: traffic(numbers.address_early_frames_per_s),
            bytes: traffic(numbers.address_bytes_per_s),
            frames: traffic(numbers.address_frames_per_s),
        },
        handshakes: numbers.address_handshakes,
        sessions: numbers.address_sessions,
        answers: Rate::with_burst(numbers.address_answer_bytes_per_s, ANSWERS_BURST_S),
        all: Traffic {
            connections: connections(numbers.connections_per_s),
            told: ALL_TOLD,
            early_bytes: traffic(numbers.early_bytes_per_s),
            early_frames: traffic(numbers.early_frames_per_s),
            bytes: traffic(numbers.bytes_per_s),
            frames: traffic(numbers.frames_per_s),
        },
        refused: Rate::with_burst(numbers.refused_shares_per_s.saturating_mul(10), REFUSED_BURST_S),
        session_shares_per_s: numbers.session_shares_per_s,
        bans: BanTerms {
            faults_per_min: numbers.address_faults_per_min,
            first_ms: u64::from(numbers.ban_s) * 1_000,
            most_ms: u64::from(numbers.ban_max_s) * 1_000,
            forget_ms: u64::from(numbers.ban_forget_s) * 1_000,
        },
        addresses: numbers.addresses_per_shard as usize,
        allow: networks("guards.allow", &guards.allow)?,
        proxies: networks("guards.proxies", &guards.proxies)?,
    };
    let memory = match guards.memory_limit_bytes {
        0 => 0,
        bytes => within(
            "guards.memory_limit_bytes",
            bytes,
            MEMORY_LIMIT_MIN_BYTES..=MEMORY_LIMIT_MAX_BYTES,
        )?,
    };
    Ok((limits, memory))
}

fn networks(key: &'static str, texts: &[String]) -> Result<Vec<IpNet>, Fault> {
    if texts.len() > NETWORKS_MAX {
        let wrong = format!("{} networks are above the limit of {NETWORKS_MAX}", texts.len());
        return Err(Fault::new(key, wrong, "Write fewer, larger ones"));
    }
    let network = |text: &String| {
        address_range(text).map_err(|_| {
            let remedy = "Write an address, or a network such as `10.0.0.0/8` or `2001:db8::/32`";
            Fault::new(key, format!("`{text}` is no network"), remedy)
        })
    };
    texts.iter().map(network).collect()
}

impl Guards {
    /// As it is written for these.
    pub fn of(limits: &Limits, memory_limit_bytes: u64) -> Self {
        let some = |number: u32| Some(u64::from(number));
        let seconds = |ms: u64| Some(ms / 1_000);
        let texts = |networks: &[IpNet]| networks.iter().map(IpNet::to_string).collect();
        let Limits { address, all, bans, .. } = limits;
        Self {
            address_connections_per_s: some(address.connections.per_s),
            address_handshakes: some(limits.handshakes),
            address_sessions: some(limits.sessions),
            address_early_bytes_per_s: some(address.early_bytes.per_s),
            address_early_frames_per_s: some(address.early_frames.per_s),
            address_bytes_per_s: some(address.bytes.per_s),
            address_frames_per_s: some(address.frames.per_s),
            address_answer_bytes_per_s: some(limits.answers.per_s),
            address_faults_per_min: some(bans.faults_per_min),
            connections_per_s: some(all.connections.per_s),
            early_bytes_per_s: some(all.early_bytes.per_s),
            early_frames_per_s: some(all.early_frames.per_s),
            bytes_per_s: some(all.bytes.per_s),
            frames_per_s: some(all.frames.per_s),
            refused_shares_per_s: some(limits.refused.per_s / 10),
            session_shares_per_s: some(limits.session_shares_per_s),
            ban_s: seconds(bans.first_ms),
            ban_max_s: seconds(bans.most_ms),
            ban_forget_s: seconds(bans.forget_ms),
            addresses_per_shard: Some(limits.addresses as u64),
            memory_limit_bytes,
            allow: texts(&limits.allow),
            proxies: texts(&limits.proxies),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guards as OnShard;
    use crate::wire::OUTPUTS_MAX;

    /// Of an output, its script that of P2WSH or P2TR; and a frame around them.
    const OUTPUT_BYTES: usize = 8 + 1 + 34;
    const FRAME_BYTES: usize = 40;

    /// As many gateways of a site as `seats` ask for so many splits of so many payees. The longest that one of them waits, in ms.
    fn tip(guards: &mut OnShard, seats: u16, splits: usize, payees: usize, now_ms: u64) -> u64 {
        let seat = guards.seat([127, 0, 0, 1].into(), now_ms).expect("room");
        let asked = (0..splits * usize::from(seats)).map(|_| {
            guards
                .answer(&seat, FRAME_BYTES + payees * OUTPUT_BYTES, true, now_ms)
                .ms
        });
        asked.max().unwrap_or(0)
    }

    #[test]
    fn a_site_of_a_thousand_gateways_is_told_its_splits_at_once_at_two_tips_in_a_row_and_all_day() {
        let (limits, _) = check(&Guards::default(), false).expect("the defaults");
        // Gateways spread by chance: on the fullest shard are a part and three roots of it.
        for (shards, seats) in [(1, 1_000), (8, 125 + 33), (32, 31 + 17)] {
            let guards = || OnShard::new(&limits, shards, [1; 16], 0);
            assert_eq!(tip(&mut guards(), seats, 2, OUTPUTS_MAX, 0), 0, "{shards}");
            let mut guards = guards();
            for now_ms in [0, 1_000] {
                assert_eq!(tip(&mut guards, seats, 2, 300, now_ms), 0, "{shards}");
            }
            for minute in 1..1_440 {
                assert_eq!(tip(&mut guards, seats, 2, 300, minute * 60_000), 0, "{shards}");
            }
        }
        let mut guards = OnShard::new(&limits, 1, [1; 16], 0);
        assert!(tip(&mut guards, 1_000, 10, 300, 0) > 0, "there is an end to it");
    }
}
