//! What can be watched while a run goes on.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::Tally;

/// Where stderr is no terminal, a line this often.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// The figures of all threads as they were last published.
#[derive(Debug, Default)]
pub struct Live(Mutex<Vec<(usize, Figures)>>);

/// What the line shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub online: u64,
    pub in_flight: u64,
    pub accepted: u64,
    pub refused: u64,
    /// Wrong, unasked, or against the protocol.
    pub wrong: u64,
    pub handshakes: u64,
    pub reconnects: u64,
}

impl Live {
    /// Sets the figures of one thread, known by its first gateway. Some twenty times a second.
    pub fn publish(&self, thread: usize, tally: &Tally, online: u64, in_flight: u64) {
        let figures = Figures {
            online,
            in_flight,
            accepted: tally.accepted,
            refused: tally.refused_total(),
            wrong: tally.wrong + tally.unasked + tally.faults,
            handshakes: tally.handshakes,
            reconnects: tally.reconnects,
        };
        let mut threads = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match threads.iter_mut().find(|(known, _)| *known == thread) {
            Some((_, of_thread)) => *of_thread = figures,
            None => threads.push((thread, figures)),
        }
    }

    fn sum(&self) -> Figures {
        let threads = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        threads.iter().fold(Figures::default(), |sum, (_, of_thread)| Figures {
            online: sum.online + of_thread.online,
            in_flight: sum.in_flight + of_thread.in_flight,
            accepted: sum.accepted + of_thread.accepted,
            refused: sum.refused + of_thread.refused,
            wrong: sum.wrong + of_thread.wrong,
            handshakes: sum.handshakes + of_thread.handshakes,
            reconnects: sum.reconnects + of_thread.reconnects,
        })
    }
}

/// The line itself.
pub struct Progress {
    storm: bool,
    bar: Option<ProgressBar>,
    began: Instant,
    printed: Instant,
    looked: Instant,
    before: Figures,
}

impl Progress {
    /// `storm`: gateways connect only once the run has begun.
    pub fn new(storm: bool) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("a good template");
            bar.set_style(style);
            bar
        });
        let now = Instant::now();
        Self {
            storm,
            bar,
            began: now,
            printed: now,
            looked: now,
            before: Figures::default(),
        }
    }

    /// Shows where the run is. `start_ns`: when mining began, if it has.
    pub fn show(&mut self, live: &Live, gateways: u64, start_ns: Option<u64>) {
        let now = Instant::now();
        if self.bar.is_none() && now - self.printed < LINE_EVERY {
            return;
        }
        let figures = live.sum();
        let elapsed = (now - self.looked).as_secs_f64().max(1e-3);
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        let run_s = (now - self.began).as_secs_f64();
        let line = match start_ns {
            None if self.storm => format!("{run_s:5.1} s  making keys for {gateways} gateways"),
            None => format!("{run_s:5.1} s  connecting: {} of {gateways} gateways", figures.online),
            Some(start_ns) => format!(
                "{:5.1} s  {:.0} accepted/s  accepted {}  refused as meant {}  wrong {}  in flight {}  gateways {}  \
                 handshakes {}  reconnects {}",
                run_s - start_ns as f64 / 1e9,
                per_second(figures.accepted, self.before.accepted),
                figures.accepted,
                figures.refused,
                figures.wrong,
                figures.in_flight,
                figures.online,
                figures.handshakes,
                figures.reconnects,
            ),
        };
        (self.before, self.looked, self.printed) = (figures, now, now);
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => eprintln!("{line}"),
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
