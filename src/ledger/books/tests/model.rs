//! The books by the words of `DESIGN.md`: all shares are kept and every window is walked, all payees are sorted, and
//! a balance is the sum of all lines about it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Account, BlockHash, SchemeKind, Span, SplitTerms, Sums, Terms, Work};
use crate::work::Payout;

/// Work by payee; who has none is not there.
pub type Parts = BTreeMap<u32, u128>;

/// Who works in the window behind these shares, and where it begins.
pub fn window(shares: &[Work], span: Span) -> (Parts, usize) {
    let mut parts = Parts::new();
    let mut room = span.limit;
    let mut front = shares.len();
    for share in shares.iter().rev() {
        let part = 2_u128.pow(share.pot.into()).min(span.share_max).min(room);
        if part == 0 {
            break;
        }
        *parts.entry(share.payee).or_default() += part;
        room -= part;
        front -= 1;
    }
    (parts, front)
}

/// Who has a part in a block found behind these shares.
pub fn parts(shares: &[Work], terms: &Terms, finder: Option<u32>) -> Parts {
    let share_max = u128::from(terms.difficulty);
    match terms.scheme {
        SchemeKind::Tides => {
            let limit = 8 * share_max;
            window(shares, Span { limit, share_max }).0
        }
        SchemeKind::Pplns { work } => {
            let limit = work.into();
            window(shares, Span { limit, share_max }).0
        }
        SchemeKind::Solo => finder.into_iter().map(|finder| (finder, 1)).collect(),
    }
}

/// What the pool keeps of a value and what each payee earns, before what rounding leaves over.
fn shared(value: u64, parts: &Parts, fee_ppm: u32) -> (u64, BTreeMap<u32, u64>) {
    let whole: u128 = parts.values().sum();
    if whole == 0 {
        return (value, BTreeMap::new());
    }
    let fee = u128::from(value) * u128::from(fee_ppm) / 1_000_000;
    let dividend = u128::from(value) - fee;
    let satoshi = |amount: u128| u64::try_from(amount).expect("a part of the value");
    let earned = parts
        .iter()
        .map(|(payee, part)| (*payee, satoshi(dividend * part / whole)))
        .collect();
    (satoshi(fee), earned)
}

/// Whom a value pays, by a look at everybody.
pub fn payouts<S: AsRef<[u8]>>(
    value: u64,
    terms: &SplitTerms,
    own_script: &[u8],
    parts: &Parts,
    scripts: &[S],
    payable: impl Fn(u32) -> i64,
) -> Vec<Payout> {
    let (_, earned) = shared(value, parts, terms.fee_ppm);
    let mut dues: Vec<(i128, u32, &[u8])> = (0..)
        .zip(scripts)
        .map(|(payee, script)| {
            let earned = earned.get(&payee).copied().unwrap_or(0);
            (i128::from(payable(payee)) + i128::from(earned), payee, script.as_ref())
        })
        .filter(|(due, ..)| *due >= i128::from(terms.minimum))
        .collect();
    dues.sort_by_key(|(due, _, script)| (-due, *script));

    let mut listed: Vec<(i128, u32, &[u8])> = Vec::new();
    for due in dues {
        let bytes: usize = listed.iter().map(|(_, _, script)| 9 + script.len()).sum();
        // The list ends where the longest output would not fit behind the id and what is listed.
        if listed.len() == 512 || 1 + bytes + 9 + 64 > 32_767 {
            break;
        }
        let scripts = listed.iter().map(|(_, _, script)| *script);
        let sigops = scripts.chain([own_script]).filter(|script| is_pubkey_hash(script));
        if !is_pubkey_hash(due.2) || sigops.count() < 100 {
            listed.push(due);
        }
    }

    let sum: i128 = listed.iter().map(|(due, ..)| due).sum();
    if sum > i128::from(value) {
        for (due, ..) in &mut listed {
            *due = *due * i128::from(value) / sum;
        }
        listed.retain(|(due, ..)| *due >= i128::from(terms.minimum));
        listed.sort_by_key(|(due, _, script)| (-due, *script));
    }
    listed
        .into_iter()
        .map(|(due, payee, script)| Payout {
            payee,
            value: u64::try_from(due).expect("no more than the value"),
            script: script.into(),
        })
        .collect()
}

/// Of the types that tests use, the one with a signature operation that nodes count.
pub fn is_pubkey_hash(script: &[u8]) -> bool {
    script.len() == 25 && script.starts_with(&[0x76, 0xa9, 20]) && script.ends_with(&[0x88, 0xac])
}

/// All that was booked and still stands.
#[derive(Debug, Clone, Default)]
pub struct Books {
    postings: Vec<Line>,
    blocks: Vec<Found>,
    mature: BTreeSet<BlockHash>,
    /// Payee and satoshi.
    by_hand: Vec<(u32, u64)>,
}

/// One block for one payee.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub block: BlockHash,
    pub payee: u32,
    pub earned: u64,
    pub paid: u64,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    block: BlockHash,
    to_pool: u64,
    fee: u64,
}

impl Books {
    /// Books a block that pays these payees and the pool, of which everybody has these parts. `own`: a payee with the pool's
    /// script. Gives its fee, and what is the pool's of the coins at that script.
    #[allow(clippy::too_many_arguments)] // Plain numbers, which the histories have at hand.
    pub fn settle<S: AsRef<[u8]>>(
        &mut self,
        block: BlockHash,
        paid: &BTreeMap<u32, u64>,
        to_pool: u64,
        own: Option<u32>,
        fee_ppm: u32,
        parts: &Parts,
        scripts: &[S],
    ) -> (u64, u64) {
        let value = paid.values().sum::<u64>() + to_pool;
        let (mut fee, mut earned) = shared(value, parts, fee_ppm);
        earned.retain(|_, satoshi| *satoshi > 0);
        let left = value - fee - earned.values().sum::<u64>();
        let due = |payee: u32, earned: u64| self.account(payee).balance + i64::try_from(earned).expect("money");
        let largest = earned
            .iter()
            .map(|(payee, satoshi)| (-due(*payee, *satoshi), scripts[*payee as usize].as_ref(), *payee))
            .min();
        match largest {
            Some((_, _, payee)) => *earned.entry(payee).or_default() += left,
            None => fee += left,
        }
        let (mut paid, mut to_pool) = (paid.clone(), to_pool);
        if let Some(own) = own {
            let due = due(own, earned.get(&own).copied().unwrap_or(0));
            let covered = i64::try_from(to_pool).expect("money").min(due.max(0));
            let covered = u64::try_from(covered).expect("not negative");
            to_pool -= covered;
            if covered > 0 {
                paid.insert(own, covered);
            }
        }
        let payees: BTreeSet<u32> = earned.keys().chain(paid.keys()).copied().collect();
        for payee in payees {
            self.postings.push(Line {
                block,
                payee,
                earned: earned.get(&payee).copied().unwrap_or(0),
                paid: paid.get(&payee).copied().unwrap_or(0),
            });
        }
        self.blocks.push(Found { block, to_pool, fee });
        (fee, to_pool)
    }

    pub fn mature(&mut self, block: BlockHash) {
        self.mature.insert(block);
    }

    /// The block never was.
    pub fn remove(&mut self, block: BlockHash) {
        self.postings.retain(|line| line.block != block);
        self.blocks.retain(|found| found.block != block);
        self.mature.remove(&block);
    }

    pub fn pay_by_hand(&mut self, payee: u32, amount: u64) {
        self.by_hand.push((payee, amount));
    }

    pub fn of_block(&self, block: BlockHash) -> impl Iterator<Item = &Line> {
        self.postings.iter().filter(move |line| line.block == block)
    }

    pub fn account(&self, payee: u32) -> Account {
        let mut account = Account::default();
        for line in self.postings.iter().filter(|line| line.payee == payee) {
            let net = i128::from(line.earned) - i128::from(line.paid);
            account.balance += i64::try_from(net).expect("money");
            account.paid += line.paid;
            if !self.mature.contains(&line.block) {
                account.promised += u64::try_from(net).unwrap_or(0);
            }
        }
        for (_, amount) in self.by_hand.iter().filter(|(paid, _)| *paid == payee) {
            account.balance -= i64::try_from(*amount).expect("money");
            account.by_hand += amount;
        }
        account
    }

    pub fn sums(&self, payees: u32) -> Sums {
        Sums {
            carry: (0..payees).map(|payee| i128::from(self.account(payee).balance)).sum(),
            to_pool: self.blocks.iter().map(|found| i128::from(found.to_pool)).sum(),
            fees: self.blocks.iter().map(|found| i128::from(found.fee)).sum(),
            by_hand: self.by_hand.iter().map(|(_, amount)| i128::from(*amount)).sum(),
        }
    }
}
