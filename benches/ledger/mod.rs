//! A ledger that is served, and a pool's worth of miners who fill it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use millrace::ledger::books::{self, SchemeKind, SplitTerms};
use millrace::ledger::{
    Entry, Housekeeping, Ledger, LedgerOptions, Mark, MinerRow, SessionMark, SessionRow, ShardLedger, ShareEntry,
    Writer, WriterOptions, monotonic_ns,
};
use millrace::telemetry::LedgerTelemetry;
use millrace::wire::{ChannelKey, PublicKeys};
use millrace::work::{MinDiff, Terms};
use tempfile::TempDir;

pub const RING: usize = 16_384;

/// When the first share is accepted, s since 1970.
pub const START_S: u64 = 1_700_000_000;

/// A folder below `BENCH_DIR`, by default below the target folder: in memory a sync is free, and nothing that is
/// measured means anything.
pub fn folder() -> TempDir {
    let base = std::env::var_os("BENCH_DIR")
        .or_else(|| std::env::var_os("CARGO_TARGET_DIR"))
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&base).expect("a folder for the ledger");
    TempDir::new_in(base).expect("a folder for the ledger")
}

pub fn options(scheme: SchemeKind, difficulty: u64, now_s: u64) -> LedgerOptions {
    LedgerOptions {
        chain: "dev",
        first_prime_id: 1,
        disk_floor_bytes: 0,
        resume_for_s: 3_600,
        gateways_max: 65_536,
        now_s,
        terms: books::Terms {
            scheme,
            split: SplitTerms {
                fee_ppm: 0,
                minimum: 10_000,
            },
            difficulty,
        },
        own_script: vec![0x51],
    }
}

/// The writer, and the one shard that pushes.
pub struct Served {
    pub writer: Writer,
    pub shard: Shard,
    pub telemetry: Arc<LedgerTelemetry>,
}

impl Served {
    pub fn open(data: &Path, options: &LedgerOptions, housekeeping: Housekeeping) -> Self {
        Self::start(Ledger::open(data, options).expect("a ledger"), housekeeping)
    }

    pub fn start(ledger: Ledger, housekeeping: Housekeeping) -> Self {
        let telemetry = Arc::<LedgerTelemetry>::default();
        let options = WriterOptions {
            shards: 1,
            ring_entries: RING,
            core: None,
            telemetry: telemetry.clone(),
            own_script: vec![0x51],
            found: None,
            housekeeping,
        };
        let (writer, mut shards) = Writer::start(ledger, options).expect("a thread");
        let shard = Shard {
            ledger: shards.remove(0),
            pushed: 0,
        };
        Self {
            writer,
            shard,
            telemetry,
        }
    }

    pub fn stop(self) {
        drop(self.shard);
        self.writer.stop();
    }
}

pub struct Shard {
    ledger: ShardLedger,
    pushed: u64,
}

impl Shard {
    pub fn push(&mut self, entry: Entry) {
        if self.pushed - self.ledger.durable() == RING as u64 {
            self.wait_until_durable(self.pushed);
        }
        self.ledger
            .push(entry)
            .expect("no more are under way than the ring holds");
        self.pushed += 1;
    }

    pub fn settle(&mut self) {
        self.wait_until_durable(self.pushed);
    }

    fn wait_until_durable(&mut self, count: u64) {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        self.ledger
            .register(&Waker::from(Arc::new(Unpark(std::thread::current()))));
        self.ledger.wake_writer();
        while self.ledger.durable() < count {
            assert!(!self.ledger.failed());
            std::thread::park();
        }
    }

    /// Keeps `under_way` shares in the ring until `shares` have become durable.
    pub fn run(&mut self, miners: &mut Miners, shares: u64, under_way: u64) -> Duration {
        let began = Instant::now();
        let end = self.pushed + shares;
        while self.pushed < end {
            let room = (self.ledger.durable() + under_way).saturating_sub(self.pushed);
            for _ in 0..room.min(end - self.pushed) {
                let share = miners.share();
                self.push(Entry::Share(share));
            }
            self.ledger.wake_writer();
            if room == 0 {
                self.wait_until_durable(self.pushed - under_way + 1);
            }
        }
        self.settle();
        began.elapsed()
    }
}

/// 1,000 gateways of 8 payees with 4 workers each. Who finds a share is random, each miner's difficulty is its own and
/// now and then another, the parent changes every ten minutes and is stale for a while, and hashes are hashes.
pub struct Miners {
    random: u64,
    /// When the next share comes, in µs since 1970 of the pool's own time.
    pub now_us: u64,
    /// µs between two.
    every_us: u64,
}

const GATEWAYS: u64 = 1_000;
const PAYEES: u64 = 8 * GATEWAYS;
const USERNAMES: u64 = 4 * PAYEES;

impl Miners {
    /// Opens their sessions and names them to the shard. `rate`: shares a second of the pool's own time.
    pub fn introduce(shard: &mut Shard, rate: u64) -> Self {
        for gateway in 0..GATEWAYS {
            let prime_id = u32::try_from(gateway + 1).expect("few");
            let mut key = [0; 32];
            key[..8].copy_from_slice(&mix(gateway).to_le_bytes());
            let keys = PublicKeys {
                ed25519: key,
                x25519: key,
            };
            let terms = Terms::new(prime_id, &[0x51], b"tag", MinDiff::new(1).expect("a power of two"));
            shard.push(Entry::session(SessionRow::new(&keys, &terms, START_S * 1_000)));
            let mark = Mark::Proven {
                key: Box::new(ChannelKey::from_bytes([0; 32])),
                replaces: None,
                adopts: Vec::new(),
            };
            let time_ms = START_S * 1_000;
            shard.push(Entry::Mark(SessionMark {
                prime_id,
                mark,
                time_ms,
            }));
        }
        Self::name(shard, rate, START_S)
    }

    /// The same for a process that goes on at a time, s since 1970, with sessions that are there.
    pub fn name(shard: &mut Shard, rate: u64, now_s: u64) -> Self {
        for username in 0..USERNAMES {
            let mut script = vec![0x00, 0x14];
            for part in 0..3 {
                script.extend_from_slice(&mix(username / 4 * 3 + part).to_le_bytes());
            }
            script.truncate(22);
            let miner = MinerRow {
                script: script.into(),
                worker: format!("rig{}", username % 4).into_bytes().into(),
            };
            let local = u32::try_from(username).expect("few");
            let miner = Box::new(miner);
            shard.push(Entry::Miner { local, miner });
        }
        shard.settle();
        Self {
            random: mix(now_s),
            now_us: now_s * 1_000_000,
            every_us: 1_000_000 / rate,
        }
    }

    fn share(&mut self) -> ShareEntry {
        self.random = mix(self.random);
        let time_ms = self.now_us / 1_000;
        self.now_us += self.every_us;
        let gateway = self.random % GATEWAYS;
        let username = gateway * (USERNAMES / GATEWAYS) + (self.random >> 32) % (USERNAMES / GATEWAYS);
        let time_s = time_ms / 1_000;
        // One in a hundred still builds on the last parent, for a minute.
        let is_stale = time_s % 600 < 60 && (self.random >> 48).is_multiple_of(100);
        let mut parent = [0; 32];
        for (at, part) in parent[..24].chunks_mut(8).zip(0..) {
            at.copy_from_slice(&mix(time_s / 600 - u64::from(is_stale) + part).to_le_bytes());
        }
        let other = u8::from((self.random >> 56).is_multiple_of(16));
        ShareEntry {
            prime_id: u32::try_from(gateway + 1).expect("few"),
            hash64: mix(self.random ^ 0x5555),
            parent,
            pot: 6 + u8::try_from(username % 5).expect("small") + other,
            miner: u32::try_from(username).expect("few"),
            time_ms,
            enqueued_ns: monotonic_ns(),
        }
    }
}

/// Splitmix64: numbers that do not compress.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
