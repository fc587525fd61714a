//! A hash that meets the network target, with all that is needed to make and to book its block.

use super::split::{Payout, Pin, PinnedSplit};
use crate::wire::Reason;

/// Recorded whatever the verdict on it as a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The block's hash as hashed.
    pub hash: [u8; 32],
    /// The block's header.
    pub header: [u8; 80],
    /// The coinbase transaction without its witness.
    pub coinbase: Vec<u8>,
    /// Internal byte order, from the leaf up; none for subsidy-only work.
    pub branches: Vec<[u8; 32]>,
    /// As the job says.
    pub height: u32,
    /// Satoshi, as the job says.
    pub value: u64,
    /// As the job says: transactions beside the coinbase.
    pub tx_count: u32,
    /// The job's slot in the session.
    pub job_id: u8,
    pub coinbase_id: u8,
    /// The share's flags as sent.
    pub flags: u8,
    pub target_pot: u8,
    /// What was said of it as a share.
    pub verdict: Result<(), Reason>,
    pub username: Vec<u8>,
    pub booking: Booking,
    /// The whole split that it is held to, output by output, as its gateway was told. None where there is none, or the gateway
    /// was told too long ago, or has been told too many others since.
    pub dictated: Option<Vec<Payout>>,
}

/// How a candidate comes into the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Booking {
    /// By itself: its coinbase is of our form, and pays our script alone.
    WithoutPayouts,
    /// By itself: its coinbase is of our form, and pays this split or a part of it.
    Pays(PinnedSplit),
    /// By the operator alone: one of the reasons 15, 26, 27 and 28 applies to its coinbase, or another that leaves
    /// unknown what it pays.
    ByHand {
        /// The split that its job was told, whatever the coinbase pays of it. None where none of its value and parent is known.
        told: Option<PinnedSplit>,
    },
}

impl Booking {
    /// The split that its coinbase is held to.
    #[must_use]
    pub fn split(&self) -> Option<PinnedSplit> {
        match *self {
            Self::Pays(split) => Some(split),
            Self::ByHand { told } => told,
            Self::WithoutPayouts => None,
        }
    }

    /// The window that it is shared over ends there, and the terms of there hold: the pin of its split, or, where none is
    /// known, the place in the log where it was recorded.
    #[must_use]
    pub fn pin(&self, place: Pin) -> Pin {
        self.split().map_or(place, |split| split.pin)
    }
}
