//! In which order a block that was just found has others asked.

use std::net::TcpListener;
use std::path::Path;

use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::config::{NodeConfig, NodeLogin};
use crate::node::fixtures::{candidate, tip};
use crate::node::templates::{AskGateway, Heard};
use crate::work::{Candidate, ValidateOutcome};

/// Of which gateway, about which slot, and whether the node had been called by then.
type Question = ([u8; 32], u8, bool);

/// On a template of which nothing is known.
fn found() -> CandidateRow {
    let candidate = Candidate {
        job_id: 5,
        ..candidate([0; 80], Vec::new(), vec![[7; 32]], 1)
    };
    CandidateRow::new(candidate, [9; 32], 0).of_frame(1)
}

fn shared(folder: &Path, nodes: Vec<Arc<Node>>, ask: AskGateway) -> Shared {
    Shared {
        tended: Mutex::default(),
        open: Mutex::default(),
        unsettled: Mutex::default(),
        nodes,
        desk: OrderDesk::unheard(),
        library: Library::new(1 << 20, ask, Handle::current()),
        store: BlockStore::open(folder).expect("a folder"),
        tips: watch::channel(tip()).1,
        telemetry: Arc::default(),
        fresh: Semaphore::new(TOGETHER_MAX),
        together: Semaphore::new(TOGETHER_MAX),
    }
}

#[tokio::test]
async fn the_failure_of_what_tends_a_block_is_counted_and_the_block_can_be_given_another_task() {
    let folder = TempDir::new().expect("a folder");
    let ask: AskGateway = Arc::new(|_, _, _, _| Box::pin(async { Heard::Outcome(ValidateOutcome::SessionEnded) }));
    let shared = Arc::new(shared(folder.path(), Vec::new(), ask));
    for (failed, fails) in [(0, false), (1, true)] {
        let hash = [1; 32];
        shared.tended().insert(hash, Arc::default());
        let tended = Tended {
            shared: shared.clone(),
            hash,
        };
        let ended = tokio::spawn(async move {
            let _tended = tended;
            assert!(!fails, "a node too many");
        });
        assert_eq!(ended.await.is_err(), fails);
        assert!(shared.tended().is_empty());
        assert_eq!(shared.telemetry.tasks_failed[ChainTask::Block].value(), failed);
    }
}

#[tokio::test]
async fn a_gateway_is_asked_for_its_block_before_any_node_is_looked_at() {
    let folder = TempDir::new().expect("a folder");
    let login = folder.path().join("cookie");
    std::fs::write(&login, "__cookie__:secret").expect("a file");
    // A node that is there and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let rpc = listener.local_addr().expect("it is bound");
    let config = NodeConfig {
        rpc,
        login: NodeLogin::Cookie(login),
        zmq: Vec::new(),
    };
    let nodes = vec![Arc::new(Node::new(&config, Arc::default()))];
    let asked: Arc<Mutex<Vec<Question>>> = Arc::default();
    let questions = asked.clone();
    let ask: AskGateway = Arc::new(move |gateway, slot, _, _| {
        let is_looked_at = listener.accept().is_ok();
        let mut questions = questions.lock().expect("no panic");
        questions.push((gateway, slot, is_looked_at));
        Box::pin(async { Heard::Outcome(ValidateOutcome::SessionEnded) })
    });
    let shared = shared(folder.path(), nodes, ask);
    let found = found();
    let mut tending = Tending::new(&shared, &found);
    tending.offer().await;
    assert!(tending.unmade.is_some_and(|why| why.contains("SessionEnded")));
    assert_eq!(*asked.lock().expect("no panic"), [([9; 32], 5, false)], "and once");
}

#[tokio::test]
async fn books_that_say_nothing_are_not_waited_for_on_a_thread() {
    let folder = TempDir::new().expect("a folder");
    let ask: AskGateway = Arc::new(|_, _, _, _| Box::pin(async { Heard::Outcome(ValidateOutcome::SessionEnded) }));
    let (desk, _behind) = OrderDesk::unanswered();
    let shared = Shared {
        desk,
        ..shared(folder.path(), Vec::new(), ask)
    };
    // More than a runtime has threads to wait on.
    for _ in 0..1_000 {
        let state = timeout(Duration::ZERO, shared.state([1; 32])).await;
        assert!(state.is_err(), "nobody has answered");
    }
    let aside = timeout(Duration::from_secs(60), aside(|| 7)).await;
    assert_eq!(aside.ok(), Some(7), "what takes a thread has one");
    let (reply, state) = replies::channel();
    reply.send(5).expect("it is there");
    assert_eq!(answer(state).await, Some(5));
    let (reply, state) = replies::channel::<u8>();
    drop(reply);
    assert_eq!(answer(state).await, None, "they are closed");
}
