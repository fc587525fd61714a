//! What a share costs on its way through ring, batch and sync, by how many are under way: one alone waits for a whole
//! sync, thousands share it. And what the window costs the writer: shares that leave it are read again.

mod ledger;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ledger::{Miners, RING, START_S, Served, folder, options};
use millrace::ledger::Housekeeping;
use millrace::ledger::books::SchemeKind;
use tempfile::TempDir;

/// Shares a second of the pool's own time.
const RATE: u64 = 20_000;

fn ledger_writer(c: &mut Criterion) {
    let data = folder();
    let terms = options(SchemeKind::Tides, 1 << 20, START_S);
    let mut served = Served::open(data.path(), &terms, Housekeeping::keep_days(90));
    let mut miners = Miners::introduce(&mut served.shard, RATE);
    let mut group = c.benchmark_group("ledger_writer");
    group.throughput(Throughput::Elements(1));
    for under_way in [1, 64, 1_024, RING as u64 / 2] {
        group.bench_with_input(
            BenchmarkId::new("durable share", under_way),
            &under_way,
            |b, under_way| {
                b.iter_custom(|shares| served.shard.run(&mut miners, shares, *under_way));
            },
        );
    }
    group.finish();
    served.stop();
}

/// Rounds of each of the two, in turn, so that whatever else the machine does meets both. Each is long enough for some
/// memtables to be flushed.
const ROUNDS: usize = 10;
const ROUND_SHARES: u64 = 2_000_000;
/// A window of some two million shares, so that it is read from table files.
const WINDOW_DIFFICULTY: u64 = 80 << 20;
const BEFORE: u64 = 3_000_000;

/// The writer's rate with a window that is full, and moves on by a share for each share, beside that without one. With
/// neither does anything else stand still: the bookkeeper hears of every batch, and publishes snapshots.
fn window(_: &mut Criterion) {
    let mut two = [SchemeKind::Solo, SchemeKind::Tides].map(|scheme| {
        let data: TempDir = folder();
        let terms = options(scheme, WINDOW_DIFFICULTY, START_S);
        let mut served = Served::open(data.path(), &terms, Housekeeping::keep_days(90));
        let mut miners = Miners::introduce(&mut served.shard, RATE);
        served.shard.run(&mut miners, BEFORE, RING as u64 / 2);
        (data, served, miners, Vec::new())
    });
    for _ in 0..ROUNDS {
        for (_, served, miners, rates) in &mut two {
            let took = served.shard.run(miners, ROUND_SHARES, RING as u64 / 2);
            rates.push(ROUND_SHARES as f64 / took.as_secs_f64());
        }
    }
    // Round by round: what slowed the machine down for a while slowed down both.
    let mut percent: Vec<f64> = std::iter::zip(&two[0].3, &two[1].3)
        .map(|(without, live)| 100.0 * live / without)
        .collect();
    percent.sort_unstable_by(f64::total_cmp);
    for (_, served, _, mut rates) in two {
        let window = served.telemetry.window_shares.value();
        let stopping = Instant::now();
        served.stop();
        let left = stopping.elapsed();
        rates.sort_unstable_by(f64::total_cmp);
        let median = (rates[ROUNDS / 2 - 1] + rates[ROUNDS / 2]) / 2.0;
        println!(
            "ledger_writer/window of {window} shares: median {median:.0} shares/s, {:.0} to {:.0}; what the bookkeeper had \
             left took {left:.2?}",
            rates[0],
            rates[ROUNDS - 1]
        );
    }
    println!(
        "ledger_writer/window: {:.1} percent of without ({:.1} to {:.1}); aim: not below 90",
        (percent[ROUNDS / 2 - 1] + percent[ROUNDS / 2]) / 2.0,
        percent[0],
        percent[ROUNDS - 1]
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4));
    targets = ledger_writer, window
}
criterion_main!(benches);
