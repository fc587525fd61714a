//! Reads a bundle and checks it, with nothing but the file and the pool's public key.

use std::collections::HashMap;
use std::io::{Read, Seek};

use bitcoin::Transaction;
use serde::Serialize;

use super::check::{self, Mismatch, Row};
use super::format::{self, Head, Payee, Share, Source};
use super::{BundleError, Privacy, seal};
use crate::ledger::report::shown;
use crate::wire::PublicKeys;
use crate::work::{MONEY_MAX, Target};

/// What a bundle has proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// As people write it. That the chain has it is for a node to say.
    pub block: String,
    pub chain: String,
    /// Shares of the window: from this one on, before that one.
    pub window_from: u64,
    pub window_end: u64,
    pub window_work: u128,
    /// Whether the window lacks work because shares before it are no longer kept: it was shared over what was left.
    pub window_short: bool,
    pub payees: u32,
    pub terms: TermsSaid,
    /// Satoshi that were booked; so are the next three.
    pub value: u64,
    pub fee: u64,
    pub to_pool: u64,
    pub paid: u64,
    pub split_outputs: usize,
    /// Whether the bundle says what was dictated, and that is the split. Else it was not kept, or nothing was dictated.
    pub is_dictated: bool,
    /// Outputs of them that the coinbase pays.
    pub paid_outputs: usize,
    /// The operator booked it: its coinbase may depart from the split that its job was told, where one is known.
    pub by_hand: bool,
    /// There where somebody was asked for, and has a part.
    pub own: Option<Own>,
}

/// The terms that it was split by, as the pool says they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TermsSaid {
    pub scheme: String,
    /// What shares count as at most, and what windows are measured in.
    pub difficulty: u64,
    /// The same by the target in the block's own header, in whole times of the first difficulty. The terms may say more where a
    /// test chain lies below the pool's floor, and another where a retarget lies between the split and its block.
    pub header_difficulty: u64,
    /// Millionths of the value.
    pub fee_ppm: u32,
    /// Satoshi.
    pub minimum: u64,
}

impl TermsSaid {
    fn of(head: &Head) -> Self {
        let [nbits] = head.header[72..76].as_chunks().0 else {
            unreachable!("four bytes")
        };
        Self {
            scheme: head.terms.scheme.to_string(),
            difficulty: head.terms.difficulty,
            header_difficulty: Target::from_nbits(u32::from_le_bytes(*nbits)).difficulty(0),
            fee_ppm: head.terms.split.fee_ppm,
            minimum: head.terms.split.minimum,
        }
    }

    /// Whether the window is measured by what the header asks for.
    #[must_use]
    pub fn is_of_header(&self) -> bool {
        self.difficulty == self.header_difficulty
    }
}

/// One payee's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Own {
    /// Its row.
    pub row: u32,
    /// In the window, the oldest too where a part of it counts.
    pub shares: u64,
    /// What they count as.
    pub work: u128,
    /// Ms since 1970, as the first and the last of them were accepted; 0 without any.
    pub first_ms: u64,
    pub last_ms: u64,
    /// Satoshi, before the block was booked.
    pub balance: i64,
    /// Satoshi.
    pub earned: u64,
    pub paid: u64,
}

/// Checks a bundle. `own_script`: whose part is asked for.
///
/// # Errors
/// It cannot be read, is not signed by the pool, or does not hold.
pub fn verify<R: Read + Seek>(file: R, pool: &PublicKeys, own_script: Option<&[u8]>) -> Result<Verified, BundleError> {
    let mut content = Source(seal::open(file, pool)?);
    let head = Head::read(&mut content)?;
    let coinbase = check::block(&head)?;
    let mut table = Table::read(&mut content, &head, &coinbase, own_script)?;
    let total = table.count(&mut content, &head)?;
    content.end()?;

    let Table {
        rows, weights, paid, ..
    } = &table;
    let split = check::split(&head, rows, weights, total);
    let paid_outputs = check::payouts(&head, &coinbase, paid, &split)?;
    check::dictated(rows, &split)?;
    check::booking(&head, &coinbase, paid, rows, weights, total)?;
    Ok(Verified {
        block: shown(&head.block),
        window_from: head.front,
        window_end: head.pin.sequence,
        window_work: total,
        window_short: head.kept_from > 0,
        payees: head.payees,
        terms: TermsSaid::of(&head),
        value: head.booked.value,
        fee: head.booked.fee,
        to_pool: head.booked.to_pool,
        paid: rows.iter().map(|row| row.paid).sum(),
        split_outputs: split.len(),
        is_dictated: head.is_dictated,
        paid_outputs,
        by_hand: head.kind.is_by_hand(),
        own: table.own,
        chain: head.chain,
    })
}

/// The payees, and what they did.
struct Table {
    rows: Vec<Row>,
    /// By row.
    weights: Vec<u128>,
    /// Rows of those that the coinbase pays, by script.
    paid: HashMap<Box<[u8]>, u32>,
    own: Option<Own>,
}

impl Table {
    fn read(
        content: &mut Source<impl Read>,
        head: &Head,
        coinbase: &Transaction,
        own_script: Option<&[u8]>,
    ) -> Result<Self, BundleError> {
        let name = |script: &[u8]| format::name(head.privacy, &head.salt, script);
        // The names of those whose scripts are known here; the scripts of others are never needed.
        let scripts = coinbase.output.iter().map(|output| output.script_pubkey.as_bytes());
        let known: HashMap<Box<[u8]>, &[u8]> = scripts.chain(own_script).map(|script| (name(script), script)).collect();
        let own_name = own_script.map(name);
        let mut table = Self {
            rows: Vec::new(),
            weights: Vec::new(),
            paid: HashMap::new(),
            own: None,
        };
        let mut last: Option<Box<[u8]>> = None;
        let mut last_known: Option<&[u8]> = None;
        for row in 0..head.payees {
            let payee = Payee::read(content, head)?;
            check_balances(head, row, &payee)?;
            let script = match head.privacy {
                Privacy::Clear => Some(&*payee.name),
                Privacy::Hashed => known.get(&payee.name).copied(),
            };
            if let Some(script) = script
                && (script.len() != usize::from(payee.script_len) || format::sigops(script) != payee.sigops)
            {
                return Err(Mismatch::Script { row }.into());
            }
            if let Some(script) = known.get(&payee.name) {
                if last_known.is_some_and(|last| last >= *script) {
                    return Err(Mismatch::Order { row }.into());
                }
                last_known = Some(script);
                table.paid.insert((*script).into(), row);
            }
            if Some(&payee.name) == own_name.as_ref() {
                table.own = Some(Own {
                    row,
                    balance: payee.balance_at_booking,
                    earned: payee.earned,
                    paid: payee.paid,
                    ..Own::default()
                });
            }
            table.rows.push(Row {
                script_len: payee.script_len,
                sigops: payee.sigops,
                payable: payee.payable_at_pin,
                balance: payee.balance_at_booking,
                earned: payee.earned,
                paid: payee.paid,
                dictated: payee.dictated,
            });
            table.weights.push(0);
            if head.privacy == Privacy::Clear {
                if last.is_some_and(|last| last >= payee.name) {
                    return Err(Mismatch::Order { row }.into());
                }
                last = Some(payee.name);
            }
        }
        if head.finder.is_some_and(|finder| finder >= head.payees) {
            return Err(BundleError::Impossible("finder"));
        }
        Ok(table)
    }

    /// Counts the shares, and gives the work of all: that of the window that the terms say, or it is no window.
    fn count(&mut self, content: &mut Source<impl Read>, head: &Head) -> Result<u128, BundleError> {
        let span = head.terms.span();
        let end = head.front.checked_add(head.shares);
        if end != Some(head.pin.sequence) {
            return Err(Mismatch::WindowEnd {
                end: end.unwrap_or(u64::MAX),
                pin: head.pin.sequence,
            }
            .into());
        }
        let mismatch = |work| Mismatch::WindowWork {
            work,
            front: head.front,
            limit: span.limit,
        };
        let mut total = 0;
        let mut front_is_whole = true;
        for at in 0..head.shares {
            let share = Share::read(content)?;
            let mut work = span.work(share.pot);
            if at == 0 {
                let part = head.front_part;
                if !(1..=work).contains(&u128::from(part)) {
                    return Err(Mismatch::FrontPart { part, work }.into());
                }
                front_is_whole = u128::from(part) == work;
                work = part.into();
            }
            total += work;
            if total > span.limit {
                return Err(mismatch(total).into());
            }
            let weight = self.weights.get_mut(share.row as usize);
            *weight.ok_or(BundleError::Impossible("share's payee"))? += work;
            if let Some(own) = self.own.as_mut().filter(|own| own.row == share.row) {
                if own.shares == 0 {
                    own.first_ms = share.time_ms;
                }
                own.last_ms = share.time_ms;
                own.shares += 1;
                own.work += work;
            }
        }
        // Short of its limit it must be all shares that were kept; and nothing is said to be short that is not.
        let is_short = total < span.limit;
        if is_short && (head.front != head.kept_from || !front_is_whole) || !is_short && head.kept_from > 0 {
            return Err(mismatch(total).into());
        }
        Ok(total)
    }
}

/// Balances at one event are one balance, and none is beyond all the money there is.
fn check_balances(head: &Head, row: u32, payee: &Payee) -> Result<(), Mismatch> {
    let possible = |satoshi: i64| satoshi.unsigned_abs() <= MONEY_MAX;
    let fits = possible(payee.balance_at_pin)
        && possible(payee.payable_at_pin)
        && possible(payee.balance_at_booking)
        && payee.payable_at_pin <= payee.balance_at_pin
        && (head.pin.event < head.booked_by || payee.balance_at_pin == payee.balance_at_booking);
    if fits && payee.earned <= MONEY_MAX && payee.paid <= MONEY_MAX {
        Ok(())
    } else {
        Err(Mismatch::Balance { row })
    }
}
