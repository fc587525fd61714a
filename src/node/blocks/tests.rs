//! In which order a block that was just found has others asked, and who is not waited for.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::node::fixtures::{answer_call, candidate, candidate_of, node_at, read_call, showing, tip};
use crate::node::rpc::CALL_PATIENCE;
use crate::node::templates::{AskGateway, Heard};
use crate::work::known::tests::transaction;
use crate::work::{Candidate, TemplateBody, ValidateOutcome, header_hash};

/// Less than one call to a node that hangs may take.
const SOON: Duration = Duration::from_secs(12);

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
        // Until the call itself is given up.
        patience: Patience {
            hurried: CALL_PATIENCE,
            calm: CALL_PATIENCE,
        },
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
    // A node that is there and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let rpc = listener.local_addr().expect("it is bound");
    let nodes = vec![Arc::new(node_at(folder.path(), rpc))];
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

/// How a node stands to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Lacks,
    Has,
    /// It has it beside its chain, and does not answer who wants it.
    KeepsIt,
    Hangs,
}

/// Nodes that stand so to a block on these transactions, and who hears when one of them is given it.
struct World {
    folder: TempDir,
    found: CandidateRow,
    body: Arc<TemplateBody>,
    nodes: Vec<Arc<Node>>,
    given: mpsc::UnboundedReceiver<usize>,
}

impl World {
    async fn new(stands: &[Stands]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let body = Arc::new(TemplateBody::new(vec![transaction(1, false)]));
        let candidate = candidate_of(&body);
        let candidate = Candidate {
            hash: header_hash(&candidate.header),
            ..candidate
        };
        let raw = candidate.block(body.clone()).expect("it fits together").to_hex();
        let (tell, given) = mpsc::unbounded_channel();
        let mut nodes = Vec::new();
        for (node, stands) in stands.iter().enumerate() {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let rpc = listener.local_addr().expect("it is bound");
            nodes.push(Arc::new(node_at(folder.path(), rpc)));
            let (stands, raw, tell) = (*stands, raw.clone(), tell.clone());
            tokio::spawn(async move {
                let mut unanswered = Vec::new();
                while let Ok((mut stream, _)) = listener.accept().await {
                    let call = read_call(&mut stream).await;
                    let hash = &call["params"][0];
                    let header = |confirmations: i32| {
                        json!({
                            "hash": hash, "confirmations": confirmations, "height": 1, "bits": "1d00ffff", "time": 1,
                            "mediantime": 1, "chainwork": "00".repeat(32), "nTx": 2,
                        })
                    };
                    let answer = match (call["method"].as_str(), stands) {
                        (Some("submitblock"), _) => {
                            tell.send(node).expect("somebody hears");
                            Ok(Value::Null)
                        }
                        (Some("getblockheader"), Stands::Lacks) => {
                            Err(json!({"code": -5, "message": "Block not found"}))
                        }
                        (Some("getblockheader"), Stands::Has) => Ok(header(1)),
                        (Some("getblockheader"), Stands::KeepsIt) => Ok(header(-1)),
                        (Some("getblock"), Stands::Has) => Ok(raw.clone().into()),
                        _ => {
                            unanswered.push(stream);
                            continue;
                        }
                    };
                    let (status, answer, error) = match answer {
                        Ok(answer) => ("200 OK", answer, Value::Null),
                        Err(error) => ("500 Internal Server Error", Value::Null, error),
                    };
                    let body = json!({"result": answer, "error": error, "id": call["id"]}).to_string();
                    answer_call(&mut stream, status, &body).await;
                }
            });
        }
        Self {
            folder,
            found: CandidateRow::new(candidate, [9; 32], 0).of_frame(1),
            body,
            nodes,
            given,
        }
    }

    /// Offers the block once, soon enough, and gives the nodes that were given it.
    async fn offer(&mut self, ask: AskGateway) -> Vec<usize> {
        assert!(SOON < CALL_PATIENCE);
        let shared = shared(self.folder.path(), self.nodes.clone(), ask);
        let mut tending = Tending::new(&shared, &self.found);
        let offered = timeout(SOON, tending.offer()).await;
        offered.expect("somebody is waited for");
        assert_eq!(tending.unmade, None);
        let is_given = (0..self.nodes.len()).filter(|node| tending.delivery.is_given(*node));
        let is_given: Vec<usize> = is_given.collect();
        for _ in &is_given {
            let given = timeout(SOON, self.given.recv()).await.expect("it comes");
            assert!(given.is_some_and(|node| is_given.contains(&node)));
        }
        is_given
    }
}

#[tokio::test]
async fn what_a_gateway_shows_goes_out_at_once_whatever_nodes_have_yet_to_say() {
    for stands in [Stands::Hangs, Stands::KeepsIt] {
        let mut world = World::new(&[stands, Stands::Lacks]).await;
        let shown = showing(&world.body);
        let ask: AskGateway = Arc::new(move |_, _, _, _| {
            let shown = shown.clone();
            Box::pin(async { Heard::Outcome(shown) })
        });
        assert_eq!(world.offer(ask).await, [0, 1], "{stands:?}");
    }
}

#[tokio::test]
async fn a_block_that_a_node_has_does_not_wait_for_its_gateway() {
    let silent: AskGateway = Arc::new(|_, _, _, _| Box::pin(std::future::pending()));
    let mut world = World::new(&[Stands::Lacks, Stands::Has]).await;
    assert_eq!(world.offer(silent.clone()).await, [0]);
    let mut world = World::new(&[Stands::Has, Stands::Has]).await;
    assert_eq!(world.offer(silent).await, [0; 0]);
}
