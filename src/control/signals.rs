//! SIGTERM and SIGINT, which stop the pool, and SIGUSR2, which has another process take its place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The two signals that stop the pool, caught from when this was made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Call within a runtime.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for either.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT; another one ends the process at once"),
        }
    }
}

/// Whether SIGTERM has come: also while the pool drains, when nobody waits for a signal any more.
#[derive(Debug, Clone, Default)]
pub struct ToldToStop(Arc<AtomicBool>);

impl ToldToStop {
    pub(super) fn catch() -> io::Result<Self> {
        let told = Self::default();
        signal_hook::flag::register(libc::SIGTERM, told.0.clone())?;
        Ok(told)
    }

    #[must_use]
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// SIGUSR2, caught from when this was made.
pub(super) struct RestartSignal(Signal);

impl RestartSignal {
    /// Call within a runtime.
    pub fn catch() -> io::Result<Self> {
        signal(SignalKind::user_defined2()).map(Self)
    }

    /// Waits for it.
    pub async fn asked(&mut self) {
        self.0.recv().await;
        tracing::info!("SIGUSR2: looking whether the binary and its configuration would start");
    }
}

/// Gives SIGINT its usual effect back: who presses Ctrl-C again does not want to wait for the drain. What was
/// acknowledged is on disk all the same.
pub(super) fn let_interrupt_end_the_process() {
    // SAFETY: `signal` with `SIG_DFL` installs no function of ours, and touches no memory.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
}
