//! Gathers a bundle from the ledger, and writes it.

use std::io::{self, Write};

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use thiserror::Error;

use super::format::{self, Booked, CHAIN_MAX, COINBASE_MAX, Head, Kind, POOL_SCRIPTS_MAX, Payee, Share};
use super::seal::Sealer;
use super::{PAYEES_MAX, Privacy};
use crate::ledger::audit::AuditError;
use crate::ledger::books::{Accounts, BlockHash, Scheme, SchemeKind, Settlement, Terms};
use crate::ledger::error::{Damage, LedgerError};
use crate::ledger::ledger_books::{BookedBlock, LedgerBooks, SettleError};
use crate::ledger::reader::{self, LedgerReader};
use crate::ledger::share_log;
use crate::wire::SecretKeys;
use crate::work::{Booking, Payout, PinnedSplit};

/// Why there is no bundle.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the bundle cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("the system has no randomness to salt a bundle with: {0}")]
    NoRandomness(#[from] getrandom::Error),
    #[error("the block's {0} is beyond what a bundle can hold")]
    TooLarge(&'static str),
    #[error("the split was dictated to a script that the log has for no payee's: `millrace ledger audit` names it")]
    Stranger,
}

/// Writes the bundle of a block that is booked. Memory is O(payees), whatever the window.
///
/// # Errors
/// There is no such block, it is not booked, or one of ledger and output fails.
pub fn export<W: Write>(
    reader: &LedgerReader,
    block: &BlockHash,
    privacy: Privacy,
    keys: &SecretKeys,
    out: W,
) -> Result<W, ExportError> {
    let Gathered { head, payees, row_of } = gather(reader, block, privacy)?;
    let count = usize::try_from(head.shares).unwrap_or(usize::MAX);
    let shares = share_log::shares(&reader.db, head.front)?.take(count).map(|share| {
        let (sequence, share) = share?;
        let unknown = Damage::Unknown {
            sequence,
            what: "payee",
            id: share.payee,
        };
        let row = row_of.get(share.payee as usize).copied().flatten();
        Ok::<_, ExportError>(Share {
            row: row.ok_or(LedgerError::from(unknown))?,
            pot: share.pot,
            time_ms: share.time_ms,
            hash64: share.hash64,
        })
    });
    write(out, keys, &head, payees, shares)
}

/// Writes and signs what was gathered.
pub(super) fn write<W: Write, E: From<io::Error>>(
    out: W,
    keys: &SecretKeys,
    head: &Head,
    payees: impl IntoIterator<Item = Payee>,
    shares: impl IntoIterator<Item = Result<Share, E>>,
) -> Result<W, E> {
    let mut content = Sealer::new(out)?;
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    content.write_all(&bytes)?;
    for payee in payees {
        bytes.clear();
        payee.encode(&mut bytes);
        content.write_all(&bytes)?;
    }
    for share in shares {
        content.write_all(&share?.encode())?;
    }
    Ok(content.seal(keys)?)
}

struct Gathered {
    head: Head,
    payees: Vec<Payee>,
    /// By payee of the ledger.
    row_of: Vec<Option<u32>>,
}

fn gather(reader: &LedgerReader, hash: &BlockHash, privacy: Privacy) -> Result<Gathered, ExportError> {
    let db = &reader.db;
    let (place, row) = reader::candidate(db, hash)?.ok_or(AuditError::NotRecorded)?;
    let own_script = reader::script_of_split(db, &row)?;
    let candidate = row.candidate;
    let BookedBlock {
        block,
        settlement,
        pin,
        books,
        before: at_booking,
    } = BookedBlock::load(db, &candidate, place)
        .map_err(AuditError::from)?
        .ok_or(AuditError::NotBooked)?;
    let kind = match candidate.booking {
        Booking::Pays(PinnedSplit { with_balances, .. }) => Kind::Pays { with_balances },
        Booking::WithoutPayouts => Kind::WithoutPayouts,
        Booking::ByHand { told } => Kind::ByHand {
            told: told.map(|split| split.with_balances),
        },
    };
    let terms = *books
        .terms_at(pin.event)
        .ok_or(AuditError::from(SettleError::NoTerms))?;
    let coinbase: Transaction =
        deserialize(&candidate.coinbase).map_err(|_| AuditError::from(SettleError::NoCoinbase))?;
    let finder = match terms.scheme {
        SchemeKind::Solo => books.finder(&candidate.username),
        SchemeKind::Tides | SchemeKind::Pplns { .. } => None,
    };
    let mut salt = [0; 32];
    if privacy == Privacy::Hashed {
        getrandom::fill(&mut salt)?;
    }

    let dictated = candidate.dictated.as_deref().map(|outputs| by_payee(&books, outputs));
    let dictated = dictated.transpose()?;
    let others = finder
        .into_iter()
        .chain(dictated.iter().flatten().map(|(payee, _)| *payee));
    let listed = rows(&books, &terms, &settlement, others);
    let mut row_of = vec![None; books.scripts().len()];
    for (row, payee) in (0..).zip(&listed) {
        row_of[*payee as usize] = Some(row);
    }
    let window = books.window();
    let head = Head {
        by_former_rules: false,
        privacy,
        salt,
        chain: reader.chain()?,
        kind,
        block: *hash,
        pin,
        booked_by: block.settled_by,
        terms,
        value: candidate.value,
        own_script,
        pool_scripts: books
            .pool_scripts()
            .filter(|own| {
                let mut paid = coinbase.output.iter();
                paid.any(|output| output.script_pubkey.as_bytes() == *own)
            })
            .map(Box::from)
            .collect(),
        header: candidate.header,
        branches: candidate.branches,
        coinbase: candidate.coinbase,
        booked: Booked {
            value: settlement.value,
            to_pool: settlement.to_pool,
            fee: settlement.fee,
        },
        finder: finder.and_then(|finder| row_of[finder as usize]),
        payees: u32::try_from(listed.len()).unwrap_or(u32::MAX),
        kept_from: if window.is_short() { window.front() } else { 0 },
        front: window.front(),
        front_part: u64::try_from(window.front_part()).expect("a share is 2^63 work at most"),
        shares: window.end() - window.front(),
        is_dictated: dictated.is_some(),
    };
    for (what, len, most) in [
        ("chain's name", head.chain.len(), CHAIN_MAX),
        ("coinbase", head.coinbase.len(), COINBASE_MAX),
        ("list of the pool's scripts", head.pool_scripts.len(), POOL_SCRIPTS_MAX),
        ("list of payees", listed.len(), PAYEES_MAX as usize),
    ] {
        if len > most {
            return Err(ExportError::TooLarge(what));
        }
    }
    let mut payees = payees(&head, &books, &at_booking, &settlement, &listed, &row_of);
    for (payee, value) in dictated.into_iter().flatten() {
        let row = row_of[payee as usize].expect("it is listed");
        payees[row as usize].dictated = Some(value);
    }
    Ok(Gathered { head, payees, row_of })
}

/// What was dictated, by the ledger's numbers of today.
fn by_payee(books: &LedgerBooks, dictated: &[Payout]) -> Result<Vec<(u32, u64)>, ExportError> {
    let of = |Payout { value, script, .. }: &Payout| Some((books.payee(script)?, *value));
    dictated
        .iter()
        .map(|output| of(output).ok_or(ExportError::Stranger))
        .collect()
}

/// Who has a part in split or booking, sorted by script.
fn rows(books: &LedgerBooks, terms: &Terms, settlement: &Settlement, others: impl Iterator<Item = u32>) -> Vec<u32> {
    let scripts = books.scripts();
    let weights = terms.scheme.weights(books.window(), None);
    let mut listed = vec![false; scripts.len()];
    for payee in settlement.postings.iter().map(|posting| posting.payee).chain(others) {
        if let Some(listed) = listed.get_mut(payee as usize) {
            *listed = true;
        }
    }
    let mut rows: Vec<u32> = (0..)
        .zip(listed)
        .filter(|(payee, listed)| *listed || weights.of(*payee) > 0 || books.accounts.of(*payee).payable() > 0)
        .map(|(payee, _)| payee)
        .collect();
    rows.sort_unstable_by(|a, b| scripts[*a as usize].cmp(&scripts[*b as usize]));
    rows
}

fn payees(
    head: &Head,
    books: &LedgerBooks,
    at_booking: &Accounts,
    settlement: &Settlement,
    listed: &[u32],
    row_of: &[Option<u32>],
) -> Vec<Payee> {
    let mut payees: Vec<Payee> = listed
        .iter()
        .map(|payee| {
            let script = &*books.scripts()[*payee as usize];
            let at_pin = books.accounts.of(*payee);
            Payee {
                name: format::name(head.privacy, &head.salt, script),
                script_len: u8::try_from(script.len()).expect("a payee's script has 64 bytes at most"),
                sigops: format::sigops(script),
                balance_at_pin: at_pin.balance,
                payable_at_pin: at_pin.payable(),
                balance_at_booking: at_booking.of(*payee).balance,
                earned: 0,
                paid: 0,
                dictated: head.is_dictated.then_some(0),
            }
        })
        .collect();
    for posting in &settlement.postings {
        let row = row_of.get(posting.payee as usize).copied().flatten();
        if let Some(payee) = row.and_then(|row| payees.get_mut(row as usize)) {
            payee.earned = posting.earned;
            payee.paid = posting.paid;
        }
    }
    payees
}
