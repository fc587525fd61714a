//! Looks at one node again and again: what tip it claims, and whether it has left the one before.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::claims::{Claim, Word};
use super::follow::SLOW_AFTER;
use super::rpc::{ChainTip, Header, RpcError};
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

/// What a node claimed when it was well.
#[derive(Debug, Clone, Copy, Default)]
struct Past {
    /// At the last look.
    last: Option<Claim>,
    /// The latest that it has not left knowingly: one of more work than the last is of a node that lags, and may be left yet.
    held: Option<Claim>,
}

impl Past {
    fn hear(&mut self, word: &Word) {
        let (claim, is_held) = match *word {
            Word::Nothing => return,
            Word::Has(claim) => (claim, self.held.is_some_and(|held| claim.work < held.work)),
            Word::Left { claim, .. } => (claim, false),
        };
        self.last = Some(claim);
        if !is_held {
            self.held = Some(claim);
        }
    }
}

/// Looks at one node when its ZMQ says so, and once a second, and says what it claims.
pub(super) async fn watch(
    index: usize,
    node: Arc<Node>,
    chain: &'static str,
    changed: Arc<zmq::Stir>,
    say: mpsc::Sender<Said>,
) {
    let mut past = Past::default();
    let mut was_well = None;
    let mut heard_ns = monotonic_ns();
    loop {
        let mut looking = pin!(look(&node, chain, past));
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
        if past.last.is_some() && look.head.is_some() {
            changed.find_tip();
        }
        past.hear(&look.word);
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

/// The tip that a node has.
async fn look(node: &Node, chain: &str, past: Past) -> Result<Look, String> {
    let info = node.look().await?;
    let rpc = node.rpc.address();
    if info.chain != chain {
        return Err(format!("{rpc}: it is on the chain `{}` now", info.chain));
    }
    node.telemetry.height.set(info.blocks.into());
    let (claim, head) = match past.last.filter(|last| last.tip == info.best_block) {
        Some(last) => (last, None),
        None => {
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
            (claim, Some(head))
        }
    };
    let former = past
        .held
        .filter(|held| held.tip != claim.tip && claim.work <= held.work);
    let word = match former {
        Some(former) if has_left(node, &former, &claim).await? => Word::Left { tip: former.tip, claim },
        _ => Word::Has(claim),
    };
    Ok(Look { word, head })
}

/// Whether a node knows the tip that it had and has chosen another chain. One that does not know it has lost what it had, to an
/// unclean end or an old copy, and lags until it has caught up. So does one that does not say, as where its `rpcwhitelist` is without
/// `getchaintips`.
async fn has_left(node: &Node, former: &Claim, now: &Claim) -> Result<bool, String> {
    let failed = |error| format!("{}: {error}", node.rpc.address());
    let header = match node.header(&former.tip).await {
        Ok(header) => header,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if header.confirmations >= 1 || now.work == former.work {
        return Ok(header.confirmations < 1);
    }
    match node.rpc.call::<Vec<ChainTip>>("getchaintips", &[]).await {
        Ok(tips) => Ok(!is_catching_up(&tips, header.height)),
        Err(RpcError::Said { .. } | RpcError::Forbidden) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a node that has less work than its former tip's, of this height, is about to have as much again: after an unclean end it
/// may know blocks that it has yet to connect once more. No node chooses less work, but where it takes all that is above for invalid.
fn is_catching_up(tips: &[ChainTip], height: u32) -> bool {
    let mut ahead = tips.iter().filter(|tip| tip.height >= height);
    ahead.any(|tip| !matches!(&*tip.status, "active" | "invalid"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use tempfile::TempDir;
    use tokio::net::TcpListener;

    use super::*;
    use crate::node::fixtures::{answer_call, node_at, read_call};
    use crate::node::rpc::{ChainWork, Shown};

    /// A node whose blocks are named by their heights, and their work is that as well.
    struct World {
        node: Node,
        past: Past,
        state: Arc<Mutex<State>>,
        _login: TempDir,
    }

    struct State {
        tip: u8,
        /// What `getchaintips` says of block 10; none where the login may not ask.
        status: Option<&'static str>,
    }

    impl World {
        async fn new() -> Self {
            let folder = TempDir::new().expect("a folder");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let rpc = listener.local_addr().expect("bound");
            let state = Arc::new(Mutex::new(State { tip: 10, status: None }));
            let said = state.clone();
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.expect("a caller");
                    let call = read_call(&mut stream).await;
                    let (status, body) = match answer(&said.lock().expect("no panic"), &call) {
                        Some(result) => (
                            "200 OK",
                            json!({"result": result, "error": null, "id": call["id"]}).to_string(),
                        ),
                        None => ("403 Forbidden", String::new()),
                    };
                    answer_call(&mut stream, status, &body).await;
                }
            });
            Self {
                node: node_at(folder.path(), rpc),
                past: Past::default(),
                state,
                _login: folder,
            }
        }

        /// Its next word, and whether its tip is another than before.
        async fn look(&mut self, tip: u8, status: Option<&'static str>) -> (Word, bool) {
            *self.state.lock().expect("no panic") = State { tip, status };
            let look = look(&self.node, "regtest", self.past).await.expect("it is well");
            self.past.hear(&look.word);
            (look.word, look.head.is_some())
        }
    }

    /// As bitcoind does; none where it forbids the call.
    fn answer(state: &State, call: &Value) -> Option<Value> {
        let (tip, hash) = (state.tip, |height: u8| Shown([height; 32]).to_string());
        Some(match call["method"].as_str().expect("a method") {
            "getblockchaininfo" => json!({
                "chain": "regtest", "blocks": tip, "headers": 10, "initialblockdownload": false,
                "bestblockhash": hash(tip),
            }),
            "getblockheader" => {
                let asked = call["params"][0].as_str().expect("a hash");
                let height = (0..=20)
                    .find(|height| hash(*height) == asked)
                    .expect("one of its blocks");
                json!({
                    "hash": asked, "confirmations": if height <= tip { 1 } else { -1 }, "height": height,
                    "bits": "207fffff", "mediantime": 5, "time": 9, "nTx": 1, "chainwork": asked,
                })
            }
            "getchaintips" => json!([
                {"height": tip, "status": "active"},
                {"height": 10, "status": state.status?},
            ]),
            other => panic!("{other}"),
        })
    }

    fn claim(height: u8) -> Claim {
        Claim {
            tip: Shown([height; 32]),
            work: ChainWork([height; 32]),
        }
    }

    #[tokio::test]
    async fn a_tip_that_turns_out_invalid_while_a_node_catches_up_is_left() {
        let mut world = World::new().await;
        assert_eq!(world.look(10, None).await, (Word::Has(claim(10)), true));
        for (tip, is_new) in [(7, true), (7, false), (8, true)] {
            let said = world.look(tip, Some("headers-only")).await;
            assert_eq!(said, (Word::Has(claim(tip)), is_new), "it lags");
        }
        let left = Word::Left {
            tip: claim(10).tip,
            claim: claim(8),
        };
        assert_eq!(world.look(8, Some("invalid")).await, (left, false));
        assert_eq!(
            world.look(8, Some("invalid")).await,
            (Word::Has(claim(8)), false),
            "once"
        );
        assert_eq!(world.look(9, Some("invalid")).await, (Word::Has(claim(9)), true));
    }

    #[tokio::test]
    async fn a_node_that_may_not_be_asked_for_its_chain_tips_is_well_and_lags() {
        let mut world = World::new().await;
        for tip in [10, 8, 10, 11] {
            assert_eq!(world.look(tip, None).await, (Word::Has(claim(tip)), true));
        }
    }

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
