//! The way of one share: from ciphertext to the record that goes to the ledger, and from verdict to ciphertext.
//!
//! The sockets, the ring and the disk are not in it. Every share is new, so each enters the table of duplicates.

mod work;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use work::{Kind, SHARES, Stream};

/// Payouts that fill class 2 (760 bytes) and class 4 (16,005 bytes).
const FILL_CLASS_2: usize = 17;
const FILL_CLASS_4: usize = 508;

fn to_record(c: &mut Criterion) {
    let mut group = c.benchmark_group("share_path/ciphertext_to_record");
    group.throughput(Throughput::Elements(1));
    for branches in [0, 6, 12] {
        for coinbase_id in [2, 4] {
            let stream = Stream::new(Kind::over(branches).of_class(coinbase_id, 0));
            let id = BenchmarkId::new(format!("class_{coinbase_id}"), format!("{branches}_branches"));
            group.bench_function(id, |b| b.iter_custom(|shares| time(&stream, shares)));
        }
    }
    group.finish();

    // A coinbase that pays a full split.
    let mut group = c.benchmark_group("share_path/ciphertext_to_record_with_payouts");
    group.throughput(Throughput::Elements(1));
    for branches in [0, 6, 12] {
        for (coinbase_id, payouts) in [(2, FILL_CLASS_2), (4, FILL_CLASS_4)] {
            let stream = Stream::new(Kind::over(branches).of_class(coinbase_id, payouts));
            let id = BenchmarkId::new(
                format!("class_{coinbase_id}_{}_bytes", stream.coinbase.bytes()),
                format!("{branches}_branches"),
            );
            group.bench_function(id, |b| b.iter_custom(|shares| time(&stream, shares)));
        }
    }
    group.finish();
}

fn to_answer(c: &mut Criterion) {
    let stream = Stream::new(Kind::over(0));
    let mut session = stream.session();
    let mut out = Vec::new();
    let mut nonce = 0;
    let mut group = c.benchmark_group("share_path");
    group.throughput(Throughput::Elements(1));
    group.bench_function("verdict_to_ciphertext", |b| {
        b.iter(|| {
            out.clear();
            nonce += 1;
            session.answer(nonce, &stream.key, &mut out);
            black_box(&out);
        });
    });
    group.finish();
}

fn time(stream: &Stream, shares: u64) -> Duration {
    let mut left = usize::try_from(shares).expect("64 bits");
    let mut took_ns = 0;
    while left > 0 {
        let count = left.min(SHARES);
        took_ns += stream.time(count, |session, frame| {
            black_box(session.take(frame, &stream.key)).is_ok()
        });
        left -= count;
    }
    Duration::from_nanos(took_ns)
}

criterion_group!(benches, to_record, to_answer);
criterion_main!(benches);
