//! Looks at one node again and again: what tip it claims, and whether it has left the one before.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::claims::{Claim, Word};
use super::follow::SLOW_AFTER;
use super::rpc::{ChainTip, Header};
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
        Some(last) if has_left(node, &last, &claim).await? => Word::Left { tip: last.tip, claim },
        _ => Word::Has(claim),
    };
    Ok(Look { word, head: Some(head) })
}

/// Whether a node knows the tip that it had and has chosen another chain. One that does not know it has lost what it had, to an
/// unclean end or an old copy, and lags until it has caught up.
async fn has_left(node: &Node, last: &Claim, now: &Claim) -> Result<bool, String> {
    let failed = |error| format!("{}: {error}", node.rpc.address());
    let header = match node.header(&last.tip).await {
        Ok(header) => header,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if header.confirmations >= 1 || now.work == last.work {
        return Ok(header.confirmations < 1);
    }
    let tips: Vec<ChainTip> = node.rpc.call("getchaintips", &[]).await.map_err(failed)?;
    Ok(!is_catching_up(&tips, header.height))
}

/// Whether a node that has less work than its former tip's, of this height, is about to have as much again: after an unclean end it
/// may know blocks that it has yet to connect once more. No node chooses less work, but where it takes all that is above for invalid.
fn is_catching_up(tips: &[ChainTip], height: u32) -> bool {
    let mut ahead = tips.iter().filter(|tip| tip.height >= height);
    ahead.any(|tip| !matches!(&*tip.status, "active" | "invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_work_is_chosen_only_where_all_that_is_above_is_invalid() {
        let is_catching_up = |tips: &[(u32, &str)]| {
            let tip = |(height, status): &(u32, &str)| ChainTip {
                height: *height,
                status: (*status).to_owned(),
            };
            is_catching_up(&tips.iter().map(tip).collect::<Vec<_>>(), 10)
        };
        for status in ["valid-fork", "valid-headers", "headers-only"] {
            assert!(is_catching_up(&[(8, "active"), (10, status)]));
            assert!(
                is_catching_up(&[(8, "active"), (12, status), (9, "invalid")]),
                "headers beyond it"
            );
            assert!(
                !is_catching_up(&[(8, "active"), (10, "invalid"), (9, status)]),
                "an old branch"
            );
        }
        assert!(!is_catching_up(&[(8, "active"), (10, "invalid")]));
        // On testnets a chain of more blocks may have less work.
        assert!(!is_catching_up(&[(11, "active"), (10, "invalid")]));
    }
}
