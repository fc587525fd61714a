//! What can be asked on `control.sock`, and what is answered.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::guards::{self, Guards};
use super::in_force::InForce;
use super::keys::KeyCount;
use super::policy::ShownRule;
use super::pool::Pool;
use super::status::Status;
use crate::ledger::books::BlockState;
use crate::ledger::report::read_hash;
use crate::ledger::{Done, Order, OrderError};
use crate::shard::{InboxFull, ShardCommand};
use crate::wire::INFO_MAX;
use crate::work::{PayeeAddress, Rule};

/// One line of `control.sock`.
#[derive(Debug, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
enum Command {
    /// How the pool is.
    Status {},
    /// A line for the log of every gateway.
    Info { line: String },
    /// Stop as on SIGTERM.
    Drain {},
    /// The pool's long-term keys and the sessions on each; `reload` has them read from disk again first.
    Keys {
        #[serde(default)]
        reload: bool,
    },
    /// Who may mine; the one rule is added or removed first.
    Policy {
        #[serde(default)]
        add: Option<String>,
        #[serde(default)]
        remove: Option<String>,
    },
    /// What has become of a block of ours. On the dev chain the operator is the chain.
    Block { hash: String, state: State },
    /// Book a recorded candidate that does not book itself, or a block of ours in the chain that no share announced.
    Book { hash: String },
    /// Who is banned, and why.
    Guards {},
    /// Lift the ban of an address, or of `all`.
    Lift { address: String },
    /// The operator paid a payee by hand.
    Settle { payee: String, amount: u64, txid: String },
}

/// The states that a block can be told to take.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Maturing,
    Mature,
    Orphaned,
    Rejected,
}

/// How long the books may take over an order: they may read the log back first.
const BOOKS_PATIENCE: Duration = Duration::from_secs(60);

/// What a line is answered with.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    ok: bool,
    /// Why not, and what can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The number of the event that an order for the books has become.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    /// Newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<KeyCount>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<ShownRule>>,
    #[serde(flatten)]
    status: Option<Status>,
    #[serde(flatten)]
    guards: Option<Guards>,
}

/// What the connection does once the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Listen,
    Close,
    /// Has the pool stop.
    Drain,
}

/// Does what the line asks.
pub(super) async fn obey(line: &[u8], pool: &Arc<Pool>) -> (Answer, Next) {
    match serde_json::from_slice(line) {
        Ok(Command::Status {}) => (Answer::of(Status::of(pool)), Next::Listen),
        Ok(Command::Info { line }) => {
            let answer = inform(&line, pool).map_or_else(Answer::refused, |()| Answer::done());
            (answer, Next::Listen)
        }
        Ok(Command::Guards {}) => (guarded(guards::ask(pool, None)), Next::Listen),
        Ok(Command::Lift { address }) => {
            let lifted = guards::read_lift(&address).and_then(|lift| guards::ask(pool, Some(lift)));
            (guarded(lifted), Next::Listen)
        }
        Ok(Command::Drain {}) => {
            tracing::info!("asked to drain on control.sock");
            (Answer::done(), Next::Drain)
        }
        Ok(Command::Keys { reload }) => (keys(reload, pool).await.unwrap_or_else(Answer::refused), Next::Listen),
        Ok(Command::Policy { add, remove }) => {
            let answer = policy(add.as_deref(), remove.as_deref(), pool).await;
            (answer.unwrap_or_else(Answer::refused), Next::Listen)
        }
        Ok(Command::Block { hash, state }) => {
            let becomes = match state {
                State::Maturing => BlockState::Maturing,
                State::Mature => BlockState::Mature,
                State::Orphaned => BlockState::Orphaned,
                State::Rejected => BlockState::Rejected,
            };
            booked(pool, read_hash(&hash).map(|hash| Order::Block { hash, becomes })).await
        }
        Ok(Command::Book { hash }) => (book(&hash, pool).await, Next::Listen),
        Ok(Command::Settle { payee, amount, txid }) => {
            let payee = payee.parse::<PayeeAddress>().map_err(|error| error.to_string());
            let order = payee.and_then(|payee| {
                let (script, txid) = (payee.into_script(), read_hash(&txid)?);
                Ok(Order::PayByHand { script, amount, txid })
            });
            booked(pool, order).await
        }
        Err(error) => (Answer::refused(error.to_string()), Next::Listen),
    }
}

/// Shows the keys; where they are to be read again, every shard has them before the answer leaves.
async fn keys(reload: bool, pool: &Arc<Pool>) -> Result<Answer, String> {
    let desk = pool.keys.as_ref().ok_or("this pool has no keys")?;
    if reload {
        desk.reload().map_err(|error| error.to_string())?;
        desk.log();
        pool.bring_in_force(InForce::Keys).await?;
    }
    Ok(Answer {
        keys: Some(desk.counts()),
        ..Answer::done()
    })
}

/// Shows the rules; where one is added or removed, it is on disk and in force on every shard before the answer leaves.
async fn policy(add: Option<&str>, remove: Option<&str>, pool: &Arc<Pool>) -> Result<Answer, String> {
    let desk = pool.policy.as_ref().ok_or("this pool has no policy")?;
    let rule = |text: &str| text.parse::<Rule>().map_err(|error| error.to_string());
    let was_private = desk.policy().is_private();
    match (add, remove) {
        (None, None) => {}
        (Some(text), None) => desk.add(rule(text)?).map_err(|error| error.to_string())?,
        (None, Some(text)) => desk.remove(&rule(text)?).map_err(|error| error.to_string())?,
        (Some(_), Some(_)) => return Err("`add` and `remove` are two commands".to_owned()),
    }
    if let Some(text) = add.or(remove) {
        tracing::info!(rule = text, added = add.is_some(), "the policy has changed");
        if was_private && !desk.policy().is_private() {
            tracing::warn!("nobody is left on the list of payees: the pool is open to all of them");
        }
        pool.bring_in_force(InForce::Policy).await?;
    }
    Ok(Answer {
        rules: Some(desk.shown()),
        ..Answer::done()
    })
}

/// Books a candidate; one that was never recorded is looked for in the chain first.
async fn book(hash: &str, pool: &Pool) -> Answer {
    let hash = match read_hash(hash) {
        Ok(hash) => hash,
        Err(error) => return Answer::refused(error),
    };
    let order = Order::Book { hash };
    match (ordered(pool, order.clone()).await, &pool.chain) {
        (Err(NotDone::Refused(OrderError::NotRecorded)), Some(chain)) => match chain.record_by_hand(hash).await {
            Ok(()) => Answer::booked(ordered(pool, order).await),
            Err(why) => Answer::refused(why),
        },
        (done, _) => Answer::booked(done),
    }
}

async fn booked(pool: &Pool, order: Result<Order, String>) -> (Answer, Next) {
    let answer = match order {
        Ok(order) => Answer::booked(ordered(pool, order).await),
        Err(error) => Answer::refused(error),
    };
    (answer, Next::Listen)
}

/// Why an order has not become an event.
#[derive(Debug, Error)]
enum NotDone {
    #[error("this pool keeps no books")]
    NoBooks,
    #[error("the books have not answered; look at the log, and ask for the block again")]
    NoAnswer,
    #[error(transparent)]
    Refused(OrderError),
}

/// Leaves an order with the books and waits until it is durable, or refused.
async fn ordered(pool: &Pool, order: Order) -> Result<Done, NotDone> {
    let desk = pool.desk.as_ref().ok_or(NotDone::NoBooks)?;
    let (reply, done) = mpsc::channel();
    desk.order(order, reply);
    // Not on the runtime's thread, which has others to answer meanwhile.
    let done = spawn_blocking(move || done.recv_timeout(BOOKS_PATIENCE)).await;
    match done {
        Ok(Ok(done)) => done.map_err(NotDone::Refused),
        Ok(Err(_)) | Err(_) => Err(NotDone::NoAnswer),
    }
}

fn guarded(guards: Result<Guards, String>) -> Answer {
    match guards {
        Ok(guards) => Answer {
            guards: Some(guards),
            ..Answer::done()
        },
        Err(error) => Answer::refused(error),
    }
}

/// Leaves the line with every shard.
fn inform(line: &str, pool: &Pool) -> Result<(), String> {
    if line.is_empty() {
        return Err("`line` is empty; gateways would log nothing".into());
    }
    if line.len() > INFO_MAX {
        return Err(format!(
            "`line` has {} bytes; INFO carries {INFO_MAX}, shorten it",
            line.len()
        ));
    }
    if line.contains(char::is_control) {
        return Err("`line` holds a control character; a gateway logs one line of plain text".into());
    }
    let without_room = pool.order(&ShardCommand::Info(Arc::from(line)));
    if without_room.is_empty() {
        Ok(())
    } else {
        Err(format!("shards {without_room:?}: {InboxFull}"))
    }
}

impl Answer {
    fn booked(done: Result<Done, NotDone>) -> Self {
        match done {
            Ok(done) => Self {
                event: Some(done.event),
                ..Self::done()
            },
            Err(error) => Self::refused(error.to_string()),
        }
    }

    pub fn refused(error: String) -> Self {
        Self {
            ok: false,
            error: Some(error),
            event: None,
            keys: None,
            rules: None,
            status: None,
            guards: None,
        }
    }

    /// With its newline.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("strings and numbers can be written as JSON");
        line.push(b'\n');
        line
    }

    fn done() -> Self {
        Self {
            ok: true,
            error: None,
            event: None,
            keys: None,
            rules: None,
            status: None,
            guards: None,
        }
    }

    fn of(status: Status) -> Self {
        Self {
            status: Some(status),
            ..Self::done()
        }
    }
}
