//! The verdict on a share: the one place that has the order of the checks (protocol section 6).

use super::candidate::{Booking, Candidate};
use super::chain::{BlockFacts, Chain, Standing};
use super::choice::OwnTemplate;
use super::coinbase::Form;
use super::gateway::GatewayMemory;
use super::jobs::{ByTerms, Job, Jobs, Kept, Paid, Proof, SLOTS, Section, TemplateState, class};
use super::miners::{MinerId, Miners};
use super::room::CoinbaseRoom;
use super::sha256d;
use super::split::{Dictated, PinnedSplit, SPLIT_GOOD_FOR_S};
use super::splits::NoSplit;
use super::template::TemplateClaim;
use super::terms::Terms;
use crate::wire::{EXTRANONCE_LEN, Reason, SUBSIDY_ONLY_ID, Share};

/// The highest pot: work is counted as `2^pot`.
pub const POT_MAX: u8 = 63;

/// How far a share's time may lie from now, in s, either way.
pub const NTIME_WINDOW_S: u64 = 7_200;

/// What a verdict depends on beside the share and what its gateway did before.
pub struct Context<'a> {
    pub chain: &'a Chain,
    /// The time of day, in s since 1970.
    pub now_s: u64,
    /// The same by a clock that nobody sets: splits are kept by it.
    pub steady_s: u64,
    pub miners: &'a Miners,
    /// Whether there is room for another share that waits for its parent.
    pub may_wait: bool,
    /// Whether work counts that pays nobody but the pool: not where the session hardly does any other.
    pub allows_without_payouts: bool,
    /// The template of a node of ours; none where none is known.
    pub own_template: Option<OwnTemplate>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    pub verdict: Result<Accepted, Refusal>,
    /// There when the hash meets the network target, whatever the verdict; not again where the same was sent before.
    pub candidate: Option<Box<Candidate>>,
    /// There once for a job whose template is to be held against a node.
    pub claim: Option<Box<TemplateClaim>>,
}

/// A share that counts. It is among its gateway's duplicates from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The header's hash as hashed.
    pub hash: [u8; 32],
    pub parent: [u8; 32],
    /// The share counts as `2^pot` work.
    pub pot: u8,
    pub prime_id: u32,
    pub miner: MinerRef,
    /// Whether its coinbase pays anybody but the pool.
    pub pays: bool,
    /// What its parent, which no node of ours has seen, must ask of a block for the share to count; none where it counts.
    pub waits_for: Option<BlockFacts>,
}

impl Accepted {
    /// What the share is known by: the first 8 bytes of its hash, little-endian.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        hash64(&self.hash)
    }
}

/// Whose share it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinerRef {
    Known(MinerId),
    /// A good username that the shard has not numbered, and there is room for it: [`Miners::learn`] does.
    New,
}

/// A share that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The bound that was hit, where that is the reason.
    pub bound: Option<WorkBound>,
}

/// The bounds that refuse a share; each by reason 30 where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkBound {
    /// [`super::COINBASE_BUDGET`]
    CoinbaseBudget,
    /// [`super::DUPLICATES_MAX`]
    Duplicates,
    /// [`super::STALE_PARENTS_MAX`]
    StaleParents,
    /// [`super::UNSHOWN_MAX`], by reason 26: the gateway does not show what its work is made of.
    Unshown,
    /// [`super::LOOKS_MAX`]
    SplitLooks,
    /// [`super::PARENTS_ACCEPTED`]: the chain came back to a parent whose duplicates are forgotten and could not be read back, and
    /// the share is not under terms that came after.
    ForgottenDuplicates,
    /// Shares that wait for a parent that no node of ours has seen.
    Waiting,
    /// [`super::MINERS_MAX`]
    Miners,
    /// [`super::MINERS_PER_GATEWAY_MAX`]
    MinersPerGateway,
    /// [`super::WORKERS_PER_PAYEE_MAX`]
    WorkersPerPayee,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, bound: None }
    }
}

impl From<WorkBound> for Refusal {
    fn from(bound: WorkBound) -> Self {
        Self {
            reason: match bound {
                WorkBound::Unshown => Reason::BadCoinbase,
                _ => Reason::Other,
            },
            bound: Some(bound),
        }
    }
}

/// Judges one share. Sections it carries are kept whatever the verdict; without them nothing is allocated, but for
/// the doubling of a table of duplicates, a new username, and a candidate.
pub fn judge(share: &Share<'_>, jobs: &mut Jobs, memory: &mut GatewayMemory, context: &Context<'_>) -> Judged {
    let mut unkept = keep_sections(share, jobs, memory, context);
    let rebuilt = match rebuild(share, jobs, unkept.as_deref_mut()) {
        Ok(rebuilt) => rebuilt,
        Err(refusal) => {
            return Judged {
                verdict: Err(refusal),
                candidate: None,
                claim: None,
            };
        }
    };
    // Before all else that could refuse it: a block is a block.
    let is_candidate = context
        .chain
        .network_target(&rebuilt.job.parent, rebuilt.job.nbits, share.ntime)
        .is_met_by(&rebuilt.hash);
    let is_candidate = is_candidate && memory.is_new_candidate(&rebuilt.hash);
    if is_candidate {
        // A block is worth a look at every split.
        memory.splits.allow_looks();
    }
    let verdict = check(share, &rebuilt.job, rebuilt.section, &rebuilt.hash, memory, context);
    let candidate = is_candidate.then(|| {
        // Whatever else is wrong with it as a share.
        let booking = booking(share, &rebuilt.job, rebuilt.section, memory, context);
        let job = &rebuilt.job;
        let split = booking.split();
        Box::new(Candidate {
            hash: rebuilt.hash,
            header: rebuilt.header,
            coinbase: rebuilt.section.coinbase.transaction().to_vec(),
            branches: rebuilt.job.branches.to_vec(),
            height: rebuilt.job.height,
            value: rebuilt.job.value,
            tx_count: rebuilt.job.tx_count,
            job_id: share.job_id,
            coinbase_id: share.coinbase_id,
            flags: share.flags.0,
            target_pot: share.target_pot,
            verdict: verdict.map(|_| ()).map_err(|refusal| refusal.reason),
            username: share.username.to_vec(),
            booking,
            dictated: split.and_then(|split| memory.splits.payouts(job.value, &job.parent, split)),
        })
    });
    // Only work that counts, or would if its template had been seen, or is a block, has somebody look: else a template would
    // cost its gateway nothing.
    let is_due = match &verdict {
        Ok(_) => rebuilt.job.template == TemplateState::Chosen,
        Err(refusal) => refusal.bound == Some(WorkBound::Unshown),
    };
    let claim = match is_due || candidate.is_some() {
        true => rebuilt.claim(share, candidate.is_some()),
        false => None,
    };
    if claim.is_some()
        && let Some(job) = jobs.job(share.job_id)
    {
        job.template = job.template.claimed();
    }
    Judged {
        verdict,
        candidate,
        claim,
    }
}

/// The first 8 bytes of a hash, little-endian.
pub(super) fn hash64(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Gives back a coinbase section for which there is no room: its own share is still rebuilt from it, since it may be
/// a block.
fn keep_sections(
    share: &Share<'_>,
    jobs: &mut Jobs,
    memory: &mut GatewayMemory,
    context: &Context<'_>,
) -> Option<Box<Section>> {
    if let Some(job) = &share.job
        && usize::from(share.job_id) < SLOTS
    {
        let is_current = |parent: &[u8; 32]| context.chain.is_current(parent, context.now_s);
        let named = memory.name_parent_where(job.prev_block_hash, is_current);
        let own = context.own_template.as_ref();
        jobs.replace(share.job_id, job, named.is_err(), &memory.templates, own);
    }
    jobs.weigh(share.job_id, &memory.templates, context.own_template.as_ref());
    jobs.keep(share.job_id, share.coinbase.as_ref()?)
}

struct Rebuilt<'a> {
    job: JobView<'a>,
    section: &'a mut Section,
    header: [u8; 80],
    hash: [u8; 32],
}

impl Rebuilt<'_> {
    /// What the share commits to, where its template is to be checked: those of candidates always are. Subsidy-only work
    /// has none, and a coinbase of another form is refused whatever its template is.
    fn claim(&self, share: &Share<'_>, is_candidate: bool) -> Option<Box<TemplateClaim>> {
        let job = &self.job;
        let is_due = match job.template {
            TemplateState::Chosen | TemplateState::Withheld => true,
            TemplateState::Unquestioned | TemplateState::Unweighed => is_candidate && job.is_checked,
            TemplateState::Awaited | TemplateState::Invalid => false,
        };
        let proof = self.section.proof.as_ref()?;
        if !is_due || share.flags.subsidy_only() || proof.form.is_err() || job.fault.is_some() {
            return None;
        }
        Some(Box::new(TemplateClaim {
            is_candidate,
            slot: share.job_id,
            number: job.number,
            tx_count: job.tx_count,
            branches: job.branches.to_vec(),
            header: self.header,
            coinbase: self.section.coinbase.transaction().to_vec(),
        }))
    }
}

/// What checks and candidates need of a job, apart from its coinbases.
struct JobView<'a> {
    number: u64,
    template: TemplateState,
    /// Whether there is a node to hold templates against.
    is_checked: bool,
    parent: [u8; 32],
    target_index: usize,
    nbits: u32,
    height: u32,
    value: u64,
    coinbaser_id: u8,
    tx_count: u32,
    branches: &'a [[u8; 32]],
    /// What the template leaves to the coinbase, where its transactions were seen.
    room: Option<&'a CoinbaseRoom>,
    unaccounted: bool,
    /// A reason that comes before all checks, but stood not in the way of the hash.
    fault: Option<Reason>,
    /// There was no room for the section.
    unkept: bool,
}

/// Reasons 10 to 12, 18, 22, 16, 17 and 19 as far as they stand in the way of rebuilding; then the hash.
fn rebuild<'a>(share: &Share<'_>, jobs: &'a mut Jobs, unkept: Option<&'a mut Section>) -> Result<Rebuilt<'a>, Refusal> {
    let is_checked = jobs.are_checked();
    let job = jobs.job(share.job_id).ok_or(Reason::BadJobId)?;
    let subsidy_only = share.flags.subsidy_only();
    if class(share.coinbase_id).is_none() || subsidy_only != (share.coinbase_id == SUBSIDY_ONLY_ID) {
        return Err(Reason::BadCoinbaseId.into());
    }
    let extranonce: &[u8; EXTRANONCE_LEN] = share.extranonce.try_into().map_err(|_| Reason::BadExtranonce)?;
    let Job {
        number,
        template,
        parent,
        target_index,
        nbits,
        height,
        value,
        coinbaser_id,
        tx_count,
        bad_merkle_count,
        unaccounted,
        ..
    } = *job;
    let (branches, room, kept) = job.template_and_coinbase(share.coinbase_id);
    // Subsidy-only work is of a block without the template's transactions.
    let room = room.filter(|_| !subsidy_only);
    let fault = match share.coinbase {
        Some(section) if section.coinbase_id != share.coinbase_id => Some(Reason::CoinbaseIdMismatch),
        _ if bad_merkle_count => Some(Reason::BadMerkleCount),
        _ => None,
    };
    // A section that is not the share's own is no help where its own is missing.
    let unkept = unkept.filter(|_| fault != Some(Reason::CoinbaseIdMismatch));
    let was_unkept = unkept.is_some();
    let section = match (kept, unkept) {
        (Some(Kept::Section(section)), _) => &mut **section,
        (Some(Kept::NoRoom), Some(section)) => section,
        (Some(Kept::TooLarge), _) => return Err(fault.unwrap_or(Reason::CoinbaseTooLarge).into()),
        (Some(Kept::NoRoom), None) => {
            return Err(fault.map_or_else(|| WorkBound::CoinbaseBudget.into(), Refusal::from));
        }
        (Some(Kept::Nothing) | None, _) => return Err(Reason::CoinbaseMissing.into()),
    };
    if !section.coinbase.holds_target(target_index) {
        return Err(fault.unwrap_or(Reason::TargetMismatch).into());
    }

    let leaf = section
        .coinbase
        .hash(target_index, share.target_pot, share.flags.quickdiff(), extranonce);
    let branches = if subsidy_only { &[] } else { branches };
    let root = branches.iter().fold(leaf, |node, branch| sha256d::node(&node, branch));
    let mut header = [0; 80];
    header[..4].copy_from_slice(&share.version.to_le_bytes());
    header[4..36].copy_from_slice(&parent);
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&share.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&nbits.to_le_bytes());
    header[76..].copy_from_slice(&share.nonce.to_le_bytes());
    Ok(Rebuilt {
        job: JobView {
            number,
            template,
            is_checked,
            parent,
            target_index,
            nbits,
            height,
            value,
            coinbaser_id,
            tx_count,
            branches,
            room,
            unaccounted,
            fault,
            unkept: was_unkept,
        },
        section,
        hash: sha256d::header(&header),
        header,
    })
}

/// Reasons 22, 16 and 19 where the share was rebuilt all the same, then the others in their order. 20 has no case where
/// targets are shifted and begin above the top word. Another compact target than the parent's node asks for has no reason
/// of its own, and is 30.
fn check(
    share: &Share<'_>,
    job: &JobView<'_>,
    section: &mut Section,
    hash: &[u8; 32],
    memory: &mut GatewayMemory,
    context: &Context<'_>,
) -> Result<Accepted, Refusal> {
    if let Some(fault) = job.fault {
        return Err(fault.into());
    }
    let by_terms = check_terms(share, job, section, memory)?;
    let standing = context.chain.standing(&job.parent, context.now_s);
    let facts = BlockFacts {
        nbits: job.nbits,
        height: job.height,
        value: if share.flags.subsidy_only() {
            Chain::subsidy(job.height)
        } else {
            job.value
        },
        ntime: share.ntime,
    };
    let parent = standing.parent();
    if job.template == TemplateState::Invalid
        || parent.is_some_and(|parent| !parent.takes_coinbase(facts.height, facts.value))
    {
        return Err(Reason::BadCoinbase.into());
    }
    if share.target_pot < by_terms.lowest_pot || share.target_pot > POT_MAX {
        return Err(Reason::BadTarget.into());
    }
    let pays = check_payouts(job, section, by_terms.leaves_the_rest, memory, context)?;
    if !pays && !context.allows_without_payouts {
        return Err(Reason::BadCoinbaseOutputs.into());
    }
    let prime_id = by_terms.prime_id;
    let too_early = parent.is_some_and(|parent| share.ntime < parent.min_time);
    if u64::from(share.ntime).abs_diff(context.now_s) > NTIME_WINDOW_S || too_early {
        return Err(Reason::BadNtime.into());
    }
    if share.version >> 29 != 0b001 {
        return Err(Reason::BadVersion.into());
    }
    let first_terms = memory.first_terms_on(&job.parent);
    let Some(first_terms) = first_terms.filter(|_| !matches!(standing, Standing::Stale(_))) else {
        let bound = job.unaccounted.then_some(WorkBound::StaleParents);
        return Err(bound.map_or_else(|| Reason::StaleBlock.into(), Refusal::from));
    };
    if by_terms.number < first_terms {
        // Accepted again once its duplicates have been read back, and not before.
        return Err(match memory.awaits_reload(&job.parent) {
            true => Reason::StaleBlock.into(),
            false => WorkBound::ForgottenDuplicates.into(),
        });
    }
    if parent.is_some_and(|parent| !parent.takes_nbits(job.nbits, share.ntime)) {
        return Err(Reason::Other.into());
    }
    if context.chain.top_word_is_zero() && hash[28..] != [0; 4] {
        return Err(Reason::HNotZero.into());
    }
    if !context.chain.share_target(share.target_pot).is_met_by(hash) {
        return Err(Reason::HighHash.into());
    }
    let miner = context.miners.who(share.username)?;
    if miner == MinerRef::New && !memory.may_bring_a_miner(context.steady_s) {
        return Err(WorkBound::MinersPerGateway.into());
    }
    if standing == Standing::Unknown && !context.may_wait {
        return Err(WorkBound::Waiting.into());
    }
    if job.unkept {
        return Err(WorkBound::CoinbaseBudget.into());
    }
    // Subsidy-only work is of a block without the template's transactions.
    if job.template.is_withheld() && !share.flags.subsidy_only() {
        return Err(WorkBound::Unshown.into());
    }
    // The last of all: what is refused behind it would be a duplicate when it comes again.
    if !memory.take(&job.parent, hash64(hash))? {
        return Err(Reason::DuplicateWork.into());
    }
    memory.note_work(prime_id);
    Ok(Accepted {
        hash: *hash,
        parent: job.parent,
        pot: share.target_pot,
        prime_id,
        miner,
        pays,
        waits_for: (standing == Standing::Unknown).then_some(facts),
    })
}

/// What the coinbase of a candidate comes to in the books.
fn booking(
    share: &Share<'_>,
    job: &JobView<'_>,
    section: &mut Section,
    memory: &mut GatewayMemory,
    context: &Context<'_>,
) -> Booking {
    match check_coinbase(share, job, section, memory, context) {
        Ok(None) => Booking::WithoutPayouts,
        Ok(Some(split)) => Booking::Pays(split),
        Err(_) => {
            let form = section.proof.as_ref().and_then(|proof| proof.form.as_ref().ok());
            // A coinbase of another form may pay anybody.
            let told = match form.is_none_or(Form::has_payouts) {
                true => memory.splits.told(job.coinbaser_id, job.value, &job.parent),
                false => None,
            };
            Booking::ByHand { told }
        }
    }
}

/// The split that the coinbase of a share pays, none where it pays nobody: the reasons 19, 26, 28, 15 and 27, and no other.
fn check_coinbase(
    share: &Share<'_>,
    job: &JobView<'_>,
    section: &mut Section,
    memory: &mut GatewayMemory,
    context: &Context<'_>,
) -> Result<Option<PinnedSplit>, Reason> {
    let by_terms = check_terms(share, job, section, memory)?;
    check_payouts(job, section, by_terms.leaves_the_rest, memory, context).map_err(|refusal| refusal.reason)?;
    let paid = section.proof.as_ref().and_then(|proof| proof.paid).transpose()?;
    Ok(paid.map(|paid| paid.split))
}

struct UnderTerms {
    prime_id: u32,
    number: u64,
    lowest_pot: u8,
    leaves_the_rest: bool,
}

/// Reasons 19, 26 and 28: the form, proved once a section, and the terms that its `prime_id` names.
fn check_terms(
    share: &Share<'_>,
    job: &JobView<'_>,
    section: &mut Section,
    memory: &GatewayMemory,
) -> Result<UnderTerms, Reason> {
    let Section { coinbase, proof } = section;
    let proof = proof.get_or_insert_with(|| Proof {
        form: coinbase
            .prove(job.target_index, job.height, share.coinbase_id)
            .and_then(|form| {
                let value = if share.flags.subsidy_only() {
                    Chain::subsidy(job.height)
                } else {
                    job.value
                };
                let plausible = job.value <= Chain::value_max(job.height);
                // The template was checked with another coinbase.
                let fits = job.room.is_none_or(|room| room.takes(coinbase.transaction()).is_ok());
                if form.value == value && plausible && fits {
                    Ok(form)
                } else {
                    Err(Reason::BadCoinbase)
                }
            }),
        by_terms: None,
        paid: None,
    });
    let form = proof.form.as_ref().map_err(|reason| *reason)?;
    let prime_id = form.prime_id;
    let (known, lowest_pot) = memory.terms(prime_id).ok_or(Reason::MissingPoolTag)?;
    let by_terms = *proof.by_terms.get_or_insert_with(|| {
        let Terms { script, tag, .. } = &known.terms;
        ByTerms {
            has_tag: coinbase.has_tag(form, tag),
            leaves_the_rest: coinbase.leaves_the_rest_to(form, script),
        }
    });
    if !by_terms.has_tag {
        return Err(Reason::MissingPoolTag);
    }
    Ok(UnderTerms {
        prime_id,
        number: known.number,
        lowest_pot,
        leaves_the_rest: by_terms.leaves_the_rest,
    })
}

/// Reasons 15 and 27: whom the coinbase pays; says whether it pays anybody but the pool. Called where the form is proved.
///
/// A coinbase without payouts needs no split, and is held to none: gateways serve such work at a new tip, after a
/// reconnect, and while they wait. One with payouts may pay any split that was dictated for its value and parent.
fn check_payouts(
    job: &JobView<'_>,
    section: &mut Section,
    leaves_the_rest: bool,
    memory: &mut GatewayMemory,
    context: &Context<'_>,
) -> Result<bool, Refusal> {
    let now_s = context.steady_s;
    if !memory.splits.knows(job.coinbaser_id, now_s) {
        return Err(Reason::BadCoinbaserId.into());
    }
    if !leaves_the_rest {
        return Err(Reason::BadCoinbaseOutputs.into());
    }
    let Section { coinbase, proof } = section;
    let proof = proof.as_mut().ok_or(Reason::BadCoinbase)?;
    let form = proof.form.as_ref().map_err(|reason| *reason)?;
    if !form.has_payouts() {
        return Ok(false);
    }
    let known = proof
        .paid
        .filter(|paid| paid.is_err() || paid.is_ok_and(|paid| now_s <= paid.time_s + SPLIT_GOOD_FOR_S));
    let paid = match known {
        Some(paid) => paid,
        None => {
            let is_paid = |dictated: &Dictated| {
                let Dictated {
                    split,
                    value,
                    with_balances,
                    ..
                } = dictated;
                coinbase.pays_a_part_of(form, &**split, *value, *with_balances)
            };
            let found = memory
                .splits
                .find(job.coinbaser_id, job.value, &job.parent, now_s, is_paid);
            match found {
                Ok(dictated) => Ok(Paid {
                    split: dictated.pinned(),
                    time_s: dictated.time_s,
                }),
                Err(NoSplit::Expired) => Err(Reason::BadCoinbaserId),
                Err(NoSplit::Other) => Err(Reason::BadCoinbaseOutputs),
                // What was not looked for is looked for with the next share.
                Err(NoSplit::OutOfLooks) => return Err(WorkBound::SplitLooks.into()),
            }
        }
    };
    proof.paid = Some(paid);
    paid?;
    Ok(true)
}

#[cfg(test)]
mod tests;
