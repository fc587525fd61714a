//! Keeps what is known close to what a node would mine: its own template, and its mempool.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::FromHex;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Shared, Word};
use crate::ledger::monotonic_ns;
use crate::node::Node;
use crate::node::aside;
use crate::node::rpc::{Offer, RpcError, Shown};
use crate::work::{OwnTemplate, TemplateBody, TemplateTransaction};

/// How often a node is asked while its tip stays: it makes a new template every few seconds itself.
const EVERY: Duration = Duration::from_secs(10);

/// Transactions fetched with one request, and in one round: a mempool of 100,000 is known after some minutes, and what a
/// template has of it is known at once, since the node's own is fetched first.
const FETCH_TOGETHER: usize = 256;
const FETCH_MAX: usize = 8_192;

/// `first_round`: hears when the first round is over, whatever came of it.
pub(super) async fn follow(shared: Arc<Shared>, first_round: oneshot::Sender<()>) {
    let mut tips = shared.tips.clone();
    let mut was_well = true;
    let mut first_round = Some(first_round);
    loop {
        let node = shared.nodes[tips.borrow_and_update().node].clone();
        let refreshed = shared.refresh(&node).await;
        if let Err(error) = &refreshed
            && was_well
        {
            tracing::warn!(rpc = %node.rpc.address(), %error, "a node does not tell of its mempool");
        }
        was_well = refreshed.is_ok();
        if let Some(first_round) = first_round.take() {
            // Who waited for it may have gone on.
            let _ = first_round.send(());
        }
        if let Ok(Err(_)) = timeout(EVERY, tips.changed()).await {
            return;
        }
    }
}

impl Shared {
    async fn refresh(self: &Arc<Self>, node: &Arc<Node>) -> Result<(), RpcError> {
        let own = self.learn_template(node).await?;
        self.telemetry.own_ns.set(monotonic_ns());
        (self.say)(Word::Own(own));
        self.learn_mempool(node).await?;
        let library = self.library.clone();
        let (known, bytes) = aside(move || {
            let known = library.known();
            (known.len(), known.bytes())
        })
        .await;
        self.telemetry.known.set(known as u64);
        self.telemetry.known_bytes.set(bytes as u64);
        Ok(())
    }

    /// What the node would mine: most of what gateways mine is in it.
    async fn learn_template(self: &Arc<Self>, node: &Arc<Node>) -> Result<OwnTemplate, RpcError> {
        let library = self.library.clone();
        let request = json!({"rules": ["segwit", "signet"]});
        let learn = move |template: Offer| {
            let transactions: Option<Vec<_>> = template
                .transactions
                .iter()
                .map(|offered| read(&offered.data))
                .collect();
            let transactions = transactions.ok_or_else(|| RpcError::Nonsense("a transaction of a template".into()))?;
            // Before the lock: it hashes a while.
            let body = Arc::new(TemplateBody::new(transactions));
            let mut known = library.known();
            known.begin_round();
            for transaction in body.transactions() {
                known.needs(&transaction.txid);
                known.learn(transaction.clone());
            }
            known.learn_template(body.clone());
            Ok::<_, RpcError>((template.previous.0, template.value))
        };
        let (parent, value) = node.call_aside("getblocktemplate", vec![request], learn).await??;
        let chain = self.tips.borrow().chain.clone();
        Ok(OwnTemplate {
            parent,
            // Where the parent is not known yet, nobody's job on it is held against this.
            subsidy: chain.parent(&parent).map_or(value, |parent| parent.subsidy),
            value,
        })
    }

    async fn learn_mempool(self: &Arc<Self>, node: &Arc<Node>) -> Result<(), RpcError> {
        let library = self.library.clone();
        let unknown = move |txids: Vec<Shown>| {
            let mut known = library.known();
            let mut unknown: Vec<Shown> = txids.into_iter().filter(|txid| !known.needs(&txid.0)).collect();
            unknown.truncate(FETCH_MAX);
            unknown
        };
        let unknown: Vec<Shown> = node.call_aside("getrawmempool", Vec::new(), unknown).await?;
        for some in unknown.chunks(FETCH_TOGETHER) {
            let params: Vec<Value> = some.iter().map(|txid| json!([txid.to_string()])).collect();
            let (node, library) = (node.clone(), self.library.clone());
            let runtime = tokio::runtime::Handle::current();
            aside(move || {
                let raw = runtime.block_on(node.rpc.call_each::<String>("getrawtransaction", &params))?;
                // One that has left the mempool meanwhile has no answer.
                let transactions: Vec<_> = raw.into_iter().flatten().filter_map(|raw| read(&raw)).collect();
                let mut known = library.known();
                transactions
                    .into_iter()
                    .for_each(|transaction| known.learn(transaction));
                Ok::<_, RpcError>(())
            })
            .await?;
        }
        Ok(())
    }
}

fn read(hex: &str) -> Option<Arc<TemplateTransaction>> {
    let raw = Vec::from_hex(hex).ok()?;
    TemplateTransaction::read(&raw).map(Arc::new)
}
