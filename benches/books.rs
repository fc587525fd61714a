//! The books with 50,000 payees in the window: making a snapshot, and answering one request from it, as the message and
//! as the sealed frame that leaves.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millrace::ledger::LedgerError;
use millrace::ledger::books::{OldShares, Scheme, SchemeKind, Snapshot, SplitTerms, Window, Work};
use millrace::wire::{ChannelKey, CoinbaserOf, Encode, Outbound};
use millrace::work::{Pin, Split};

const PAYEES: u32 = 50_000;
const TERMS: SplitTerms = SplitTerms {
    fee_ppm: 10_000,
    minimum: 10_000,
};
/// A block with fees, in satoshi.
const VALUE: u64 = 330_000_000;

/// A log in memory: each payee some shares, of sizes that differ widely.
struct Shares(Vec<Work>);

impl Shares {
    fn new() -> Self {
        let share = |number: u32| Work {
            payee: number.wrapping_mul(2_654_435_761) % PAYEES,
            pot: u8::try_from(number % 12).expect("below 12"),
        };
        Self((0..4 * PAYEES).map(share).collect())
    }
}

type Read<'a> = Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + 'a>, LedgerError>;

impl OldShares for &Shares {
    fn from(&mut self, from: u64) -> Read<'_> {
        let from = usize::try_from(from).expect("a short log");
        Ok(Box::new(self.0[from..].iter().map(|share| Ok(*share))))
    }

    fn before(&mut self, before: u64) -> Read<'_> {
        let before = usize::try_from(before).expect("a short log");
        Ok(Box::new(self.0[..before].iter().rev().map(|share| Ok(*share))))
    }
}

fn scripts() -> Vec<Arc<[u8]>> {
    let script = |payee: u32| {
        let mut script = vec![0x00, 0x14];
        script.extend_from_slice(&payee.wrapping_mul(0x9e37_79b9).to_le_bytes());
        script.extend_from_slice(&[7; 16]);
        script.into()
    };
    (0..PAYEES).map(script).collect()
}

/// Most have a little carry, as after some blocks.
fn payable(payee: u32) -> i64 {
    i64::from(payee.wrapping_mul(40_503) % 9_000)
}

fn books(criterion: &mut Criterion) {
    let shares = Shares::new();
    let span = SchemeKind::Tides.span(1 << 40);
    let window = Window::at(shares.0.len() as u64, span, &mut &shares).expect("a log in memory");
    let scripts = scripts();
    let snapshot = || {
        let weights = SchemeKind::Tides.weights(&window, None);
        Snapshot::new(Pin::default(), TERMS, &[0x51], &weights, &scripts, payable)
    };
    let mut group = criterion.benchmark_group("books");
    group.bench_function("snapshot_of_50000_payees", |bencher| {
        bencher.iter(|| black_box(snapshot()))
    });
    let snapshot = snapshot();
    let key = ChannelKey::from_bytes([1; 32]);
    let mut outbound = Outbound::gateway(1, &[2; 32]);
    // As a shard has it: one buffer for all that is said.
    let mut out = Vec::new();
    for with_balances in [true, false] {
        let outputs = snapshot.payouts(VALUE, with_balances).len();
        let name = if with_balances { "with_balances" } else { "without" };
        let split = || CoinbaserOf {
            value: black_box(VALUE),
            coinbaser_id: 1,
            write_outputs: |out: &mut Vec<u8>| {
                snapshot.each_payout(VALUE, with_balances, &mut |_, output| output.encode(out));
            },
        };
        let answer = BenchmarkId::new(format!("answer_of_{outputs}_outputs"), name);
        group.bench_function(answer, |bencher| {
            bencher.iter(|| {
                out.clear();
                split().encode(&mut out);
                black_box(out.len())
            });
        });
        let frame = BenchmarkId::new(format!("frame_of_{outputs}_outputs"), name);
        group.bench_function(frame, |bencher| {
            bencher.iter(|| {
                out.clear();
                outbound.mining(&key, &split(), &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, books);
criterion_main!(benches);
