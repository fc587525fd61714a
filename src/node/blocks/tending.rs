//! One block of ours: when it is offered, when it is looked at, and what is said of it.

use std::sync::mpsc as replies;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::offering::Answer;
use super::{BOOKS_PATIENCE, OFFER_EVERY, Shared, answer};
use crate::ledger::books::BlockState;
use crate::ledger::{CandidateRow, Order, monotonic_ns};
use crate::node::delivery::{Delivery, OFFERS_MAX, Outcome};
use crate::node::done;
use crate::node::fate::{self, Shows, Step};
use crate::node::follow::NewTip;
use crate::node::rpc::{CALL_PATIENCE, Shown};

/// A block that is tended.
///
/// No node's answer is waited for: it is heard when it comes, and until then that node alone is offered nothing. So one that
/// hangs keeps the block neither from others nor from a look at what became of it.
pub(super) struct Tending<'a> {
    pub shared: &'a Shared,
    pub row: &'a CandidateRow,
    /// When it was heard of, by the clock of [`monotonic_ns`]: its share was on disk.
    pub found_ns: u64,
    /// It lies no lower: its job's word, or the tip's height when it was found, whichever is higher.
    height: u32,
    /// Its hash as people write it.
    pub block: String,
    pub delivery: Delivery,
    /// Of nodes that were given it.
    pub answers: JoinSet<Answer>,
    /// Whether the raw block lies on disk.
    kept: bool,
    /// What was said last of it, and after how many offers that it is with no node.
    said: Outcome,
    said_open: u32,
    /// Why it could not be put together the last time.
    pub unmade: Option<String>,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nothing can become of the block any more.
    Over,
    Done,
    /// The node did not say what it has.
    Unanswered,
    /// The books did not say what they have, or did not obey yet.
    BooksBehind,
}

enum Woken {
    /// By a tip, or by who has something to say of the block.
    Word,
    Answer(Answer),
    Time,
}

impl<'a> Tending<'a> {
    pub fn new(shared: &'a Shared, row: &'a CandidateRow) -> Self {
        Self {
            shared,
            row,
            found_ns: monotonic_ns(),
            height: match row.complete_ns {
                Some(_) => row.candidate.height.max(shared.tips.borrow().height),
                None => row.candidate.height,
            },
            block: Shown(row.candidate.hash).to_string(),
            delivery: Delivery::new(shared.nodes.len()),
            answers: JoinSet::new(),
            kept: false,
            said: Outcome::Open,
            said_open: 0,
            unmade: None,
        }
    }

    /// Until nothing can become of the block, or nobody follows the chain any more.
    pub async fn run(mut self, word: &Notify) {
        let mut tips = self.shared.tips.clone();
        // None past the offers that time alone brings, until something has changed.
        let mut offer_from = Some(Instant::now());
        // When it is looked at at the latest, where it is to be.
        let mut look_at = None;
        let mut is_to_look = true;
        let mut place = None;
        loop {
            let tip = tips.borrow_and_update().clone();
            let beyond = self.beyond(&tip);
            self.note_open(beyond);
            let is_offered = self.delivery.is_due(beyond) && offer_from.is_some_and(|from| from <= Instant::now());
            let is_looked_at = is_to_look || look_at.is_some_and(|at| at <= Instant::now());
            if place.is_none() && (is_offered || is_looked_at) {
                let is_fresh = self.delivery.offers == 0 && self.row.complete_ns.is_some();
                let places = if is_fresh {
                    &self.shared.fresh
                } else {
                    &self.shared.together
                };
                place = Some(places.acquire().await);
            }
            if is_offered {
                self.say_where_open();
                self.offer().await;
                self.say().await;
                offer_from = (self.delivery.offers < OFFERS_MAX).then(|| Instant::now() + OFFER_EVERY);
            }
            if is_to_look {
                // What nodes are about to say shows in the chain a moment later.
                let is_quiet = self.answers.is_empty() || self.delivery.outcome() == Outcome::Taken;
                let rest = if is_quiet { Duration::ZERO } else { OFFER_EVERY };
                look_at.get_or_insert(Instant::now() + rest);
                is_to_look = false;
            }
            if place.is_some() && look_at.is_some_and(|at| at <= Instant::now()) {
                self.say_where_open();
                let looked = self.look(&tip).await;
                self.say().await;
                if looked == Look::Over {
                    self.shared.note_open(self.row.candidate.hash, false);
                    self.shared.store.forget(&self.block);
                    return;
                }
                let again = match looked {
                    Look::Unanswered => !self.answers.is_empty(),
                    Look::BooksBehind => true,
                    Look::Over | Look::Done => false,
                };
                look_at = again.then(|| Instant::now() + OFFER_EVERY);
                if self.delivery.outcome() != Outcome::Open && !self.kept {
                    self.kept = self.keep().await;
                }
            }
            self.note_open(beyond);
            // As long as an answer is to come, what was given to the node is in memory.
            if self.answers.is_empty() {
                place = None;
            }
            let offer_at = offer_from.filter(|_| self.delivery.is_urgent(beyond));
            let wake_at = look_at.into_iter().chain(offer_at).min();
            let woken = tokio::select! {
                changed = tips.changed() => match changed {
                    Ok(()) => Woken::Word,
                    Err(_) => return,
                },
                () = word.notified() => Woken::Word,
                Some(answer) = self.answers.join_next() => Woken::Answer(done(answer)),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => Woken::Time,
            };
            match woken {
                Woken::Word => {
                    offer_from = Some(Instant::now());
                    is_to_look = true;
                }
                Woken::Time => is_to_look = look_at.is_none(),
                Woken::Answer(answer) => {
                    let before = self.delivery.outcome();
                    self.hear(answer);
                    self.say().await;
                    if self.answers.is_empty() || self.delivery.outcome() != before {
                        look_at = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// The chain goes on without one that is not young.
    fn note_open(&self, beyond: u32) {
        let is_open = self.delivery.outcome() == Outcome::Open && beyond < fate::LOST_AFTER;
        self.shared.note_open(self.row.candidate.hash, is_open);
    }

    /// How far the tip's height lies beyond its own.
    fn beyond(&self, tip: &NewTip) -> u32 {
        tip.height.saturating_sub(self.height)
    }

    /// Says what came of its offers, where that is something else than before.
    async fn say(&mut self) {
        let outcome = self.delivery.outcome();
        if outcome == self.said {
            return;
        }
        self.said = outcome;
        let (block, height) = (&*self.block, self.row.candidate.height);
        match outcome {
            Outcome::Taken => tracing::info!(block, height, "a block of ours is with the nodes"),
            Outcome::Refused => {
                let words = self.delivery.words.not_taken();
                tracing::error!(block, words, "the nodes refuse a block of ours");
                let hash = self.row.candidate.hash;
                let becomes = BlockState::Rejected;
                // Where they are behind they obey later.
                let _ = timeout(BOOKS_PATIENCE, self.tell(Order::Block { hash, becomes })).await;
            }
            Outcome::Open => {}
        }
    }

    /// Says that it is with no node: before the second offer at the latest, and when the last but those of tips was in vain.
    fn say_where_open(&mut self) {
        let offers = self.delivery.offers;
        if self.delivery.outcome() != Outcome::Open || !matches!(offers, 1 | OFFERS_MAX) || self.said_open == offers {
            return;
        }
        let words = self.delivery.words.not_taken();
        let why = match &self.unmade {
            Some(why) => why.clone(),
            // They are all at it.
            None if words.is_empty() => return,
            None => format!("no node took it: {words}"),
        };
        self.said_open = offers;
        tracing::error!(
            block = self.block,
            offers,
            "a block of ours is not with any node: {why}"
        );
    }

    /// Tells the books what the chain shows of the block.
    async fn look(&mut self, tip: &NewTip) -> Look {
        let hash = self.row.candidate.hash;
        let beyond = self.beyond(tip);
        // Where others are to be offered it, or to be heard, a node that hangs does not keep them waiting.
        let patience = match self.delivery.is_urgent(beyond) || !self.answers.is_empty() {
            true => OFFER_EVERY,
            false => CALL_PATIENCE,
        };
        let mut is_offered = false;
        // Some events take two steps: what is in the chain for long is accepted, then mature. And one may be an offer.
        for _ in 0..4 {
            let Some(shows) = self.shows(tip.node, patience).await else {
                return Look::Unanswered;
            };
            // Of one without a height, as was recorded of a coinbase that does not say it where gateways do, the chain tells.
            let beyond = match shows {
                Shows::InChain { confirmations } => u32::try_from(confirmations - 1).unwrap_or(u32::MAX),
                Shows::Beside | Shows::Nothing => beyond,
            };
            if shows == Shows::Nothing && beyond < fate::LOST_AFTER {
                self.delivery.is_lost_by(tip.node);
            }
            // Books that are behind keep neither this block from nodes, nor others from this one's place.
            let state = match timeout(BOOKS_PATIENCE, self.shared.state(hash)).await {
                Ok(Some(state)) => state,
                Ok(None) => return Look::Done,
                Err(_) => return Look::BooksBehind,
            };
            let is_in_chain = matches!(shows, Shows::InChain { .. });
            self.shared.note_unsettled(hash, state.is_none() && is_in_chain);
            if state.is_none() {
                self.shared.desk.follow(hash, !fate::is_lost(shows, beyond));
            }
            // What is booked late may be mature by now.
            let Some(step) = fate::next_step(state, shows, beyond) else {
                return match fate::is_over(beyond) {
                    true => Look::Over,
                    false => Look::Done,
                };
            };
            // Who has never seen it cannot say that the chain is better without it.
            if (shows, step) == (Shows::Nothing, Step::Becomes(BlockState::Orphaned)) && !is_offered {
                is_offered = true;
                if let Some(raw) = self.at_hand_or_given(self.delivery.having()).await {
                    self.give(vec![tip.node], raw).await;
                }
                self.hear_node(tip.node).await;
                continue;
            }
            if (state, step) == (Some(BlockState::Mature), Step::Becomes(BlockState::Orphaned)) {
                self.shared.telemetry.mature_lost.add(1);
                tracing::error!(
                    block = self.block,
                    height = self.row.candidate.height,
                    "the chain has lost a mature block of ours: what it paid is undone in the books, and what was paid by hand out \
                     of it makes balances negative"
                );
            }
            let order = match step {
                Step::Becomes(becomes) => Order::Block { hash, becomes },
                Step::BookAgain => Order::Book { hash },
            };
            match timeout(BOOKS_PATIENCE, self.tell(order)).await {
                Ok(true) => {}
                Ok(false) => return Look::Done,
                // It is obeyed later, and what the books are asked then they answer behind it.
                Err(_) => return Look::BooksBehind,
            }
        }
        Look::Done
    }

    /// None where the node cannot be asked, or takes longer than this to answer.
    async fn shows(&self, node: usize, patience: Duration) -> Option<Shows> {
        let hash = Shown(self.row.candidate.hash);
        match timeout(patience, self.shared.nodes[node].header(&hash)).await.ok()? {
            Ok(header) if header.confirmations >= 1 => Some(Shows::InChain {
                confirmations: header.confirmations,
            }),
            Ok(_) => Some(Shows::Beside),
            Err(error) if error.is_not_found() => Some(Shows::Nothing),
            Err(_) => None,
        }
    }

    async fn tell(&self, order: Order) -> bool {
        let (reply, done) = replies::channel();
        self.shared.desk.order(order.clone(), reply);
        let (block, height) = (&*self.block, self.row.candidate.height);
        match answer(done).await {
            Some(Ok(done)) => {
                tracing::info!(block, height, event = done.event, ?order, "the books heard of a block");
                true
            }
            Some(Err(error)) => {
                tracing::warn!(block, height, %error, "the books do not take what became of a block");
                false
            }
            None => false,
        }
    }
}
