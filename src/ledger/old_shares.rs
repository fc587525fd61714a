//! The log as the window reads it again.

use rocksdb::DB;

use super::books::{OldShares, Work};
use super::error::LedgerError;
use super::reader;
use super::record::ShareRecord;

impl OldShares for &DB {
    fn from(&mut self, from: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        Ok(Box::new(reader::shares(self, from)?.map(work)))
    }

    fn before(&mut self, before: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
        Ok(Box::new(reader::shares_before(self, before).map(work)))
    }
}

fn work(share: Result<(u64, ShareRecord), LedgerError>) -> Result<Work, LedgerError> {
    let (_, share) = share?;
    Ok(Work {
        payee: share.payee,
        pot: share.pot,
    })
}
