//! Who has a part in a block: one trait, chosen by configuration.

use std::fmt;

use super::window::{Span, Window};

/// How much of the newest work a TIDES window holds, in network difficulties.
const TIDES_DIFFICULTIES: u128 = 8;

/// A rule by which blocks are shared.
pub trait Scheme {
    /// The window at a network difficulty, as shares count it.
    fn span(&self, difficulty: u64) -> Span;

    /// Who has a part in a block. `finder` is the payee of the share that found it; nobody has found one that is only
    /// being dictated.
    fn weights<'a>(&self, window: &'a Window, finder: Option<u32>) -> Weights<'a>;
}

/// Parts of a whole, by payee.
#[derive(Debug)]
pub enum Weights<'a> {
    Window(&'a Window),
    /// By payee, counted elsewhere; `total` is their sum.
    Listed {
        weights: &'a [u128],
        total: u128,
    },
    /// One payee has it all.
    Alone(u32),
    Nobody,
}

impl Weights<'_> {
    #[must_use]
    pub fn of(&self, payee: u32) -> u128 {
        match self {
            Self::Window(window) => window.weights().get(payee as usize).copied().unwrap_or(0),
            Self::Listed { weights, .. } => weights.get(payee as usize).copied().unwrap_or(0),
            Self::Alone(alone) => u128::from(*alone == payee),
            Self::Nobody => 0,
        }
    }

    #[must_use]
    pub fn total(&self) -> u128 {
        match self {
            Self::Window(window) => window.total(),
            Self::Listed { total, .. } => *total,
            Self::Alone(_) => 1,
            Self::Nobody => 0,
        }
    }
}

/// The schemes that there are, as the log names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemeKind {
    /// The newest shares whose work sums to 8 network difficulties.
    Tides,
    /// The newest shares whose work sums to `work`.
    Pplns { work: u64 },
    /// All to the payee whose share found the block.
    Solo,
}

impl fmt::Display for SchemeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tides => f.write_str("TIDES"),
            Self::Pplns { work } => write!(f, "PPLNS over {work} work"),
            Self::Solo => f.write_str("solo"),
        }
    }
}

impl Scheme for SchemeKind {
    fn span(&self, difficulty: u64) -> Span {
        let difficulty = u128::from(difficulty);
        let limit = match self {
            Self::Tides => TIDES_DIFFICULTIES * difficulty,
            Self::Pplns { work } => u128::from(*work),
            Self::Solo => 0,
        };
        Span {
            limit,
            share_max: difficulty,
        }
    }

    fn weights<'a>(&self, window: &'a Window, finder: Option<u32>) -> Weights<'a> {
        match (self, finder) {
            (Self::Tides | Self::Pplns { .. }, _) => Weights::Window(window),
            (Self::Solo, Some(finder)) => Weights::Alone(finder),
            (Self::Solo, None) => Weights::Nobody,
        }
    }
}
