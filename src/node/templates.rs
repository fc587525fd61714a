//! Templates that gateways build, held against a node: the transactions behind them are asked for as far as they are not
//! known (protocol section 7), and a node says whether a block could come of them.
//!
//! All of it is off the way of a share, and what takes long is off the control plane's thread as well.

mod check;
mod hearing;
mod mempool;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};

use self::check::{Check, Step, Verdict};
use self::hearing::Hearing;
pub(super) use self::hearing::says_nothing;
use super::follow::NewTip;
use super::rpc::RpcError;
use super::{Node, aside};
use crate::ledger::monotonic_ns;
use crate::telemetry::{TemplateOutcome, TemplateTelemetry};
use crate::work::{
    Answer, Ask, Candidate, CoinbaseRoom, GatewayClaim, KnownTemplates, KnownTransactions, OwnTemplate, RawBlock,
    TemplateBody, TemplateClaim, ValidateOutcome,
};

/// Templates that are checked at the same time. Each may hold a block of 4 MB a few times over while it is.
const TOGETHER_MAX: usize = 4;

/// Claims that may wait for that; what comes past them is not checked.
pub const CLAIMS_MAX: usize = 256;

/// A claim that has waited for so long is dropped: templates come 5 s apart at the least, and there are 8 slots.
const CLAIM_PATIENCE_NS: u64 = 20_000_000_000;

/// A gateway that answers another question is asked again after so long, and so often.
const BUSY_REST: Duration = Duration::from_millis(200);
const BUSY_MAX: u32 = 100;

/// A block on its way to the nodes goes first: they look at one at a time.
const CANDIDATE_REST: Duration = Duration::from_secs(2);

/// A node that was on another tip than the template is asked again after so long, where another has refused it.
const OTHER_TIP_REST: Duration = Duration::from_secs(2);

/// Templates in a row whose transactions a gateway does not show, until its work is refused. Of an honest one a slot may
/// have been used again before it was asked.
const UNSHOWN_MAX: u32 = 3;

/// Gateways whose last template was not shown.
const UNSHOWN_GATEWAYS_MAX: usize = 65_536;

/// Asks a gateway, by its long-term Ed25519 key, about the job in a slot.
pub type AskGateway = Arc<dyn Fn([u8; 32], u8, Ask) -> Asked + Send + Sync>;
pub type Asked = Pin<Box<dyn Future<Output = ValidateOutcome> + Send>>;

/// What the rest of the pool hears of templates.
pub enum Word {
    Own(OwnTemplate),
    /// No block can come of this job; why, for people.
    Condemned {
        gateway: [u8; 32],
        slot: u8,
        number: u64,
        why: String,
    },
    /// What this job's template leaves to its coinbases.
    Room {
        gateway: [u8; 32],
        slot: u8,
        number: u64,
        room: CoinbaseRoom,
    },
}

pub type Say = Box<dyn Fn(Word) + Send + Sync>;

/// Checks templates for as long as the runtime lives.
pub struct Templates {
    shared: Arc<Shared>,
    claims: mpsc::Receiver<Claimed>,
}

/// A claim, and when it was made, by [`monotonic_ns`].
pub struct Claimed {
    pub claim: GatewayClaim,
    pub at_ns: u64,
}

/// The transactions that the pool has seen, for whoever has a block to make.
#[derive(Clone)]
pub struct Library {
    known: Arc<Mutex<KnownTransactions>>,
    templates: Arc<KnownTemplates>,
    ask: AskGateway,
}

struct Shared {
    nodes: Vec<Arc<Node>>,
    library: Library,
    tips: watch::Receiver<NewTip>,
    say: Say,
    telemetry: Arc<TemplateTelemetry>,
    together: Arc<Semaphore>,
    /// Gateways whose templates are being checked: one of each at a time.
    under_way: Mutex<HashSet<[u8; 32]>>,
    /// How many templates in a row were not shown, by gateway.
    unshown: Mutex<HashMap<[u8; 32], u32>>,
}

impl Library {
    /// `budget`: bytes that all transactions may take.
    #[must_use]
    pub fn new(budget: usize, ask: AskGateway) -> Self {
        let known = KnownTransactions::new(budget);
        Self {
            templates: known.templates().clone(),
            known: Arc::new(Mutex::new(known)),
            ask,
        }
    }

    /// The block of a candidate, where it has no transactions or they are known: those of our node's template, or of one
    /// that a node found good. None as well where they do not make it: the gateway may have others of the same ids.
    ///
    /// What it takes is a hash for each level of the tree, so it needs no thread of its own.
    pub(super) fn known_block(&self, candidate: &Candidate) -> Option<RawBlock> {
        let body = match candidate.stands_alone() {
            true => Arc::new(TemplateBody::new(Vec::new())),
            false => self.templates.find(&candidate.branches)?,
        };
        candidate.block(body).ok()
    }

    /// The same with the transactions that its gateway answers.
    ///
    /// # Errors
    /// Why there is none yet.
    pub(super) async fn asked_block(&self, candidate: &Candidate, gateway: [u8; 32]) -> Result<RawBlock, String> {
        let outcome = self.ask_when_free(gateway, candidate.job_id, Ask::All).await;
        let ValidateOutcome::Answered(Answer::Transactions(encoded)) = outcome else {
            return Err(format!(
                "its transactions are not known, and its gateway was asked for them: {outcome:?}"
            ));
        };
        let wanted = candidate.clone();
        aside(move || {
            let transactions = check::read(&encoded).ok_or("what its gateway shows are no transactions")?;
            let body = Arc::new(TemplateBody::new(transactions));
            wanted.block(body).map_err(|error| error.to_string())
        })
        .await
    }

    async fn ask_when_free(&self, gateway: [u8; 32], slot: u8, ask: Ask) -> ValidateOutcome {
        let mut outcome = ValidateOutcome::Busy;
        for _ in 0..BUSY_MAX {
            outcome = (self.ask)(gateway, slot, ask.clone()).await;
            if outcome != ValidateOutcome::Busy {
                break;
            }
            tokio::time::sleep(BUSY_REST).await;
        }
        outcome
    }

    /// Not on the runtime's own thread: it may be held for a few ms.
    fn known(&self) -> MutexGuard<'_, KnownTransactions> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Templates {
    #[must_use]
    pub fn new(
        nodes: Vec<Arc<Node>>,
        library: Library,
        tips: watch::Receiver<NewTip>,
        claims: mpsc::Receiver<Claimed>,
        say: Say,
        telemetry: Arc<TemplateTelemetry>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                nodes,
                library,
                tips,
                say,
                telemetry,
                together: Arc::new(Semaphore::new(TOGETHER_MAX)),
                under_way: Mutex::default(),
                unshown: Mutex::default(),
            }),
            claims,
        }
    }

    pub async fn tend(mut self) {
        tokio::spawn(mempool::follow(self.shared.clone()));
        loop {
            // A place first, so that claims wait where they are bounded.
            let Ok(place) = self.shared.together.clone().acquire_owned().await else {
                return;
            };
            let Some(Claimed { claim, at_ns }) = self.claims.recv().await else {
                return;
            };
            let shared = self.shared.clone();
            // One that waited long would be asked about a slot that was used again.
            if monotonic_ns().saturating_sub(at_ns) > CLAIM_PATIENCE_NS || !shared.begin(claim.gateway) {
                shared.telemetry.outcomes[TemplateOutcome::Busy].add(1);
                continue;
            }
            tokio::spawn(async move {
                let _place = place;
                if claim.claim.is_candidate {
                    tokio::time::sleep(CANDIDATE_REST).await;
                }
                let gateway = claim.gateway;
                shared.look_at(claim).await;
                shared.under_way().remove(&gateway);
            });
        }
    }
}

impl Shared {
    /// False where another template of the gateway's is being checked.
    fn begin(&self, gateway: [u8; 32]) -> bool {
        self.under_way().insert(gateway)
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_at(self: &Arc<Self>, claim: GatewayClaim) {
        let started_ns = monotonic_ns();
        let (check, verdict, room) = self.check(Check::new(claim)).await;
        let GatewayClaim { gateway, claim, .. } = check.claim();
        let Verdict { outcome, why } = verdict;
        self.telemetry.outcomes[outcome].add(1);
        self.telemetry.check.record(monotonic_ns().saturating_sub(started_ns));
        let by = gateway.to_lower_hex_string();
        if check.had_wrong_ids() {
            self.telemetry.wrong_ids.add(1);
            tracing::warn!(
                gateway = by,
                slot = claim.slot,
                "a gateway's short ids are not those of its transactions"
            );
        }
        let unshown = self.note_unshown(gateway, outcome);
        if outcome == TemplateOutcome::Invalid || unshown >= UNSHOWN_MAX {
            tracing::warn!(
                gateway = by,
                slot = claim.slot,
                transactions = claim.tx_count,
                ?outcome,
                why,
                "no block can come of a gateway's template: its shares are refused"
            );
            (self.say)(Word::Condemned {
                gateway: *gateway,
                slot: claim.slot,
                number: claim.number,
                why,
            });
            return;
        }
        if let Some(room) = room {
            (self.say)(Word::Room {
                gateway: *gateway,
                slot: claim.slot,
                number: claim.number,
                room,
            });
        }
        if outcome == TemplateOutcome::Disputed {
            tracing::warn!(
                gateway = by,
                slot = claim.slot,
                why,
                "the nodes do not agree on a gateway's template: its shares count, and one of the nodes errs"
            );
        } else {
            tracing::debug!(gateway = by, slot = claim.slot, ?outcome, why, "a template was checked");
        }
    }

    /// What came of it, and what the template leaves to coinbases where its transactions were seen.
    async fn check(self: &Arc<Self>, mut check: Check) -> (Check, Verdict, Option<CoinbaseRoom>) {
        let mut step = check.begin();
        loop {
            match step {
                Step::Ask(ask) => {
                    if let Ask::ByIndex(indexes) = &ask {
                        self.telemetry.asked.add(indexes.len() as u64);
                    }
                    let (gateway, slot) = (check.claim().gateway, check.claim().claim.slot);
                    let outcome = self.library.ask_when_free(gateway, slot, ask).await;
                    let is_match = matches!(outcome, ValidateOutcome::Answered(Answer::ShortIds { .. }));
                    let library = self.library.clone();
                    let (heard, next, took_ns) = aside(move || {
                        let begun_ns = monotonic_ns();
                        let next = check.hear(outcome, &library.known);
                        (check, next, monotonic_ns().saturating_sub(begun_ns))
                    })
                    .await;
                    if is_match {
                        self.telemetry.matching.record(took_ns);
                    }
                    (check, step) = (heard, next);
                }
                Step::Propose(body) => {
                    let room = CoinbaseRoom::beside(&body);
                    let verdict = self.propose(check.claim().claim.clone(), body).await;
                    return (check, verdict, Some(room));
                }
                Step::Done(verdict) => return (check, verdict, None),
            }
        }
    }

    /// Has the nodes say whether a block could come of it. Only then are the transactions remembered: what no node has seen may
    /// have other witnesses than those that are good.
    async fn propose(self: &Arc<Self>, claim: TemplateClaim, body: Arc<TemplateBody>) -> Verdict {
        let of_block = body.clone();
        let hex = match aside(move || claim.block(of_block).map(|block| block.to_hex())).await {
            Ok(hex) => hex,
            Err(error) => return Verdict::new(TemplateOutcome::Invalid, error.to_string()),
        };
        let verdict = self.ask_nodes(hex).await;
        if verdict.outcome == TemplateOutcome::Valid {
            let library = self.library.clone();
            aside(move || {
                let mut known = library.known();
                let transactions = body.transactions().iter();
                transactions.for_each(|transaction| known.learn(transaction.clone()));
                known.learn_template(body);
            })
            .await;
        }
        verdict
    }

    /// One node after the other, until one would take the block. Those that were on another tip when one refused it are asked
    /// once more: at a new tip they may be a moment behind.
    async fn ask_nodes(&self, hex: String) -> Verdict {
        let first = self.tips.borrow().node;
        let (before, from) = self.nodes.split_at(first);
        let mut hearing = Hearing::default();
        let mut elsewhere = Vec::new();
        for node in from.iter().chain(before) {
            let word = node.proposal(hex.clone()).await;
            if let Ok(Some(word)) = &word
                && says_nothing(word)
            {
                elsewhere.push(node);
            }
            if let Some(verdict) = hearing.hear(node.rpc.address(), word) {
                return verdict;
            }
        }
        if hearing.is_grave() && !elsewhere.is_empty() {
            tokio::time::sleep(OTHER_TIP_REST).await;
            for node in elsewhere {
                if let Some(verdict) = hearing.hear(node.rpc.address(), node.proposal(hex.clone()).await) {
                    return verdict;
                }
            }
        }
        hearing.end()
    }

    /// How many templates of this gateway's were not shown in a row.
    fn note_unshown(&self, gateway: &[u8; 32], outcome: TemplateOutcome) -> u32 {
        let mut unshown = self.unshown.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            TemplateOutcome::Mismatch
            | TemplateOutcome::Refused
            | TemplateOutcome::Contradictory
            | TemplateOutcome::Late => {
                if unshown.len() >= UNSHOWN_GATEWAYS_MAX && !unshown.contains_key(gateway) {
                    // Keys are free to make: those that fill this begin anew.
                    unshown.clear();
                }
                let in_a_row = unshown.entry(*gateway).or_default();
                *in_a_row = in_a_row.saturating_add(1);
                *in_a_row
            }
            TemplateOutcome::Valid | TemplateOutcome::Invalid | TemplateOutcome::Disputed => {
                unshown.remove(gateway);
                0
            }
            TemplateOutcome::TooLarge
            | TemplateOutcome::Busy
            | TemplateOutcome::SessionEnded
            | TemplateOutcome::Undecided
            | TemplateOutcome::NoNode => 0,
        }
    }
}

impl Node {
    /// What the node says of a block, in hex, as if it had work behind it; none where it would take it.
    async fn proposal(self: &Arc<Self>, hex: String) -> Result<Option<String>, RpcError> {
        let request = json!({"mode": "proposal", "data": hex, "rules": ["segwit", "signet"]});
        self.call_aside("getblocktemplate", vec![request], |word| word).await
    }
}
