//! The books with 50,000 payees in the window: making a snapshot, and answering one request from it, as the message and
//! as the sealed frame that leaves.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
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

/// Payees, of whom those behind the first [`PAYEES`] have no work any more.
fn scripts(payees: u32) -> Vec<Arc<[u8]>> {
    let script = |payee: u32| {
        let mut script = vec![0x00, 0x14];
        script.extend_from_slice(&payee.wrapping_mul(0x9e37_79b9).to_le_bytes());
        script.extend_from_slice(&[7; 16]);
        script.into()
    };
    (0..payees).map(script).collect()
}

/// What is payable beside the work of the window.
struct Carry {
    name: &'static str,
    /// Payees that have no work any more.
    gone: u32,
    /// Satoshi, by payee.
    payable: fn(u32) -> i64,
}

const CARRIES: [Carry; 3] = [
    // Most have a little, as after some blocks.
    Carry {
        name: "small_carries",
        gone: 0,
        payable: |payee| scattered(payee) % 9_000,
    },
    // As after many blocks, each of which paid those due most: all have something, up to what the last were paid.
    Carry {
        name: "large_carries",
        gone: 0,
        payable: |payee| scattered(payee) % 2_000_000,
    },
    // The same, and as many again have left with theirs.
    Carry {
        name: "carries_of_the_gone",
        gone: PAYEES,
        payable: |payee| scattered(payee) % 2_000_000,
    },
];

fn scattered(payee: u32) -> i64 {
    (payee.wrapping_mul(2_246_822_519) >> 3).into()
}

fn books(criterion: &mut Criterion) {
    let shares = Shares::new();
    let span = SchemeKind::Tides.span(1 << 40);
    let window = Window::at(shares.0.len() as u64, span, &mut &shares).expect("a log in memory");
    let mut group = criterion.benchmark_group("books");
    for Carry { name, gone, payable } in CARRIES {
        let scripts = scripts(PAYEES + gone);
        let snapshot = || {
            let weights = SchemeKind::Tides.weights(&window, None);
            Snapshot::new(Pin::default(), TERMS, &[0x51], &weights, &scripts, payable)
        };
        group.bench_function(BenchmarkId::new("snapshot", name), |bencher| {
            bencher.iter(|| black_box(snapshot()))
        });
        answers(&mut group, name, &snapshot(), true);
    }
    let weights = SchemeKind::Tides.weights(&window, None);
    let snapshot = Snapshot::new(Pin::default(), TERMS, &[0x51], &weights, &scripts(PAYEES), |_| 0);
    answers(&mut group, "without_balances", &snapshot, false);
    group.finish();
}

fn answers(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, snapshot: &Snapshot, with_balances: bool) {
    let key = ChannelKey::from_bytes([1; 32]);
    let mut outbound = Outbound::gateway(1, &[2; 32]);
    // As a shard has it: one buffer for all that is said.
    let mut out = Vec::new();
    let outputs = snapshot.payouts(VALUE, with_balances).len();
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

criterion_group!(benches, books);
criterion_main!(benches);
