//! What a coinbase costs by its class: the first share, which brings it and has it proved, and those behind it.
//!
//! No branches and no channel, so nothing but the coinbase differs. A class without payouts is a copy of class 0; one
//! with payouts ends at reason 27 as long as splits pay nobody.

mod work;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace::wire::{FromGateway, MINING_MAX, Opened};
use work::{Kind, Stream};

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
        let mut frame = stream.first.clone();
        let mut opener = stream.fresh();
        let plain = opened(&mut opener.inbound, &mut frame, &stream);
        let FromGateway::Share(share) = FromGateway::decode(plain).expect("a message") else {
            panic!("not a share");
        };
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_batched_ref(
                || stream.fresh(),
                |session| black_box(session.judge(&share)).is_ok(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();

    let mut group = c.benchmark_group("coinbase/later_share");
    for (stream, name) in streams() {
        group.throughput(Throughput::Bytes(stream.coinbase.bytes() as u64));
        let mut session = stream.session();
        let mut opener = stream.session();
        let mut frame = stream.frames[..stream.lens[0]].to_vec();
        let plain = opened(&mut opener.inbound, &mut frame, &stream);
        let FromGateway::Share(mut share) = FromGateway::decode(plain).expect("a message") else {
            panic!("not a share");
        };
        // The same work again and again ends at reason 29, behind all that a coinbase costs.
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                share.extranonce = black_box(share.extranonce);
                black_box(session.judge(&share)).is_ok()
            });
        });
    }
    group.finish();
}

fn opened<'a>(inbound: &mut millrace::wire::Inbound, frame: &'a mut [u8], stream: &Stream) -> &'a [u8] {
    inbound
        .frame_len(frame, MINING_MAX)
        .expect("a header")
        .expect("a whole header");
    match inbound.open(frame, &stream.key, &[]).expect("the session's key") {
        Opened::Plain { plain, .. } => plain,
        Opened::Skipped => panic!("a frame was skipped"),
    }
}

criterion_group!(benches, coinbases);
criterion_main!(benches);
