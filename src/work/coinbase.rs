//! A coinbase section: its rebuilt hash per share, and the proof of its form, made once.
//!
//! What varies between the shares of a section are the pot byte, the 12 extranonce bytes and, in a quick change of
//! difficulty, the two bytes before them. The proof shows that these lie in the 7-byte push and in the 14-byte push
//! or the one `6a 0e` output, so nothing that was proved once can change.

mod form;

pub(super) use self::form::{COMMITMENT_START, Form, Parser, is_tagged};
use super::sha256d::{self, BLOCK_LEN, START, State};
use crate::wire::{COINB1_MAX, COINB2_MAX, CoinbaseSection, EXTRANONCE_LEN, Reason};

/// The largest coinbase that is rebuilt, in bytes.
pub(super) const COINBASE_MAX: usize = COINB1_MAX + EXTRANONCE_LEN + COINB2_MAX;

/// What stands before an extranonce in a quick change of difficulty, and in its place where it stood there already.
const QUICKDIFF: [[u8; 2]; 2] = [[0x44, 0x51], [0xbb, 0xae]];

/// One section as it was sent, ready to be hashed.
#[derive(Debug, Clone)]
pub(super) struct Coinbase {
    /// The transaction with room for the extranonce, padded to whole blocks as SHA-256 wants it.
    padded: Vec<u8>,
    len: usize,
    /// Where the extranonce begins.
    extranonce_at: usize,
    /// The two bytes before it as they were sent.
    prefix: [u8; 2],
    /// Where the content of the 7-byte push begins in what was sent; none where there is no such push. In a
    /// transaction that was rebuilt a misplaced pot may hide it, or make one.
    prime_push: Option<usize>,
    /// The blocks before the first that holds bytes of the extranonce or its prefix, hashed with the pot noted.
    midstate: Option<(u8, State)>,
}

impl Coinbase {
    /// # Errors
    /// Reason 17: it rebuilds to more than the protocol allows.
    pub fn new(section: &CoinbaseSection<'_>) -> Result<Self, Reason> {
        let len = section.coinb1.len() + EXTRANONCE_LEN + section.coinb2.len();
        if len > COINBASE_MAX {
            return Err(Reason::CoinbaseTooLarge);
        }
        let mut padded = Vec::with_capacity(sha256d::padded_len(len));
        padded.extend_from_slice(section.coinb1);
        padded.extend_from_slice(&[0; EXTRANONCE_LEN]);
        padded.extend_from_slice(section.coinb2);
        let prime_push = Parser { bytes: &padded, at: 0 }
            .up_to_prime_push()
            .ok()
            .map(|start| start.prime_push);
        sha256d::pad(&mut padded);
        Ok(Self {
            padded,
            len,
            extranonce_at: section.coinb1.len(),
            // Without two bytes before it there is no place for them to stand, and no form that is proved.
            prefix: section.coinb1.last_chunk().copied().unwrap_or_default(),
            prime_push,
            midstate: None,
        })
    }

    /// Bytes that the transaction takes.
    pub fn kept_bytes(&self) -> usize {
        self.padded.len()
    }

    /// Whether the pot byte can stand at `target_index`.
    pub fn holds_target(&self, target_index: usize) -> bool {
        target_index < self.extranonce_at
    }

    /// Rebuilds the transaction of one share (protocol section 5) and hashes it: the first leaf of the merkle tree.
    /// `target_index` was checked by [`Self::holds_target`].
    pub fn hash(
        &mut self,
        target_index: usize,
        pot: u8,
        quickdiff: bool,
        extranonce: &[u8; EXTRANONCE_LEN],
    ) -> [u8; 32] {
        let at = self.extranonce_at;
        self.padded[at..at + EXTRANONCE_LEN].copy_from_slice(extranonce);
        let sent = self.prefix;
        if let Some(prefix) = self.prefix_mut() {
            *prefix = sent;
        }
        self.padded[target_index] = pot;
        if quickdiff && let Some(prefix) = self.prefix_mut() {
            let [usual, instead] = QUICKDIFF;
            *prefix = if *prefix == usual { instead } else { usual };
        }

        let (blocks, _) = self.padded.as_chunks::<BLOCK_LEN>();
        let constant = at.saturating_sub(2) / BLOCK_LEN;
        // A pot that lies behind the constant blocks leaves them alone.
        let mut state = match self.midstate {
            Some((of_pot, state)) if of_pot == pot => state,
            _ => {
                let mut state = START;
                sha256d::absorb(&mut state, &blocks[..constant]);
                self.midstate = Some((pot, state));
                state
            }
        };
        sha256d::absorb(&mut state, &blocks[constant..]);
        sha256d::finish(&state)
    }

    /// The two bytes before the extranonce, where there are two.
    fn prefix_mut(&mut self) -> Option<&mut [u8; 2]> {
        self.padded[..self.extranonce_at].last_chunk_mut()
    }

    /// The transaction as [`Self::hash`] last rebuilt it.
    pub fn transaction(&self) -> &[u8] {
        &self.padded[..self.len]
    }
}
