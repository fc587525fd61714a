//! What a coinbase costs by its class: the first share, which brings it and has it proved, and those behind it.
//!
//! No branches and no channel, so nothing but the coinbase differs. A class without payouts is a copy of class 0; the others
//! pay a split.

mod work;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace::wire::Share;
use work::{Kind, Stream, share_of};

/// Payouts of 31 bytes that fill a class, by coinbase id.
const FILL: [usize; 6] = [0, 9, 17, 202, 508, 65];

fn coinbases(c: &mut Criterion) {
    let streams = || {
        (0..6_u8).map(|coinbase_id| {
            let payouts = FILL[usize::from(coinbase_id)];
            let stream = Stream::new(Kind::over(0).of_class(coinbase_id, payouts));
            let name = format!("class_{coinbase_id}_{}_bytes", stream.coinbase.bytes());
            (stream, name)
        })
    };

    let mut group = c.benchmark_group("coinbase/first_share");
    for (stream, name) in streams() {
        group.throughput(Throughput::Bytes(stream.coinbase.bytes() as u64));
        let (first, _) = stream.opened();
        let share = share_of(&first);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_batched_ref(
                || stream.fresh(),
                |session| assert!(black_box(session.judge(&share)).is_ok()),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();

    let mut group = c.benchmark_group("coinbase/later_share");
    for (stream, name) in streams() {
        group.throughput(Throughput::Bytes(stream.coinbase.bytes() as u64));
        let (_, others) = stream.opened();
        let shares: Vec<_> = others.iter().map(|plain| share_of(plain)).collect();
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|count| time(&stream, &shares, count))
        });
    }
    group.finish();
}

/// So many shares judged, each new to a session that has heard the first; there are new sessions where they run out.
fn time(stream: &Stream, shares: &[Share<'_>], count: u64) -> Duration {
    let mut left = usize::try_from(count).expect("64 bits");
    let mut took = Duration::ZERO;
    while left > 0 {
        let mut session = stream.session();
        let shares = &shares[..left.min(shares.len())];
        let start = Instant::now();
        let accepted = shares
            .iter()
            .filter(|share| black_box(session.judge(share)).is_ok())
            .count();
        took += start.elapsed();
        assert_eq!(accepted, shares.len());
        left -= shares.len();
    }
    took
}

criterion_group!(benches, coinbases);
criterion_main!(benches);
