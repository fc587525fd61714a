//! What a share costs on its way through ring, batch and sync, by how many are under way: one alone waits for a whole
//! sync, thousands share it. The ledger lies in `BENCH_DIR`, by default in the target folder: in memory a sync is free.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace::ledger::books::{self, SchemeKind, SplitTerms};
use millrace::ledger::{
    Entry, Ledger, LedgerOptions, Mark, MinerRow, SessionMark, SessionRow, ShardLedger, ShareEntry, Writer,
    WriterOptions, monotonic_ns,
};
use millrace::wire::{ChannelKey, PublicKeys};
use millrace::work::{MinDiff, Terms};
use tempfile::TempDir;

const RING: usize = 16_384;

struct Shard {
    ledger: ShardLedger,
    pushed: u64,
}

impl Shard {
    fn push(&mut self, entry: Entry) {
        self.ledger
            .push(entry)
            .expect("no more are under way than the ring holds");
        self.pushed += 1;
    }

    fn wait_until_durable(&mut self, count: u64) {
        self.ledger.wake_writer();
        while self.ledger.durable() < count {
            // The shard of a pool is woken; here a yield keeps the writer's core free without a waker's cost.
            std::thread::yield_now();
        }
    }

    /// Keeps `under_way` shares in the ring until `shares` have become durable.
    fn run(&mut self, shares: u64, under_way: u64) -> Duration {
        let began = Instant::now();
        let first = self.pushed;
        while self.pushed < first + shares {
            let room = (self.ledger.durable() + under_way).saturating_sub(self.pushed);
            for _ in 0..room.min(first + shares - self.pushed) {
                let share = share(self.pushed);
                self.push(Entry::Share(share));
            }
            if room == 0 {
                self.wait_until_durable(self.pushed - under_way + 1);
            }
        }
        self.wait_until_durable(self.pushed);
        began.elapsed()
    }
}

fn share(number: u64) -> ShareEntry {
    ShareEntry {
        prime_id: 1,
        hash64: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        parent: [9; 32],
        pot: 3,
        miner: 0,
        time_ms: 1_800_000_000_000 + number / 50,
        enqueued_ns: monotonic_ns(),
    }
}

fn open(data: &TempDir) -> (Writer, Shard) {
    let options = LedgerOptions {
        chain: "dev",
        first_prime_id: 1,
        disk_floor_bytes: 0,
        resume_for_s: 3_600,
        now_s: 1_800_000_000,
        terms: books::Terms {
            scheme: SchemeKind::Tides,
            split: SplitTerms {
                fee_ppm: 0,
                minimum: 10_000,
            },
            difficulty: 1 << 20,
        },
        own_script: vec![0x51],
    };
    let ledger = Ledger::open(data.path(), &options).expect("a ledger");
    let options = WriterOptions {
        shards: 1,
        ring_entries: RING,
        core: None,
        telemetry: Arc::default(),
        own_script: vec![0x51],
    };
    let (writer, mut shards) = Writer::start(ledger, options).expect("a thread");
    let mut shard = Shard {
        ledger: shards.remove(0),
        pushed: 0,
    };
    let keys = PublicKeys {
        ed25519: [1; 32],
        x25519: [2; 32],
    };
    let terms = Terms::new(1, &[0x51], b"tag", MinDiff::new(1).expect("a power of two"));
    shard.push(Entry::Session(Box::new(SessionRow::new(&keys, &terms, 0))));
    shard.push(Entry::Mark(SessionMark {
        prime_id: 1,
        mark: Mark::Proven {
            key: ChannelKey::from_bytes([0; 32]),
            replaces: None,
        },
        time_ms: 0,
    }));
    let miner = Box::new(MinerRow {
        script: [3; 22].into(),
        worker: [].into(),
    });
    shard.push(Entry::Miner { local: 0, miner });
    shard.wait_until_durable(3);
    (writer, shard)
}

fn ledger_writer(c: &mut Criterion) {
    let base = std::env::var_os("BENCH_DIR")
        .or_else(|| std::env::var_os("CARGO_TARGET_DIR"))
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&base).expect("a folder for the ledger");
    let data = TempDir::new_in(base).expect("a folder for the ledger");
    let (writer, mut shard) = open(&data);
    let mut group = c.benchmark_group("ledger_writer");
    group.throughput(Throughput::Elements(1));
    for under_way in [1, 64, 1_024, RING as u64 / 2] {
        group.bench_with_input(
            BenchmarkId::new("durable share", under_way),
            &under_way,
            |b, under_way| {
                b.iter_custom(|shares| shard.run(shares, *under_way));
            },
        );
    }
    group.finish();
    drop(shard);
    writer.stop();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4));
    targets = ledger_writer
}
criterion_main!(benches);
