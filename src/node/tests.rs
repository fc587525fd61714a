//! A start with nodes that hang.

use std::net::{SocketAddr, TcpListener};

use tempfile::TempDir;
use tokio::time::timeout;

use super::fixtures::{answer_call, config_of, read_call};
use super::rpc::CALL_PATIENCE;
use super::*;
use crate::config::{NodeChainName, TemplateRule};

/// Less than one call to a node that hangs may take.
const SOON: Duration = Duration::from_secs(12);

/// Answers its first caller that it is on this chain.
async fn node_on(chain: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a caller");
        let call = read_call(&mut stream).await;
        let body = serde_json::json!({
            "result": {
                "chain": chain, "blocks": 7, "headers": 7, "initialblockdownload": false, "bestblockhash": "00".repeat(32),
            },
            "error": null, "id": call["id"],
        });
        answer_call(&mut stream, "200 OK", &body.to_string()).await;
    });
    address
}

/// Behind two nodes that hang.
async fn meet(third: Option<SocketAddr>, patience: Duration) -> Result<usize, NodeError> {
    let folder = TempDir::new().expect("a folder");
    let hanging = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let hang = hanging.iter().map(|node| node.local_addr().expect("bound"));
    let nodes: Vec<_> = hang.chain(third).map(|rpc| config_of(folder.path(), rpc)).collect();
    let telemetry: Vec<_> = nodes.iter().map(|_| Arc::default()).collect();
    let chain = NodeChain {
        name: NodeChainName::Regtest,
        target_shift: 0,
        stale_grace_s: 1,
        difficulty_floor: 1,
        nodes,
        templates: TemplateRule {
            check_one_in: 0,
            refuses_unshown: false,
            transaction_bytes: 0,
        },
    };
    assert!(SOON < CALL_PATIENCE);
    let met = timeout(SOON, connect(&chain, &telemetry, patience)).await;
    Ok(met.expect("nodes that hang are waited for")?.len())
}

#[tokio::test]
async fn nodes_that_hang_keep_no_other_from_being_used() {
    let met = meet(Some(node_on("regtest").await), Duration::from_secs(8)).await;
    assert_eq!(met.expect("one can be used"), 3, "all of them are");
}

#[tokio::test]
async fn nodes_that_hang_hide_no_other_that_is_on_another_chain() {
    let met = meet(Some(node_on("main").await), Duration::from_secs(8)).await;
    assert!(matches!(met, Err(NodeError::WrongChain { found, .. }) if found == "main"));
}

#[tokio::test]
async fn a_start_with_nodes_that_all_hang_takes_no_longer_than_it_may() {
    match meet(None, Duration::from_millis(100)).await {
        Err(NodeError::NoneReady(why)) => {
            assert_eq!(why.len(), 2);
            assert!(why.iter().all(|why| why.contains("in time")), "{why:?}");
        }
        other => panic!("{other:?}"),
    }
}
