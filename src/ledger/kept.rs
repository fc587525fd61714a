//! How far back the log is kept share by share. What is older is known as hourly work.

use rocksdb::DB;
use serde::Serialize;

use super::books::Window;
use super::error::{Damage, LedgerError};
use super::fields::Fields;
use super::schema::meta;

const VERSION: u8 = 1;

const WHAT: &str = "kept";

/// The row `kept` of the family `default`. Chunks that lie before it may still be on disk, and count for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Kept {
    /// The sequence of the first share that is kept, which begins a chunk. As many are gone.
    pub from: u64,
    /// Shares that the log had, gone ones too, when the last of them went: what was pinned behind it saw the log as it
    /// is now.
    pub log_end: u64,
    /// The sum of `2^pot` of those that are gone.
    pub work_gone: u128,
    /// When the last of them went, ms since 1970; 0 while all are kept.
    pub time_ms: u64,
}

/// Shares of a window are no longer kept, so nobody can say who had which part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "shares are kept from sequence {kept_from} on, and the window that ends before share {end} reaches further back: what \
     is older is known as hourly work alone (`ledger.keep_days`)"
)]
pub struct WindowGone {
    pub kept_from: u64,
    pub end: u64,
}

impl Kept {
    /// Whether a window that was read again is as it was. One that was short already is; one that has become short since
    /// is not.
    ///
    /// # Errors
    /// Shares of it are gone.
    pub(super) fn check(&self, window: &Window) -> Result<(), WindowGone> {
        if window.is_short() && window.end() < self.log_end {
            return Err(WindowGone {
                kept_from: self.from,
                end: window.end(),
            });
        }
        Ok(())
    }

    /// `version u8 | from u64 | log_end u64 | work_gone u128 | time_ms u64`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        row.extend_from_slice(&self.from.to_le_bytes());
        row.extend_from_slice(&self.log_end.to_le_bytes());
        row.extend_from_slice(&self.work_gone.to_le_bytes());
        row.extend_from_slice(&self.time_ms.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields::new(WHAT, row);
        fields.version(VERSION)?;
        let kept = Self {
            from: fields.u64()?,
            log_end: fields.u64()?,
            work_gone: fields.u128()?,
            time_ms: fields.u64()?,
        };
        if kept.from > kept.log_end {
            return Err(fields.bad("first share"));
        }
        fields.end()?;
        Ok(kept)
    }

    /// As the ledger has it; a ledger of this schema always has it.
    pub(super) fn read(db: &DB) -> Result<Self, LedgerError> {
        let row = db.get_pinned(meta::KEPT)?.ok_or(Damage::Short { what: WHAT })?;
        Ok(Self::decode(&row)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_back(from: u64, more: u64, work_gone: u128, time_ms: u64) {
            let kept = Kept { from, log_end: from.saturating_add(more), work_gone, time_ms };
            prop_assert_eq!(Kept::decode(&kept.encode()), Ok(kept));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = Kept::decode(&bytes);
            let _ = Kept::decode(&[&[VERSION], &bytes[..]].concat());
        }
    }
}
