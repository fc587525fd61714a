//! The books against a model that is plain, slow and obviously right.

mod accounts;
pub(in crate::ledger) mod history;
pub(in crate::ledger) mod model;
mod scheme;
mod split;
mod window;

use std::sync::Arc;

use super::*;
use crate::ledger::LedgerError;

/// The log in memory.
struct Log(Vec<Work>);

impl OldShares for Log {
    fn from(&mut self, from: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        Ok(Box::new(self.0.iter().skip(at(from)).copied().map(Ok)))
    }

    fn before(&mut self, before: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        Ok(Box::new(self.0[..at(before)].iter().rev().copied().map(Ok)))
    }
}

/// A sequence as a place in a list.
fn at(sequence: u64) -> usize {
    usize::try_from(sequence).expect("a list in memory")
}

fn share(payee: u32, pot: u8) -> Work {
    Work { payee, pot }
}

/// A window without a limit that gives these weights: a share for each bit.
fn window_of(weights: &[u64]) -> Window {
    let span = Span {
        limit: u128::MAX,
        share_max: u128::MAX,
    };
    let mut log = Log(Vec::new());
    for (payee, weight) in (0..).zip(weights) {
        log.0.extend(
            (0..64)
                .filter(|pot| weight >> pot & 1 == 1)
                .map(|pot| share(payee, pot)),
        );
    }
    Window::at(log.0.len() as u64, span, &mut log).expect("a log in memory")
}

/// The standard types, and one that is as long as gateways take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    PubkeyHash,
    ScriptHash,
    WitnessPubkeyHash,
    WitnessScriptHash,
    Taproot,
    Longest,
}

/// A script of its own for each number; their order is not that of the numbers.
fn script(script_type: Type, number: u32) -> Arc<[u8]> {
    let (head, hash_len, tail): (&[u8], usize, &[u8]) = match script_type {
        Type::PubkeyHash => (&[0x76, 0xa9, 20], 20, &[0x88, 0xac]),
        Type::ScriptHash => (&[0xa9, 20], 20, &[0x87]),
        Type::WitnessPubkeyHash => (&[0x00, 20], 20, &[]),
        Type::WitnessScriptHash => (&[0x00, 32], 32, &[]),
        Type::Taproot => (&[0x51, 32], 32, &[]),
        Type::Longest => (&[0x6a, 62], 62, &[]),
    };
    // Odd, so that no two numbers meet.
    let hash = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
    let hash = hash.iter().cycle().take(hash_len);
    head.iter().chain(hash).chain(tail).copied().collect()
}
