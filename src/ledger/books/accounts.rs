//! Balances: the sum of all postings, and the two identities that hold after each.

use std::collections::{HashMap, HashSet};

use super::event::{BlockHash, Event, PaidByHand, Settlement, Terms, What};
use crate::work::MONEY_MAX;

/// The books after a number of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Events applied.
    pub events: u64,
    /// Those in force; none before the first.
    pub terms: Option<Terms>,
    /// By payee; payees beyond its end have none.
    accounts: Vec<Account>,
    sums: Sums,
    blocks: HashMap<BlockHash, Block>,
    /// Payees with the transactions by which the operator paid them.
    by_hand: HashSet<(u32, [u8; 32])>,
}

/// What the books say of one payee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Satoshi; negative where somebody was paid twice.
    pub balance: i64,
    /// Satoshi of it that immature blocks promise.
    pub promised: u64,
    /// Satoshi that coinbases paid, orphans left out.
    pub paid: u64,
    /// Satoshi that the operator paid by hand.
    pub by_hand: u64,
}

impl Account {
    /// Satoshi that may be paid now.
    #[must_use]
    pub fn payable(&self) -> i64 {
        self.balance - i64::try_from(self.promised).expect("below 21 million coins")
    }
}

/// The sums that must agree, in satoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// C: the sum of balances.
    pub carry: i128,
    /// P: what found coinbases left to the pool's script.
    pub to_pool: i128,
    /// F: fees, withdrawn or not.
    pub fees: i128,
    /// S: paid by hand.
    pub by_hand: i128,
}

/// A block of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub state: BlockState,
    /// The event that booked it.
    pub settled_by: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// Recorded and booked; the chain has said nothing.
    Candidate,
    /// In the chain, with fewer than 100 blocks on it.
    Maturing,
    Mature,
    Orphaned,
    Rejected,
}

/// Why an event cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    #[error("no block of ours has this hash, or it is not booked")]
    UnknownBlock,
    #[error("the block is booked already")]
    BookedAlready,
    #[error("a block that is {from} cannot become {to}")]
    NotFrom { from: BlockState, to: BlockState },
    #[error("the ledger has no such payee")]
    UnknownPayee,
    #[error("the amount must be 1 satoshi at least, and below 21 million coins")]
    BadAmount,
    #[error("this transaction is booked for this payee already; what it pays one payee is booked at once, as a sum")]
    PaidAlready,
}

impl Accounts {
    /// By payee.
    #[must_use]
    pub fn of(&self, payee: u32) -> Account {
        self.accounts.get(payee as usize).copied().unwrap_or_default()
    }

    #[must_use]
    pub fn sums(&self) -> Sums {
        self.sums
    }

    #[must_use]
    pub fn block(&self, hash: &BlockHash) -> Option<Block> {
        self.blocks.get(hash).copied()
    }

    pub fn blocks(&self) -> impl Iterator<Item = (&BlockHash, &Block)> {
        self.blocks.iter()
    }

    /// Whether this payment by hand is in the books: an order that nobody saw answered is given again.
    #[must_use]
    pub fn is_paid_by_hand(&self, paid: &PaidByHand) -> bool {
        self.by_hand.contains(&(paid.payee, paid.txid))
    }

    /// Whether an event may be the next one.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, what: &What) -> Result<(), BookError> {
        let to = match what {
            What::Terms(_) => return Ok(()),
            What::Settled(settlement) => {
                return match self.block(&settlement.block).map(|block| block.state) {
                    // A chain may come back to a block: it is booked again, by the books of then.
                    None | Some(BlockState::Orphaned | BlockState::Rejected) => Ok(()),
                    Some(_) => Err(BookError::BookedAlready),
                };
            }
            What::PaidByHand(paid) => {
                return if (1..=MONEY_MAX).contains(&paid.amount) {
                    Ok(())
                } else {
                    Err(BookError::BadAmount)
                };
            }
            What::Accepted(_) => BlockState::Maturing,
            What::Matured(_) => BlockState::Mature,
            What::Orphaned(_) => BlockState::Orphaned,
            What::Rejected(_) => BlockState::Rejected,
        };
        let from = self
            .block(what.block().expect("of a block"))
            .ok_or(BookError::UnknownBlock)?
            .state;
        match (from, to) {
            (BlockState::Candidate, BlockState::Maturing | BlockState::Rejected | BlockState::Orphaned)
            | (BlockState::Maturing, BlockState::Mature | BlockState::Orphaned)
            // A block may be dropped after any number of others.
            | (BlockState::Mature, BlockState::Orphaned) => Ok(()),
            _ => Err(BookError::NotFrom { from, to }),
        }
    }

    /// Applies the next event. `settlement_of` reads the settlement of an event again, which the books do not hold.
    ///
    /// # Panics
    /// The event cannot be next, or the sums no longer agree: the books are damaged, and nothing may be paid by them.
    pub fn apply(&mut self, event: &Event, settlement_of: impl FnOnce(u64) -> Settlement) {
        self.check(&event.what)
            .expect("an event was checked before it was written");
        let number = self.events;
        self.events += 1;
        match &event.what {
            What::Terms(terms) => self.terms = Some(*terms),
            What::Settled(settlement) => {
                self.post(settlement);
                let block = Block {
                    state: BlockState::Candidate,
                    settled_by: number,
                };
                self.blocks.insert(settlement.block, block);
            }
            What::Accepted(hash) => self.change(hash, BlockState::Maturing),
            What::Matured(hash) => {
                let settlement = settlement_of(self.settled_by(hash));
                for posting in &settlement.postings {
                    self.account(posting.payee).promised -= posting.promised();
                }
                self.change(hash, BlockState::Mature);
            }
            What::Orphaned(hash) | What::Rejected(hash) => {
                let was_mature = self.blocks[hash].state == BlockState::Mature;
                let settlement = settlement_of(self.settled_by(hash));
                self.reverse(&settlement, was_mature);
                let state = match event.what {
                    What::Orphaned(_) => BlockState::Orphaned,
                    _ => BlockState::Rejected,
                };
                self.change(hash, state);
            }
            What::PaidByHand(PaidByHand { payee, amount, txid }) => {
                self.by_hand.insert((*payee, *txid));
                let satoshi = i64::try_from(*amount).expect("checked");
                let account = self.account(*payee);
                account.balance -= satoshi;
                account.by_hand += amount;
                self.sums.carry -= i128::from(satoshi);
                self.sums.by_hand += i128::from(satoshi);
            }
        }
        self.assert_sums();
    }

    fn settled_by(&self, hash: &BlockHash) -> u64 {
        self.blocks[hash].settled_by
    }

    fn change(&mut self, hash: &BlockHash, state: BlockState) {
        self.blocks.get_mut(hash).expect("checked").state = state;
    }

    fn post(&mut self, settlement: &Settlement) {
        let mut paid = 0;
        for posting in &settlement.postings {
            let account = self.account(posting.payee);
            account.balance += posting.net();
            account.promised += posting.promised();
            account.paid += posting.paid;
            paid += posting.paid;
            self.sums.carry += i128::from(posting.net());
        }
        self.sums.to_pool += i128::from(settlement.to_pool);
        self.sums.fees += i128::from(settlement.fee);
        assert_eq!(
            paid + settlement.to_pool,
            settlement.value,
            "what was paid and what the pool got is the block's value"
        );
    }

    fn reverse(&mut self, settlement: &Settlement, was_mature: bool) {
        for posting in &settlement.postings {
            let account = self.account(posting.payee);
            account.balance -= posting.net();
            account.paid -= posting.paid;
            if !was_mature {
                account.promised -= posting.promised();
            }
            self.sums.carry -= i128::from(posting.net());
        }
        self.sums.to_pool -= i128::from(settlement.to_pool);
        self.sums.fees -= i128::from(settlement.fee);
    }

    fn assert_sums(&self) {
        let Sums {
            carry,
            to_pool,
            fees,
            by_hand,
        } = self.sums;
        assert_eq!(carry, to_pool - fees - by_hand, "C = P - F - S");
    }

    fn account(&mut self, payee: u32) -> &mut Account {
        let at = payee as usize;
        if self.accounts.len() <= at {
            self.accounts.resize(at + 1, Account::default());
        }
        &mut self.accounts[at]
    }
}

impl What {
    /// The block whose state it changes.
    #[must_use]
    pub fn block(&self) -> Option<&BlockHash> {
        match self {
            Self::Accepted(hash) | Self::Matured(hash) | Self::Orphaned(hash) | Self::Rejected(hash) => Some(hash),
            Self::Terms(_) | Self::Settled(_) | Self::PaidByHand(_) => None,
        }
    }
}

impl std::fmt::Display for BlockState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Candidate => "candidate",
            Self::Maturing => "maturing",
            Self::Mature => "mature",
            Self::Orphaned => "orphaned",
            Self::Rejected => "rejected",
        })
    }
}
