//! The thread that writes over places: the disk may take its time, and nobody waits for it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::file::PlaceFile;
use super::seal::Place;
use crate::ledger::error::LedgerError;
use crate::telemetry::LedgerTelemetry;

/// At least so long from one sync to the next: what comes meanwhile shares it, so that a storm of sessions does not take the disk
/// from those that mine.
const REST: Duration = Duration::from_millis(50);

pub(super) struct Wiper {
    /// The thread ends when it is gone and all orders are carried out. There are never more places in it than in the file.
    orders: Option<Sender<Vec<u32>>>,
    fresh: Receiver<Place>,
    thread: Option<JoinHandle<()>>,
}

impl Wiper {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(file: PlaceFile, telemetry: Arc<LedgerTelemetry>) -> Result<Self, LedgerError> {
        let (orders, ordered) = unbounded();
        let (done, fresh) = unbounded();
        let thread = std::thread::Builder::new()
            .name("channel-keys".into())
            .spawn(move || run(&file, &ordered, &done, &telemetry))
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

    pub fn take_fresh(&self) -> Option<Place> {
        self.fresh.try_recv().ok()
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

fn run(file: &PlaceFile, orders: &Receiver<Vec<u32>>, done: &Sender<Place>, telemetry: &LedgerTelemetry) {
    let mut synced = None;
    while let Ok(mut places) = orders.recv() {
        // Whoever stops does not wait for it.
        while let Ok(more) = orders.recv_deadline(synced.map_or_else(Instant::now, |synced: Instant| synced + REST)) {
            places.extend(more);
        }
        match file.renew(places) {
            Ok(fresh) => fresh.into_iter().for_each(|place| {
                let _ = done.send(place);
            }),
            Err(error) => {
                // They are given to nobody; the next start writes over them.
                telemetry.channel_key_wipe_failures.add(1);
                tracing::error!(%error, "channel keys that are not needed any more could not be wiped");
            }
        }
        synced = Some(Instant::now());
    }
}
