//! The thread that writes over places: the disk may take its time, and nobody waits for it.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::file::PlaceFile;
use super::seal::Place;
use crate::ledger::error::LedgerError;
use crate::telemetry::LedgerTelemetry;

/// What comes within this shares a sync: in a storm of handshakes a sync for each would stand in the way of the ledger's own.
const GATHER: Duration = Duration::from_millis(20);

pub(super) struct Wiper {
    /// The thread ends when it is gone and all orders are carried out. There are never more places in it than in the file.
    orders: Option<Sender<Vec<u32>>>,
    fresh: Arc<Fresh>,
    thread: Option<JoinHandle<()>>,
}

impl Wiper {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(file: PlaceFile, telemetry: Arc<LedgerTelemetry>) -> Result<Self, LedgerError> {
        let (orders, ordered) = unbounded();
        let fresh = Arc::new(Fresh::default());
        let made = fresh.clone();
        let thread = std::thread::Builder::new()
            .name("channel-keys".into())
            .spawn(move || run(&file, &ordered, &made, &telemetry))
            .map_err(LedgerError::Thread)?;
        Ok(Self {
            orders: Some(orders),
            fresh,
            thread: Some(thread),
        })
    }

    /// Has these places written over; they come back by [`Self::take_fresh`].
    pub fn renew(&self, places: Vec<u32>) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(places);
        }
    }

    /// What has been written over since, where that can be had without waiting.
    pub fn take_fresh(&self) -> Vec<Place> {
        match self.fresh.0.try_lock() {
            Ok(mut fresh) => std::mem::take(&mut *fresh),
            Err(TryLockError::Poisoned(fresh)) => std::mem::take(&mut *fresh.into_inner()),
            Err(TryLockError::WouldBlock) => Vec::new(),
        }
    }
}

impl Drop for Wiper {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Places that are ready, on their way to the ledger's writer. Not a channel: who takes from one spins while the other side is
/// in the midst of a send, and this thread, which lost its core to the writer just then, may get it back milliseconds later.
#[derive(Default)]
struct Fresh(Mutex<Vec<Place>>);

fn run(file: &PlaceFile, orders: &Receiver<Vec<u32>>, fresh: &Fresh, telemetry: &LedgerTelemetry) {
    while let Ok(mut places) = orders.recv() {
        std::thread::sleep(GATHER);
        places.extend(orders.try_iter().flatten());
        match file.renew(places) {
            Ok(made) => fresh.0.lock().unwrap_or_else(PoisonError::into_inner).extend(made),
            Err(error) => {
                // They are given to nobody; the next start writes over them.
                telemetry.channel_key_wipe_failures.add(1);
                tracing::error!(%error, "channel keys that are not needed any more could not be wiped");
            }
        }
    }
}
