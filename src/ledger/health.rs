//! Whether the ledger can still be written: what the control plane watches.

use std::sync::{Arc, OnceLock};

/// Shared with the writer; any thread may ask.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    low: OnceLock<(u64, u64)>,
    failure: OnceLock<String>,
}

/// What the pool must do follows from this alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthState {
    Good,
    /// The disk has reached its floor (bytes): drain, while what is under way can still be written.
    DiskLow {
        free: u64,
        floor: u64,
    },
    /// A write failed: the end of the log is unknown, and nothing under way may be answered.
    Failed(String),
}

impl Health {
    #[must_use]
    pub fn state(&self) -> HealthState {
        if let Some(error) = self.0.failure.get() {
            return HealthState::Failed(error.clone());
        }
        match self.0.low.get() {
            Some(&(free, floor)) => HealthState::DiskLow { free, floor },
            None => HealthState::Good,
        }
    }

    /// The first failure is the one that counts.
    pub(super) fn fail(&self, error: String) {
        let _ = self.0.failure.set(error);
    }

    pub(super) fn disk_is_low(&self, free: u64, floor: u64) {
        let _ = self.0.low.set((free, floor));
    }
}
