//! A start with nodes that hang.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use tempfile::TempDir;
use tokio::time::timeout;

use super::rpc::CALL_PATIENCE;
use super::*;
use crate::config::{NodeChainName, NodeLogin, TemplateRule};

/// Less than one call to a node that hangs may take.
const SOON: Duration = Duration::from_secs(12);

/// Answers its first caller that it is on this chain.
fn node_on(chain: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            let mut some = [0; 1_024];
            let count = stream.read(&mut some).expect("a call");
            asked.extend_from_slice(&some[..count]);
        }
        let call = asked.iter().position(|byte| *byte == b'{').expect("JSON");
        let call: Value = serde_json::from_slice(&asked[call..]).expect("JSON");
        let body = serde_json::json!({
            "result": {
                "chain": chain, "blocks": 7, "headers": 7, "initialblockdownload": false, "bestblockhash": "00".repeat(32),
            },
            "error": null, "id": call["id"],
        });
        let body = body.to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close", body.len());
        write!(stream, "{head}\r\n\r\n{body}").expect("it listens");
    });
    address
}

/// Behind two nodes that hang.
async fn meet(third: Option<SocketAddr>, patience: Duration) -> Result<usize, NodeError> {
    let folder = TempDir::new().expect("a folder");
    let login = folder.path().join("cookie");
    std::fs::write(&login, "__cookie__:secret").expect("a file");
    let hanging = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let hang = hanging.iter().map(|node| node.local_addr().expect("bound"));
    let nodes: Vec<_> = hang
        .chain(third)
        .map(|rpc| NodeConfig {
            rpc,
            login: NodeLogin::Cookie(login.clone()),
            zmq: Vec::new(),
        })
        .collect();
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
    let met = meet(Some(node_on("regtest")), Duration::from_secs(8)).await;
    assert_eq!(met.expect("one can be used"), 3, "all of them are");
}

#[tokio::test]
async fn nodes_that_hang_hide_no_other_that_is_on_another_chain() {
    let met = meet(Some(node_on("main")), Duration::from_secs(8)).await;
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
