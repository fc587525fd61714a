//! The ledger as a whole: entries pushed by shards, read back beside the writer, after it, and after a crash.

mod audit;
mod booking;
mod bundle;
mod durability;
mod formed;
mod growth;
mod history;
mod mined;
mod reading;
mod reloads;
mod restart;
mod sessions;
mod submissions;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

use tempfile::TempDir;

use super::books::{self, SchemeKind, SplitTerms};
use super::schema;
use super::{
    Entry, Housekeeping, Ledger, LedgerOptions, LedgerReader, Mark, MinerRow, RestoredGateway, SessionMark, SessionRow,
    ShardLedger, ShareEntry, ShareRecord, Stats, Writer, WriterOptions, monotonic_ns, stats, verify,
};
use crate::telemetry::LedgerTelemetry;
use crate::wire::{ChannelKey, PublicKeys};
use crate::work::{MinDiff, Terms};

const NOW_S: u64 = 1_800_000_000;
const RING: usize = 256;
const ENDED: Mark = Mark::Ended { has_work: true };

fn options() -> LedgerOptions {
    LedgerOptions {
        chain: "dev",
        first_prime_id: 1,
        disk_floor_bytes: 0,
        resume_for_s: 3_600,
        gateways_max: 65_536,
        now_s: NOW_S,
        terms: books::Terms {
            scheme: SchemeKind::Tides,
            split: SplitTerms {
                fee_ppm: 0,
                minimum: 10_000,
            },
            difficulty: 1 << 20,
        },
        own_script: vec![0x51],
    }
}

/// A ledger that is served, and a shard's ends of it.
struct Served {
    writer: Writer,
    shards: Vec<Shard>,
    restored: Vec<RestoredGateway>,
    telemetry: Arc<LedgerTelemetry>,
}

struct Shard {
    ledger: ShardLedger,
    pushed: u64,
    miners: u32,
}

impl Served {
    fn open(data_dir: &Path, shards: usize) -> Self {
        Self::open_with(data_dir, shards, &options(), Housekeeping::keep_days(90))
    }

    fn open_with(data_dir: &Path, shards: usize, options: &LedgerOptions, housekeeping: Housekeeping) -> Self {
        let mut ledger = Ledger::open(data_dir, options).expect("a ledger");
        let restored = ledger.take_restored();
        let telemetry = Arc::<LedgerTelemetry>::default();
        let options = WriterOptions {
            shards,
            ring_entries: RING,
            core: None,
            telemetry: telemetry.clone(),
            own_script: vec![0x51],
            found: None,
            housekeeping,
        };
        let (writer, ledgers) = Writer::start(ledger, options).expect("a thread");
        let shards = ledgers
            .into_iter()
            .map(|ledger| Shard {
                ledger,
                pushed: 0,
                miners: 0,
            })
            .collect();
        Self {
            writer,
            shards,
            restored,
            telemetry,
        }
    }

    /// Waits until all that was pushed is on disk.
    fn settle(&mut self) {
        self.shards.iter_mut().for_each(Shard::settle);
    }

    fn stop(mut self) {
        self.shards.clear();
        self.writer.stop();
    }
}

impl Shard {
    fn push(&mut self, entry: Entry) {
        if self.pushed - self.ledger.durable() == RING as u64 {
            self.settle();
        }
        self.ledger.push(entry).expect("room");
        self.pushed += 1;
        self.ledger.wake_writer();
    }

    fn settle(&mut self) {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        self.ledger
            .register(&Waker::from(Arc::new(Unpark(std::thread::current()))));
        while self.ledger.durable() < self.pushed {
            assert!(!self.ledger.failed());
            std::thread::park();
        }
        assert_eq!(self.ledger.durable(), self.pushed);
    }

    fn session(&mut self, gateway: u8, prime_id: u32) {
        self.push(Entry::session(session(gateway, prime_id)));
        let key = Box::new(ChannelKey::from_bytes([gateway; 32]));
        self.mark(
            prime_id,
            Mark::Proven {
                key,
                replaces: None,
                adopts: Vec::new(),
            },
        );
    }

    fn mark(&mut self, prime_id: u32, mark: Mark) {
        let time_ms = NOW_S * 1_000;
        self.push(Entry::Mark(SessionMark {
            prime_id,
            mark,
            time_ms,
        }));
    }

    fn miner(&mut self, payee: u8, worker: &str) -> u32 {
        self.miner_of(&[payee; 22], worker)
    }

    fn miner_of(&mut self, script: &[u8], worker: &str) -> u32 {
        let row = MinerRow {
            script: script.into(),
            worker: worker.as_bytes().into(),
        };
        let local = self.miners;
        self.miners += 1;
        self.push(Entry::Miner {
            local,
            miner: Box::new(row),
        });
        local
    }

    fn share(&mut self, miner: u32, prime_id: u32, hash64: u64) {
        self.push(Entry::Share(share(miner, prime_id, hash64)));
    }
}

fn share(miner: u32, prime_id: u32, hash64: u64) -> ShareEntry {
    ShareEntry {
        prime_id,
        hash64,
        parent: [9; 32],
        pot: u8::try_from(hash64 % 5).expect("small"),
        miner,
        time_ms: NOW_S * 1_000,
        enqueued_ns: monotonic_ns(),
    }
}

fn session(gateway: u8, prime_id: u32) -> SessionRow {
    let keys = PublicKeys {
        ed25519: [gateway; 32],
        x25519: [!gateway; 32],
    };
    let terms = Terms::new(prime_id, &[0x51], b"tag", MinDiff::new(1).expect("a power of two"));
    SessionRow::new(&keys, &terms, NOW_S * 1_000)
}

fn logged(data_dir: &Path) -> Vec<ShareRecord> {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let shares = reader.shares(0).expect("a log");
    (0..)
        .zip(shares)
        .map(|(at, share)| {
            share.map(|(sequence, share)| {
                assert_eq!(sequence, at);
                share
            })
        })
        .collect::<Result<_, _>>()
        .expect("a sound log")
}

fn hashes(data_dir: &Path) -> Vec<u64> {
    logged(data_dir).iter().map(|share| share.hash64).collect()
}

fn count(data_dir: &Path) -> Stats {
    stats(&LedgerReader::open(data_dir).expect("a ledger")).expect("counts")
}

fn assert_sound(data_dir: &Path) {
    let findings = verify(&LedgerReader::open(data_dir).expect("a ledger")).expect("a walk");
    assert!(findings.is_sound(), "{:#?}", findings.problems);
}

/// The data folder as it lies on disk while its writer rests: what a kill -9 would leave.
fn copy_of(data_dir: &Path) -> TempDir {
    let from = schema::path(data_dir);
    // A database that is open makes and removes files meanwhile: what was copied then is no moment's.
    loop {
        let copy = TempDir::new().expect("a folder");
        let to = schema::path(copy.path());
        fs::create_dir_all(&to).expect("a folder");
        let before = names(&from);
        let all_were_there = before
            .iter()
            .all(|name| fs::copy(from.join(name), to.join(name)).is_ok());
        if all_were_there && names(&from) == before {
            return copy;
        }
    }
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name != "LOCK").collect()
}
