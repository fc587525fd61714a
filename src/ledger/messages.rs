//! What the bookkeeper hears: from the writer, from the operator and the chain, from the housekeeper.

use std::sync::{Arc, mpsc};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::books::{BlockHash, BlockState, BookError, Event, Work};
use super::entry::{CandidateRow, Searched};
use super::kept::Kept;
use super::ledger_books::SettleError;
use super::retention::{Needs, Removal};
use super::submissions::SubmissionRow;
use crate::telemetry::Counter;
use crate::work::{Chain, MinedBlock, Pin};

/// What one batch of the writer made durable.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Shares in the order of the log.
    pub shares: Vec<Work>,
    /// New payees in their order, before the first share of them.
    pub payees: Vec<Arc<[u8]>>,
    /// Scripts and tags of new sessions where they differ from the last.
    pub pool_scripts: Vec<Box<[u8]>>,
    pub pool_tags: Vec<Box<[u8]>>,
    /// With the place of each in the log.
    pub candidates: Vec<(Pin, CandidateRow)>,
    pub events: Vec<Event>,
    /// Where old shares have gone: from where on they are kept now.
    pub kept: Option<Kept>,
    /// Shares that waited were judged, as was ordered; those that count are among the shares.
    pub judged: bool,
    /// A candidate, how far the chain was searched, or a node's word on a block, was noted as ordered.
    pub noted: bool,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
            && self.payees.is_empty()
            && self.pool_scripts.is_empty()
            && self.pool_tags.is_empty()
            && self.candidates.is_empty()
            && self.events.is_empty()
            && self.kept.is_none()
            && !self.judged
            && !self.noted
    }
}

/// The writer's way to the bookkeeper, on which so many batches wait at most.
///
/// They stand in one line with what others tell it, since an order may be on what a batch before it brings. Those others wait for
/// nobody, as they follow the chain and bring blocks to nodes: they say little, a word for each tip, or a second, or what became of
/// a block, and the bookkeeper takes it between any two batches.
pub(super) struct BatchDesk {
    books: Sender<Message>,
    /// One for each batch that waits.
    places: Sender<()>,
}

impl BatchDesk {
    /// Gives the bookkeeper's side as well: it takes one from there with each batch.
    pub fn new(books: Sender<Message>, batches_max: usize) -> (Self, Receiver<()>) {
        let (places, taken) = bounded(batches_max);
        (Self { books, places }, taken)
    }

    /// Leaves a batch, and waits for a place where there is none. `full` counts such waits: shares are not answered meanwhile.
    pub fn leave(&self, batch: Batch, full: &Counter) {
        match self.places.try_send(()) {
            Ok(()) => {}
            Err(TrySendError::Full(())) => {
                full.add(1);
                if self.places.send(()).is_err() {
                    return;
                }
            }
            Err(TrySendError::Disconnected(())) => return,
        }
        let _ = self.books.send(Message::Batch(batch));
    }
}

pub(super) enum Message {
    Batch(Batch),
    Order(Order, Reply),
    /// What has become of a block; none where it is not booked.
    Ask(BlockHash, mpsc::Sender<Option<BlockState>>),
    /// A block of the chain, which may be ours.
    Mined(Box<MinedAsk>),
    /// Whether the chain has a block that is not booked.
    Follow {
        block: BlockHash,
        is_in_chain: bool,
    },
    /// So far the chain was searched for such.
    Searched(Searched),
    /// A node's word on a block of ours.
    Submission(Box<SubmissionRow>),
    /// The chain as it is now: shares that waited for it are judged, and where it is new what is dictated from now on is as new.
    Chain {
        chain: Arc<Chain>,
        is_new: bool,
    },
    /// The housekeeper asks which shares must stay.
    Needs(Sender<Needs>),
    /// The housekeeper asks for shares to go; hears whether they have.
    LetGo(Box<Removal>, Sender<bool>),
    /// The housekeeper asks for sessions to go, by `prime_id`; hears when they have.
    ForgetSessions(Vec<u32>, Sender<()>),
}

/// A block of the chain that no share has announced, perhaps.
pub(super) struct MinedAsk {
    pub block: MinedBlock,
    /// When the pool first saw it, ms since 1970.
    pub seen_ms: u64,
    pub record: Record,
    pub reply: mpsc::Sender<Whose>,
}

/// Which blocks are recorded when the books are asked about them.
#[derive(Debug)]
pub enum Record {
    Nothing,
    Ours(ChainPlace),
    /// Also one that is ours by its tag alone, where it pays payees: the operator says so.
    ByHand(ChainPlace),
}

/// What the chain tells of a block, and its coinbase may not: one that is not of the form of gateways is ours all the same where it
/// pays us.
#[derive(Debug, Clone, Default)]
pub struct ChainPlace {
    pub height: u32,
    /// From its coinbase to the root in its header.
    pub branches: Vec<[u8; 32]>,
}

/// Whose a block of the chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Ours, and recorded already.
    Recorded,
    /// Ours: it pays so many satoshi to the pool's scripts, or pays a split that was dictated.
    Ours {
        to_pool: u64,
    },
    /// It says that it is the pool's, and pays it nothing, and no split that is known; its payees it pays so many satoshi.
    TagAlone {
        to_payees: u64,
    },
    Nobodys,
}

/// Where the answer to an order goes.
pub type Reply = mpsc::Sender<Result<Done, OrderError>>;

/// What the operator, or the chain, tells the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Blocks have another difficulty from now on, in whole units of pot 0.
    Difficulty(u64),
    /// Something became of a block.
    Block { hash: BlockHash, becomes: BlockState },
    /// Book a recorded candidate that does not book itself.
    Book { hash: BlockHash },
    /// The operator paid a payee.
    PayByHand {
        script: Box<[u8]>,
        /// Satoshi.
        amount: u64,
        /// As hashed.
        txid: [u8; 32],
    },
}

/// What an order has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The number of the event.
    pub event: u64,
}

/// Why an order was refused.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    Book(#[from] BookError),
    #[error("no candidate of this hash was recorded")]
    NotRecorded,
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error("a block cannot become a candidate")]
    NoSuchState,
    #[error("the books are closed: the pool is stopping")]
    Closed,
}

/// Takes orders for the books. Whoever gives one waits for no room.
#[derive(Clone)]
pub struct OrderDesk(Sender<Message>);

impl OrderDesk {
    pub(super) fn new(sender: Sender<Message>) -> Self {
        Self(sender)
    }

    /// One to which nobody listens.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        Self(crossbeam::channel::unbounded().0)
    }

    /// One that is listened to, for as long as what this gives is kept, and never answered.
    #[cfg(test)]
    pub(crate) fn unanswered() -> (Self, impl Sized) {
        let (sender, receiver) = crossbeam::channel::unbounded();
        (Self(sender), receiver)
    }

    /// Asks what the books have of a block: the answer is none where it is not booked, and does not come where they are
    /// closed.
    pub fn ask(&self, block: BlockHash, reply: mpsc::Sender<Option<BlockState>>) {
        let _ = self.0.send(Message::Ask(block, reply));
    }

    /// Says whether the chain has a block that is not booked, or has been without it for some blocks.
    pub fn follow(&self, block: BlockHash, is_in_chain: bool) {
        let _ = self.0.send(Message::Follow { block, is_in_chain });
    }

    /// Says that the chain is another now.
    pub fn chain(&self, chain: Arc<Chain>) {
        let _ = self.0.send(Message::Chain { chain, is_new: true });
    }

    /// Has shares that wait judged once more by a chain whose tip is that which was said last: it may know more parents, one may
    /// have been taken by a shard that had not heard of it, and each waits so long at most.
    pub fn judge_again(&self, chain: Arc<Chain>) {
        let _ = self.0.send(Message::Chain { chain, is_new: false });
    }

    /// Asks whose a block of the chain is. What is to be recorded is recorded before the answer comes; the operator books it.
    /// Where the books are closed no answer comes.
    pub fn whose(&self, block: MinedBlock, seen_ms: u64, record: Record, reply: mpsc::Sender<Whose>) {
        let ask = MinedAsk {
            block,
            seen_ms,
            record,
            reply,
        };
        let _ = self.0.send(Message::Mined(Box::new(ask)));
    }

    /// The chain was looked through up to this block.
    pub fn searched(&self, searched: Searched) {
        let _ = self.0.send(Message::Searched(searched));
    }

    /// Has a node's word on a block of ours written down.
    pub fn submission(&self, row: SubmissionRow) {
        let _ = self.0.send(Message::Submission(Box::new(row)));
    }

    /// Leaves an order; the answer comes when it is durable, or refused.
    pub fn order(&self, order: Order, reply: Reply) {
        if let Err(refused) = self.0.send(Message::Order(order, reply))
            && let Message::Order(_, reply) = refused.0
        {
            let _ = reply.send(Err(OrderError::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_waits_for_the_bookkeeper_is_counted_and_loses_no_batch() {
        let (books, messages) = crossbeam::channel::unbounded();
        let (batches, places) = BatchDesk::new(books, 1);
        let full = Counter::default();
        batches.leave(Batch::default(), &full);
        assert_eq!(full.value(), 0, "there was room");
        std::thread::scope(|scope| {
            let heard = scope.spawn(|| {
                while full.value() == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(messages.len(), 1, "the other waits for its place");
                let take = |_| {
                    let _ = places.recv();
                    messages.recv().is_ok()
                };
                (0..2).all(take)
            });
            batches.leave(Batch::default(), &full);
            assert!(heard.join().expect("it hears both"));
        });
        assert_eq!(full.value(), 1);
        drop((messages, places));
        batches.leave(Batch::default(), &full);
        assert_eq!(full.value(), 1, "whoever has ended is not waited for");
    }

    #[test]
    fn whoever_follows_the_chain_does_not_wait_for_a_bookkeeper_that_is_behind() {
        let (books, messages) = crossbeam::channel::unbounded();
        let (batches, _places) = BatchDesk::new(books.clone(), 1);
        let desk = OrderDesk::new(books);
        batches.leave(Batch::default(), &Counter::default());
        // There is no room for another batch, and this goes on.
        let chain = Arc::new(Chain::dev(1));
        for _ in 0..3 {
            desk.order(Order::Difficulty(1), mpsc::channel().0);
            desk.chain(chain.clone());
            desk.follow([1; 32], true);
        }
        let said: Vec<_> = messages.try_iter().collect();
        assert_eq!(said.len(), 1 + 9);
        assert!(matches!(said[0], Message::Batch(_)), "in the order that they came");
    }
}
