//! The channel alone: sealing and opening messages as long as shares and answers are.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace::wire::{ChannelKey, MAC_LEN, Nonce};

/// Bytes of plaintext.
const LENS: [usize; 6] = [11, 30, 60, 100, 200, 300];

fn channel(c: &mut Criterion) {
    let key = ChannelKey::from_bytes([7; 32]);
    let nonce = Nonce::gateway_to_pool(42, &[9; 32]);

    let mut group = c.benchmark_group("channel/seal");
    for len in LENS {
        group.throughput(Throughput::Bytes(len as u64));
        let mut frame = vec![0; MAC_LEN + len];
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| {
                key.seal(black_box(&nonce), &mut frame);
                black_box(&frame);
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("channel/open");
    for len in LENS {
        group.throughput(Throughput::Bytes(len as u64));
        let mut sealed = vec![0; MAC_LEN + len];
        key.seal(&nonce, &mut sealed);
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter_batched_ref(
                || sealed.clone(),
                |frame| key.open(black_box(&nonce), frame).expect("its own key"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();

    // What an early frame under an unknown key costs: a MAC that does not fit.
    let mut group = c.benchmark_group("channel/refuse");
    for len in [100, 33_000] {
        group.throughput(Throughput::Bytes(len as u64));
        let mut frame = vec![0; MAC_LEN + len];
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| key.open(black_box(&nonce), &mut frame).expect_err("nobody sealed it"));
        });
    }
    group.finish();
}

criterion_group!(benches, channel);
criterion_main!(benches);
