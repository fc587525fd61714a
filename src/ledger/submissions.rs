//! What nodes said of blocks of ours that were submitted to them. Beside the books: nothing is booked by it.

use std::net::SocketAddr;

use rocksdb::{DB, IteratorMode};

use super::error::{Damage, LedgerError};
use super::fields::Fields;
use super::schema::{self, family};

/// Bytes of a node's words that are kept.
pub const WORDS_MAX: usize = 256;

/// The layout of a row.
const VERSION: u8 = 1;

const WHAT: &str = schema::SUBMISSIONS;

/// One node's word on one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionRow {
    /// The block, as hashed.
    pub block: [u8; 32],
    /// When it was said, ms since 1970.
    pub time_ms: u64,
    /// Where the node answers.
    pub node: SocketAddr,
    pub outcome: Submitted,
    words: Box<str>,
}

/// What comes of submitting a block to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It is the node's tip now.
    Accepted,
    /// The node had it already.
    Duplicate,
    /// The node has it, beside its best chain.
    Inconclusive,
    Rejected,
    /// Not the node's last word: it lacks the parent yet, say.
    Undecided,
    /// The node has no word on it: it cannot be reached, or says something else.
    Unanswered,
}

impl SubmissionRow {
    /// Of the words so many bytes are kept as [`WORDS_MAX`] says, in one line.
    #[must_use]
    pub fn new(block: [u8; 32], time_ms: u64, node: SocketAddr, outcome: Submitted, words: &str) -> Self {
        let end = words.floor_char_boundary(WORDS_MAX);
        let line = words[..end].replace(char::is_control, " ");
        Self {
            block,
            time_ms,
            node,
            outcome,
            // Some characters that are replaced are longer than what they become.
            words: line.into(),
        }
    }

    /// As the node said them; of one that did not answer, why. May be empty.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// `block 32 | when u64 | the node's address, as text`, so that those of a block lie together in their order.
    pub(super) fn key(&self) -> Vec<u8> {
        let node = self.node.to_string();
        [&self.block[..], &self.time_ms.to_be_bytes(), node.as_bytes()].concat()
    }

    /// `version u8 | outcome u8 | words, UTF-8`.
    pub(super) fn value(&self) -> Vec<u8> {
        [&[VERSION, self.outcome as u8], self.words.as_bytes()].concat()
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields::new(WHAT, key);
        let block = fields.array()?;
        let time_ms = u64::from_be_bytes(fields.array()?);
        let node = std::str::from_utf8(fields.rest())
            .ok()
            .and_then(|node| node.parse().ok());
        let node = node.ok_or_else(|| fields.bad("node"))?;
        let mut fields = Fields::new(WHAT, value);
        fields.version(VERSION)?;
        let outcome = usize::from(fields.u8()?);
        let outcome = Submitted::ALL.get(outcome).ok_or_else(|| fields.bad("outcome"))?;
        let words = std::str::from_utf8(fields.rest())
            .ok()
            .filter(|words| words.len() <= WORDS_MAX);
        Ok(Self {
            block,
            time_ms,
            node,
            outcome: *outcome,
            words: words.ok_or_else(|| fields.bad("words"))?.into(),
        })
    }
}

impl Submitted {
    /// Each at the number that it has on disk.
    const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Inconclusive,
        Self::Rejected,
        Self::Undecided,
        Self::Unanswered,
    ];

    /// For people and programs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Inconclusive => "inconclusive",
            Self::Rejected => "rejected",
            Self::Undecided => "undecided",
            Self::Unanswered => "unanswered",
        }
    }
}

/// By block, and the oldest of each first.
pub(super) fn submissions(db: &DB) -> impl Iterator<Item = Result<SubmissionRow, LedgerError>> + use<'_> {
    db.iterator_cf(family(db, schema::SUBMISSIONS), IteratorMode::Start)
        .map(|row| {
            let (key, value) = row?;
            Ok(SubmissionRow::decode(&key, &value)?)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Submitted, words: &str) -> SubmissionRow {
        let node = "[::1]:8332".parse().expect("an address");
        SubmissionRow::new([7; 32], 1_700_000_000_123, node, outcome, words)
    }

    #[test]
    fn a_word_reads_back_and_what_no_pool_wrote_is_damage() {
        for (number, outcome) in Submitted::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
            let row = row(outcome, "bad-cb-amount");
            assert_eq!(SubmissionRow::decode(&row.key(), &row.value()), Ok(row));
        }
        let good = row(Submitted::Rejected, "w");
        let damaged = |key: &[u8], value: &[u8]| SubmissionRow::decode(key, value).is_err();
        assert!(damaged(&good.key()[..39], &good.value()));
        assert!(damaged(&[&good.key()[..], b"x"].concat(), &good.value()));
        assert!(damaged(&good.key(), &[VERSION, 6]));
        assert!(damaged(&good.key(), &[VERSION + 1, 0]));
        assert!(damaged(&good.key(), &[VERSION, 0, 0xff]));
        assert!(damaged(&good.key(), &[]));
    }

    #[test]
    fn words_are_one_line_within_a_bound() {
        assert_eq!(row(Submitted::Rejected, "a\nb\u{1b}[31m").words(), "a b [31m");
        let long = row(Submitted::Rejected, &"\u{e9}x".repeat(WORDS_MAX));
        assert_eq!(long.words().len(), WORDS_MAX - 1, "no half of a character");
        assert_eq!(SubmissionRow::decode(&long.key(), &long.value()), Ok(long));
    }
}
