//! Templates that gateways build, held against a node: the transactions behind them are asked for as far as they are not
//! known (protocol section 7), and a node says whether a block could come of them.
//!
//! All of it is off the way of a share, and what takes long is off the control plane's thread as well. A check that waits for its
//! gateway keeps nobody else from being checked: of checks that work there are few at a time, of those that wait many.

mod check;
mod hearing;
mod library;
mod mempool;
mod shown;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use self::check::{Check, Step, Verdict};
use self::hearing::Hearing;
pub(super) use self::hearing::says_nothing;
pub use self::library::{AskGateway, Heard, Library};
use self::shown::Shown;
use self::under_way::{Checks, UnderWay};
use super::follow::NewTip;
use super::rpc::RpcError;
use super::{Node, aside};
use crate::ledger::monotonic_ns;
use crate::telemetry::{TemplateOutcome, TemplateTelemetry};
use crate::work::{
    Answer, Ask, Checked, CoinbaseRoom, Finding, GatewayClaim, OwnTemplate, Purpose, TemplateBody, ValidateOutcome,
};

/// Checks that work at the same time, that is have an answer in hand or a proposal with a node. Each may hold a block of 4 MB a
/// few times over.
const PLACES: usize = 4;

/// Claims that may wait to be taken. For those beyond there is no room, and the next share of their job says them again.
pub const CLAIMS_MAX: usize = 256;

/// How long claims wait at a start for the first round of what the node has ([`mempool`]): before that whole templates would be asked
/// for of which most is known a moment later. Nor longer than the round takes, be it in vain.
const FIRST_ROUND_WITHIN: Duration = Duration::from_secs(10);

/// How long one check may take, answers of its gateway and the wait for a place included; after that no node is asked any
/// more. Templates come 5 s apart at the least, and there are 8 slots.
const CHECK_WITHIN: Duration = Duration::from_secs(60);

/// How long an answer may be in coming before its check gives way, where others have no place to be checked in.
const PATIENCE: Patience = Patience {
    ids: Duration::from_secs(10),
    transactions: Duration::from_secs(30),
};

/// A block on its way to the nodes goes before the proposal of its template: they look at one at a time.
const CANDIDATE_REST: Duration = Duration::from_secs(2);

/// A node that was on another tip than the template is asked again after so long, where another has refused it.
const OTHER_TIP_REST: Duration = Duration::from_secs(2);

/// What the rest of the pool hears of templates.
pub enum Word {
    Own(OwnTemplate),
    Checked(Checked),
}

pub type Say = Box<dyn Fn(Word) + Send + Sync>;

/// Checks templates for as long as somebody follows the chain.
pub struct Templates {
    shared: Arc<Shared>,
    claims: mpsc::Receiver<GatewayClaim>,
}

struct Shared {
    nodes: Vec<Arc<Node>>,
    library: Library,
    tips: watch::Receiver<NewTip>,
    say: Say,
    telemetry: Arc<TemplateTelemetry>,
    places: Arc<Semaphore>,
    /// [`CHECK_WITHIN`], [`PATIENCE`].
    within: Duration,
    patience: Patience,
    checks: Checks,
}

/// An honest gateway names its transactions in a moment: ids are 98 kB at most. To show them it may take until its shard gives it up,
/// or until a large answer begins; one that comes slowly is not told from one that does not come, so it has no longer either.
struct Patience {
    ids: Duration,
    transactions: Duration,
}

impl Templates {
    #[must_use]
    pub fn new(
        nodes: Vec<Arc<Node>>,
        library: Library,
        tips: watch::Receiver<NewTip>,
        claims: mpsc::Receiver<GatewayClaim>,
        say: Say,
        telemetry: Arc<TemplateTelemetry>,
    ) -> Self {
        telemetry.own_ns.set(monotonic_ns());
        Self {
            shared: Arc::new(Shared {
                nodes,
                library,
                tips,
                say,
                telemetry,
                places: Arc::new(Semaphore::new(PLACES)),
                within: CHECK_WITHIN,
                patience: PATIENCE,
                checks: Checks::default(),
            }),
            claims,
        }
    }

    /// Its two tasks: the rounds of what the node has, and the checks.
    pub fn tasks(self) -> (impl Future<Output = ()> + Send, impl Future<Output = ()> + Send) {
        let (tell, first_round) = oneshot::channel();
        let rounds = mempool::follow(self.shared.clone(), tell);
        (rounds, self.take_behind(first_round, FIRST_ROUND_WITHIN))
    }

    /// Takes claims, from when the first round is over or takes too long.
    async fn take_behind(mut self, first_round: oneshot::Receiver<()>, within: Duration) {
        // None comes where nobody makes rounds.
        let _ = timeout(within, first_round).await;
        while let Some(claim) = self.claims.recv().await {
            self.shared.take(claim);
        }
    }
}

impl Shared {
    /// Begins to check a template, where there is room for one more.
    fn take(self: &Arc<Self>, claim: GatewayClaim) {
        let Some(under_way) = self.checks.begin(&claim, Instant::now()) else {
            let verdict = Verdict::new(TemplateOutcome::Busy, "others of it, or too many of all, are checked");
            return self.end(&claim, verdict, None);
        };
        let shared = self.clone();
        tokio::spawn(async move {
            shared.look_at(claim, &under_way).await;
        });
    }

    async fn look_at(self: &Arc<Self>, claim: GatewayClaim, under_way: &UnderWay) {
        let started_ns = monotonic_ns();
        let until = Instant::now() + self.within;
        let (check, verdict, room) = self.check(Check::new(claim), under_way, until).await;
        self.telemetry.check.record(monotonic_ns().saturating_sub(started_ns));
        if check.had_wrong_ids() {
            self.telemetry.wrong_ids.add(1);
            tracing::warn!(
                gateway = check.claim().gateway.to_lower_hex_string(),
                slot = check.claim().claim.slot,
                "a gateway's short ids are not those of its transactions"
            );
        }
        self.end(check.claim(), verdict, room);
    }

    /// Counts what came of it, and says so to those whom it concerns.
    fn end(&self, claim: &GatewayClaim, verdict: Verdict, room: Option<CoinbaseRoom>) {
        let Verdict { outcome, why } = verdict;
        self.telemetry.outcomes[outcome].add(1);
        let (gateway, slot) = (claim.gateway.to_lower_hex_string(), claim.claim.slot);
        match outcome {
            TemplateOutcome::Invalid => tracing::warn!(
                gateway,
                slot,
                transactions = claim.claim.tx_count,
                why,
                "no block can come of a gateway's template: its shares are refused"
            ),
            TemplateOutcome::Disputed => tracing::warn!(
                gateway,
                slot,
                why,
                "the nodes do not agree on a gateway's template: its shares count, and one of the nodes errs"
            ),
            _ => tracing::debug!(gateway, slot, ?outcome, why, "a template was checked"),
        }
        let say = |found| (self.say)(Word::Checked(checked(claim, found)));
        match meaning(outcome) {
            Meaning::Condemned => return say(Finding::Condemned(why.into())),
            Meaning::Unshown => return say(Finding::Unshown(why.into())),
            Meaning::Good | Meaning::Unjudged => {}
        }
        // Seen, though perhaps not judged.
        if let Some(room) = room {
            say(Finding::Shown(room));
        }
        if meaning(outcome) == Meaning::Unjudged && claim.is_odd {
            say(Finding::Unjudged);
        }
    }

    /// What came of it, and what the template leaves to coinbases where its transactions were seen.
    async fn check(
        self: &Arc<Self>,
        mut check: Check,
        under_way: &UnderWay,
        until: Instant,
    ) -> (Check, Verdict, Option<CoinbaseRoom>) {
        let of_block = check.claim().claim.is_candidate;
        // Each template that is to be looked at is asked about, but for one of a block: of that nobody needs to be told what is known.
        let known = of_block.then(|| self.library.known_template(&check.claim().claim.branches));
        let mut step = check.begin(known.flatten());
        // Held from when there is something to do until the gateway is waited for again.
        let mut place = None;
        let mut waited = Duration::ZERO;
        loop {
            match step {
                Step::Ask(ask) => {
                    drop(place.take());
                    let heard = match self.ask(check.claim(), under_way, ask, until, &mut waited).await {
                        Ok(heard) => heard,
                        Err(verdict) => return (check, verdict, None),
                    };
                    place = self.place(until).await;
                    if place.is_none() {
                        return (check, no_place(), None);
                    }
                    (check, step) = self.hear(check, heard).await;
                }
                Step::Propose(body) => {
                    // Its gateway was asked at once: the slot may be used again while its block goes out.
                    if of_block {
                        drop(place.take());
                        tokio::time::sleep(CANDIDATE_REST).await;
                    }
                    if place.is_none() {
                        place = self.place(until).await;
                    }
                    let room = CoinbaseRoom::beside(&body);
                    if place.is_none() {
                        return (check, no_place(), Some(room));
                    }
                    let verdict = self.propose(check.claim(), body, until).await;
                    return (check, verdict, Some(room));
                }
                Step::Done(verdict) => return (check, verdict, None),
            }
        }
    }

    /// Asks a template's gateway, unless it shows all of it for a block of ours: then nothing else is asked. `waited`: for its answers
    /// before, and for this one on return, without the time in which it had other questions of ours to answer. Where the time of the
    /// check ends, the gateway is late if most of that was waited for it; else others were checked for most of it.
    ///
    /// # Errors
    /// The check has given way to another's. Its gateway is late as well, unless it had other questions of ours to answer until less
    /// than its time ago.
    async fn ask(
        &self,
        claim: &GatewayClaim,
        under_way: &UnderWay,
        ask: Ask,
        until: Instant,
        waited: &mut Duration,
    ) -> Result<Told, Verdict> {
        // None while the gateway has others to answer.
        let mut open_since = Some(Instant::now());
        let patience = match (&ask, claim.claim.is_candidate) {
            // No block's gives way.
            (_, true) => self.within,
            (Ask::ShortIds, false) => self.patience.ids,
            (Ask::ByIndex(_) | Ask::All, false) => self.patience.transactions,
        };
        let answer = timeout_at(until, self.hear_answer(claim, ask, until, &mut open_since));
        let told = under_way.wait(patience, answer).await;
        let open_for = open_since.map_or(Duration::ZERO, |since| since.elapsed());
        *waited += open_for;
        let outcome = match told {
            Some(Ok(told)) => return Ok(told),
            None => return Err(gave_way(open_for < patience)),
            Some(Err(_)) if *waited * 2 >= self.within => ValidateOutcome::Late,
            Some(Err(_)) => ValidateOutcome::Busy,
        };
        Ok(Told::Heard(Heard::Outcome(outcome)))
    }

    /// `open_since`: from when the gateway has had no other questions to answer; none while it has.
    async fn hear_answer(
        &self,
        claim: &GatewayClaim,
        ask: Ask,
        until: Instant,
        open_since: &mut Option<Instant>,
    ) -> Told {
        let GatewayClaim { gateway, ref claim, .. } = *claim;
        let showing = match claim.is_candidate {
            true => Some(self.library.show(gateway, claim.slot, &claim.branches)),
            false => self.library.shown(gateway, &claim.branches),
        };
        if let Some(showing) = showing {
            return Told::Shown(showing.wait().await);
        }
        if let Ask::ByIndex(indexes) = &ask {
            self.telemetry.asked.add(indexes.len() as u64);
        }
        let note_busy = |is_busy: bool| *open_since = (!is_busy).then(Instant::now);
        let (slot, purpose) = (claim.slot, Purpose::Check);
        let asked = self
            .library
            .ask_when_free(gateway, slot, ask, purpose, until, note_busy);
        Told::Heard(asked.await)
    }

    /// Waits for a place to work in; none where that takes too long.
    async fn place(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        timeout_at(until, self.places.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Goes on with what was heard, on a thread of its own.
    async fn hear(&self, mut check: Check, told: Told) -> (Check, Step) {
        let library = self.library.clone();
        let (check, next, matched_ns) = aside(move || {
            let outcome = match told {
                Told::Heard(heard) => heard.open(),
                Told::Shown(shown) => {
                    let next = check.hear_shown(shown);
                    return (check, next, None);
                }
            };
            let is_match = matches!(outcome, ValidateOutcome::Answered(Answer::ShortIds { .. }));
            let begun_ns = monotonic_ns();
            let next = check.hear(outcome, library.transactions());
            let took_ns = monotonic_ns().saturating_sub(begun_ns);
            (check, next, is_match.then_some(took_ns))
        })
        .await;
        if let Some(matched_ns) = matched_ns {
            self.telemetry.matching.record(matched_ns);
        }
        (check, next)
    }

    /// Has the nodes say whether a block could come of it. Only then are the transactions remembered: what no node has seen may
    /// have other witnesses than those that are good.
    async fn propose(self: &Arc<Self>, claim: &GatewayClaim, body: Arc<TemplateBody>, until: Instant) -> Verdict {
        let GatewayClaim { gateway, ref claim, .. } = *claim;
        let (claim, of_block) = (claim.clone(), body.clone());
        let hex = match aside(move || claim.block(of_block).map(|block| block.to_hex())).await {
            Ok(hex) => hex,
            Err(error) => return Verdict::new(TemplateOutcome::Invalid, error.to_string()),
        };
        let verdict = self.ask_nodes(hex, until).await;
        if verdict.outcome == TemplateOutcome::Valid {
            let library = self.library.clone();
            aside(move || {
                let mut known = library.known();
                let transactions = body.transactions().iter();
                transactions.for_each(|transaction| known.learn(transaction.clone()));
                known.learn_template(body.clone());
                drop(known);
                library.forget_shown(gateway, body.branches());
            })
            .await;
        }
        verdict
    }

    /// One node after the other, until one would take the block. Those that were on another tip when one refused it are asked
    /// once more: at a new tip they may be a moment behind.
    async fn ask_nodes(&self, hex: String, until: Instant) -> Verdict {
        let first = self.tips.borrow().node;
        let (before, from) = self.nodes.split_at(first);
        let mut hearing = Hearing::default();
        let mut elsewhere = Vec::new();
        for node in from.iter().chain(before) {
            if Instant::now() >= until {
                return hearing.cut_short();
            }
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
                if Instant::now() >= until {
                    return hearing.cut_short();
                }
                if let Some(verdict) = hearing.hear(node.rpc.address(), node.proposal(hex.clone()).await) {
                    return verdict;
                }
            }
        }
        hearing.end()
    }
}

/// What came of a question.
enum Told {
    Heard(Heard),
    /// All of it, or why not, of a question that somebody had asked for a block.
    Shown(Shown),
}

/// What an outcome means for the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Good,
    /// No block can come of the template.
    Condemned,
    /// The gateway does not show what its work is made of, whether it says so, says something else, or goes.
    Unshown,
    /// Nobody came to look, or nobody could tell.
    Unjudged,
}

fn meaning(outcome: TemplateOutcome) -> Meaning {
    match outcome {
        TemplateOutcome::Valid | TemplateOutcome::Disputed => Meaning::Good,
        TemplateOutcome::Invalid => Meaning::Condemned,
        TemplateOutcome::Mismatch
        | TemplateOutcome::Refused
        | TemplateOutcome::TooLarge
        | TemplateOutcome::Contradictory
        | TemplateOutcome::Late
        | TemplateOutcome::SessionEnded => Meaning::Unshown,
        TemplateOutcome::Busy | TemplateOutcome::Undecided | TemplateOutcome::NoNode => Meaning::Unjudged,
    }
}

fn no_place() -> Verdict {
    Verdict::new(TemplateOutcome::Busy, "others were checked all the while")
}

fn gave_way(had_others: bool) -> Verdict {
    match had_others {
        true => Verdict::new(TemplateOutcome::Busy, "it answers other questions"),
        false => Verdict::new(
            TemplateOutcome::Late,
            "it does not answer, and others wait to be checked",
        ),
    }
}

fn checked(claim: &GatewayClaim, found: Finding) -> Checked {
    let GatewayClaim { gateway, claim, .. } = claim;
    Checked {
        gateway: *gateway,
        slot: claim.slot,
        number: claim.number,
        template: claim.template(),
        tx_count: claim.tx_count,
        found,
    }
}

impl Node {
    /// What the node says of a block, in hex, as if it had work behind it; none where it would take it.
    async fn proposal(self: &Arc<Self>, hex: String) -> Result<Option<String>, RpcError> {
        let request = json!({"mode": "proposal", "data": hex, "rules": ["segwit", "signet"]});
        self.call_aside("getblocktemplate", vec![request], |word| word).await
    }
}

#[cfg(test)]
mod tests;
