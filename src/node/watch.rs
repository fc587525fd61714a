//! Looks at one node again and again: what tip it claims, and whether it has left the one before.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::claims::{Claim, Word};
use super::follow::SLOW_AFTER;
use super::rpc::{Header, Shown};
use super::{Node, zmq};
use crate::ledger::monotonic_ns;

/// How often a node is asked where its ZMQ says nothing, or it has none.
const POLL: Duration = Duration::from_secs(1);

/// What a look at a node came to.
pub(super) struct Said {
    pub node: usize,
    pub look: Look,
    /// When there was something to look at, by [`monotonic_ns`].
    pub heard_ns: u64,
}

pub(super) struct Look {
    pub word: Word,
    /// Of the tip that it has, where that is another than before.
    pub head: Option<Header>,
}

impl Look {
    const NOTHING: Self = Self {
        word: Word::Nothing,
        head: None,
    };
}

/// Looks at one node when its ZMQ says so, and once a second, and says what it claims.
pub(super) async fn watch(
    index: usize,
    node: Arc<Node>,
    chain: &'static str,
    changed: Arc<zmq::Stir>,
    say: mpsc::Sender<Said>,
) {
    let mut last: Option<Claim> = None;
    let mut was_well = None;
    let mut heard_ns = monotonic_ns();
    loop {
        let mut looking = pin!(look(&node, chain, last));
        let looked = match timeout(SLOW_AFTER, &mut looking).await {
            Ok(looked) => looked,
            Err(_) => {
                let said = Said {
                    node: index,
                    look: Look::NOTHING,
                    heard_ns,
                };
                if say.send(said).await.is_err() {
                    return;
                }
                looking.await
            }
        };
        let is_well = looked.is_ok();
        node.telemetry.up.set(u64::from(is_well));
        let look = match looked {
            Ok(look) => {
                if was_well == Some(false) {
                    tracing::info!(rpc = %node.rpc.address(), "a node is well again");
                }
                look
            }
            Err(why) => {
                node.telemetry.failures.add(1);
                if was_well != Some(false) {
                    tracing::warn!("a node is not well: {why}");
                }
                Look::NOTHING
            }
        };
        was_well = Some(is_well);
        if last.is_some() && look.head.is_some() {
            changed.find_tip();
        }
        if let Word::Has(claim) | Word::Left { claim, .. } = look.word {
            last = Some(claim);
        }
        let said = Said {
            node: index,
            look,
            heard_ns,
        };
        // Again and again, since the follower may have failed to follow it.
        if say.send(said).await.is_err() {
            return;
        }
        heard_ns = changed.wait(POLL).await;
    }
}

/// The tip that a node has; `last`: that which it had when it was last well.
async fn look(node: &Node, chain: &str, last: Option<Claim>) -> Result<Look, String> {
    let info = node.look().await?;
    let rpc = node.rpc.address();
    if info.chain != chain {
        return Err(format!("{rpc}: it is on the chain `{}` now", info.chain));
    }
    node.telemetry.height.set(info.blocks.into());
    if let Some(last) = last.filter(|last| last.tip == info.best_block) {
        return Ok(Look {
            word: Word::Has(last),
            head: None,
        });
    }
    let head = node
        .header(&info.best_block)
        .await
        .map_err(|error| format!("{rpc}: its tip {} has no header: {error}", info.best_block))?;
    if head.confirmations < 1 {
        return Err(format!(
            "{rpc}: its tip {} is not in its own best chain",
            info.best_block
        ));
    }
    let claim = Claim {
        tip: info.best_block,
        work: head.chain_work,
    };
    let word = match last.filter(|last| claim.work <= last.work) {
        Some(last) if has_left(node, &last.tip).await? => Word::Left { tip: last.tip, claim },
        _ => Word::Has(claim),
    };
    Ok(Look { word, head: Some(head) })
}

/// Whether a node knows the tip that it had and is on another chain now. One that does not know it has lost what it had, to an
/// unclean end or an old copy, and lags until it has caught up.
async fn has_left(node: &Node, tip: &Shown) -> Result<bool, String> {
    match node.header(tip).await {
        Ok(header) => Ok(header.confirmations < 1),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(format!("{}: {error}", node.rpc.address())),
    }
}
