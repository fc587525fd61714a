//! What nodes say of blocks of ours that are submitted to them.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::rpc::RpcError;
use super::templates::says_nothing;
use crate::ledger::{SubmissionRow, Submitted, unix_ms};
use crate::telemetry::NodeTelemetry;

/// Words on one block that a process writes down: some of each node's, whatever becomes of the block.
const WRITTEN_MAX: usize = 64;

/// A node's word (BIP 22), or why it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub outcome: Submitted,
    /// As the node said it; empty where the block is its tip now.
    pub words: String,
}

impl Word {
    pub fn of(answer: Result<Option<String>, RpcError>) -> Self {
        let (outcome, words) = match answer {
            Ok(None) => (Submitted::Accepted, String::new()),
            Ok(Some(word)) => {
                let outcome = match &*word {
                    "duplicate" => Submitted::Duplicate,
                    "inconclusive" | "duplicate-inconclusive" => Submitted::Inconclusive,
                    // Not the last word: it lacks the parent yet, or its clock is behind.
                    other if says_nothing(other) => Submitted::Undecided,
                    _ => Submitted::Rejected,
                };
                (outcome, word)
            }
            Err(error) => (Submitted::Unanswered, error.to_string()),
        };
        Self { outcome, words }
    }

    /// Whether the node has the block, in its best chain or beside it.
    pub fn has_it(&self) -> bool {
        match self.outcome {
            Submitted::Accepted | Submitted::Duplicate | Submitted::Inconclusive => true,
            Submitted::Rejected | Submitted::Undecided | Submitted::Unanswered => false,
        }
    }

    pub fn count(&self, telemetry: &NodeTelemetry) {
        match self.outcome {
            Submitted::Accepted => {}
            Submitted::Duplicate => telemetry.blocks_duplicate.add(1),
            Submitted::Inconclusive => telemetry.blocks_inconclusive.add(1),
            Submitted::Rejected => telemetry.blocks_refused.add(1),
            Submitted::Undecided | Submitted::Unanswered => {}
        }
        if self.has_it() {
            telemetry.blocks_taken.add(1);
        }
    }
}

/// The words on one block as far as this process has heard them.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// By node, the last.
    last: HashMap<SocketAddr, Word>,
    written: usize,
}

impl Words {
    /// Whether it is another than this node's last.
    pub fn is_new(&self, node: SocketAddr, word: &Word) -> bool {
        self.last.get(&node) != Some(word)
    }

    /// The last of each node that does not have it.
    pub fn not_taken(&self) -> String {
        let mut words: Vec<_> = self.last.iter().filter(|(_, word)| !word.has_it()).collect();
        words.sort_by_key(|(node, _)| **node);
        let words: Vec<_> = words
            .into_iter()
            .map(|(node, word)| format!("{node}: {}", word.words))
            .collect();
        words.join("; ")
    }

    /// Hears one. Gives what is to be written down: one that differs from the node's last. A block that no node takes is offered
    /// some hundred times.
    pub fn hear(&mut self, block: [u8; 32], node: SocketAddr, word: &Word) -> Option<SubmissionRow> {
        if !self.is_new(node, word) {
            return None;
        }
        self.last.insert(node, word.clone());
        if self.written == WRITTEN_MAX {
            return None;
        }
        self.written += 1;
        Some(SubmissionRow::new(block, unix_ms(), node, word.outcome, &word.words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(word: &str) -> Word {
        Word::of(Ok(Some(word.to_owned())))
    }

    #[test]
    fn words_are_told_apart() {
        assert_eq!(Word::of(Ok(None)).outcome, Submitted::Accepted);
        for (word, outcome, has_it) in [
            ("duplicate", Submitted::Duplicate, true),
            ("inconclusive", Submitted::Inconclusive, true),
            ("duplicate-inconclusive", Submitted::Inconclusive, true),
            ("bad-prevblk", Submitted::Undecided, false),
            ("duplicate-invalid", Submitted::Rejected, false),
            ("bad-cb-amount", Submitted::Rejected, false),
        ] {
            assert_eq!((said(word).outcome, said(word).has_it()), (outcome, has_it), "{word}");
            assert_eq!(said(word).words, word);
        }
        let silent = Word::of(Err(RpcError::Refused));
        assert!(
            silent.outcome == Submitted::Unanswered && silent.words.contains("login"),
            "{silent:?}"
        );
    }

    #[test]
    fn a_word_said_again_is_written_once_and_their_number_is_bounded() {
        let node = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut words = Words::default();
        let row = words.hear([1; 32], node(1), &said("bad-prevblk")).expect("the first");
        assert_eq!(
            (row.node, row.outcome, row.words()),
            (node(1), Submitted::Undecided, "bad-prevblk")
        );
        assert_eq!(words.hear([1; 32], node(1), &said("bad-prevblk")), None);
        assert!(
            words.hear([1; 32], node(2), &said("bad-prevblk")).is_some(),
            "another's"
        );
        assert_eq!(words.not_taken(), "127.0.0.1:1: bad-prevblk; 127.0.0.1:2: bad-prevblk");
        assert!(words.hear([1; 32], node(1), &Word::of(Ok(None))).is_some());
        assert_eq!(words.not_taken(), "127.0.0.1:2: bad-prevblk");
        let more = (0..200).filter(|n| words.hear([1; 32], node(1), &said(&n.to_string())).is_some());
        assert_eq!(more.count(), WRITTEN_MAX - 3);
    }
}
