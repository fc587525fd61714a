//! A tip at which all gateways ask for a split: what the gateways saw, and what became of the shares beside it.

use millrace::wire::OUTPUTS_MAX;
use serde::Serialize;

use crate::scrape::Buckets;

/// The requests of one thread, or of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub requests: u64,
    pub answers: u64,
    /// Answers with as many outputs as a split can have.
    pub full: u64,
    /// Not answered in the 5 s that a gateway waits.
    pub late: u64,
    /// When the first request left and the last answer came, ns of the run.
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            requests: 0,
            answers: 0,
            full: 0,
            late: 0,
            first_ns: u64::MAX,
            last_ns: 0,
        }
    }
}

impl Asked {
    pub fn asked(&mut self, now_ns: u64) {
        self.requests += 1;
        self.first_ns = self.first_ns.min(now_ns);
    }

    pub fn answered(&mut self, outputs: u64, now_ns: u64) {
        self.answers += 1;
        self.full += u64::from(outputs == OUTPUTS_MAX as u64);
        self.last_ns = self.last_ns.max(now_ns);
    }

    /// Takes another thread's in.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answers += other.answers;
        self.full += other.full;
        self.late += other.late;
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

/// The figures of a tip.
#[derive(Debug, Serialize)]
pub struct AtTip {
    pub requests: u64,
    pub answers: u64,
    pub full: u64,
    pub late: u64,
    /// Neither answered nor waited for in vain: their connection ended.
    pub lost: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Shares that the pool answered meanwhile.
    pub shares: Option<Meanwhile>,
}

/// How long shares took, frame to answer, by the pool's own buckets: each quantile is the end of its bucket, in ms.
#[derive(Debug, Serialize)]
pub struct Meanwhile {
    pub count: u64,
    pub p50_at_most: f64,
    pub p99_at_most: f64,
}

impl AtTip {
    /// None where nobody asked. `buckets`: the pool's before the first request and after the last answer.
    pub fn new(asked: &Asked, buckets: Option<(Buckets, Buckets)>) -> Option<Self> {
        (asked.requests > 0).then(|| Self {
            requests: asked.requests,
            answers: asked.answers,
            full: asked.full,
            late: asked.late,
            lost: asked.requests - asked.answers - asked.late,
            seconds: asked.last_ns.saturating_sub(asked.first_ns) as f64 / 1e9,
            shares: buckets.map(|(before, after)| {
                let meanwhile = after.since(&before);
                Meanwhile {
                    count: meanwhile.count(),
                    p50_at_most: meanwhile.quantile_at_most(0.5) * 1e3,
                    p99_at_most: meanwhile.quantile_at_most(0.99) * 1e3,
                }
            }),
        })
    }
}
