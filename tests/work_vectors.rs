//! What must be rebuilt from the shares of real gateways is rebuilt by the pool's own judge, byte for byte, and their
//! coinbases are proved.

mod capture;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, Block, ScriptBuf, Transaction, TxOut};
use capture::{Capture, Session};
use millrace::wire::{
    COMMITMENT_START, CoinbaseSection, Coinbaser, Config, EXTRANONCE_LEN, FromGateway, FromPool, JobSection, Reason,
    SIGNATURE_LEN, Share, Transactions, ValidationAnswer,
};
use millrace::work::{
    self, Booking, Chain, CoinbaseMark, Context, Dictated, GatewayMemory, Jobs, MinDiff, Miners, Payout, Target,
    TemplateBody, TemplateChoice, TemplateClaim, TemplateFault, TemplateTransaction, Terms, judge,
};
use serde_json::Value;

#[test]
fn vectors_are_rebuilt_by_the_judge() {
    let mut all = Judged::default();
    for capture in capture::all() {
        let judged = judge_capture(&capture);
        assert_eq!(judged.shares, capture.expected.len(), "{}", capture.name);
        all.shares += judged.shares;
        all.accepted += judged.accepted;
        all.proved += judged.proved;
    }
    assert!(all.accepted > 0, "{} of {} shares count", all.accepted, all.shares);
    assert!(all.proved > 0 || std::env::var_os("MILLRACE_VECTORS").is_some());
}

/// The recorded split has 300 payees; classes 1 to 5 have room for 9 to 300 of them.
#[test]
fn a_split_of_300_payees_counts_in_every_class_and_not_with_a_satoshi_moved() {
    let captures = capture::stored();
    let capture = captures.iter().find(|capture| capture.name == "split300");
    let session = &capture.expect("a recorded session").sessions[0];
    let mut told = Told::default();
    let mut jobs: HashMap<u8, JobSection<'_>> = HashMap::new();
    // By coinbase id.
    let mut paid: BTreeMap<u8, usize> = BTreeMap::new();
    for frame in session.frames.iter().skip(1) {
        if !frame.from_gateway {
            told.hear(session, &frame.plain);
            continue;
        }
        let share = match FromGateway::decode(&frame.plain) {
            Ok(FromGateway::Share(share)) => share,
            Ok(FromGateway::CoinbaserRequest(request)) => {
                told.asked_for = Some(*request.prev_block_hash);
                continue;
            }
            _ => continue,
        };
        jobs.extend(share.job.map(|job| (share.job_id, job)));
        let Some(section) = share.coinbase else {
            continue;
        };
        let whole = Share {
            job: Some(jobs[&share.job_id]),
            ..share
        };
        let place = format!("line {}", frame.line);
        let judged = told.judge(&whole);
        // The gateway did not check its miner's work, which is looked at behind the coinbase: nearly every hash meets pot 0.
        let is_good = |verdict: Result<(), Reason>| match share.target_pot {
            0 => verdict.is_ok(),
            _ => matches!(verdict, Ok(()) | Err(Reason::HighHash)),
        };
        assert!(is_good(verdict(&judged)), "{place}: {:?}", judged.verdict);
        let candidate = judged.candidate.expect("nearly every hash is a block here");
        let pays = matches!(candidate.booking, Booking::Pays(_));
        assert_eq!(pays, (1..=5).contains(&share.coinbase_id), "{place}");
        let coinbase: Transaction = deserialize(&candidate.coinbase).expect("a coinbase is a transaction");
        let payments = (0..coinbase.output.len()).filter(|at| coinbase.output[*at].value > Amount::ZERO);
        let payments: Vec<usize> = payments.collect();
        let (leftover, payouts) = payments.split_last().expect("something is left to the pool");
        let most = paid.entry(share.coinbase_id).or_default();
        *most = (*most).max(payouts.len());
        for at in payouts
            .iter()
            .step_by(payouts.len().div_ceil(7).max(1))
            .chain(payouts.last())
        {
            let bent = |bend: &dyn Fn(&mut Vec<TxOut>)| {
                let mut bent = coinbase.clone();
                bend(&mut bent.output);
                let mut bytes = serialize(&bent);
                bytes[usize::from(whole.job.as_ref().expect("a job").target_index)] = 0xff;
                let section = CoinbaseSection {
                    coinb1: &bytes[..section.coinb1.len()],
                    coinb2: &bytes[section.coinb1.len() + EXTRANONCE_LEN..],
                    ..section
                };
                let share = Share {
                    coinbase: Some(section),
                    ..whole
                };
                verdict(&told.judge(&share))
            };
            assert!(is_good(bent(&|_| {})), "{place}: as it was");
            let one = Amount::ONE_SAT;
            for (how, said) in [
                (
                    "a satoshi more, from the pool's",
                    bent(&|outputs| {
                        outputs[*at].value += one;
                        outputs[*leftover].value -= one;
                    }),
                ),
                (
                    "a satoshi less, to the pool's",
                    bent(&|outputs| {
                        outputs[*at].value -= one;
                        outputs[*leftover].value += one;
                    }),
                ),
                (
                    "to somebody else",
                    bent(&|outputs| {
                        let mut script = outputs[*at].script_pubkey.to_bytes();
                        script[5] ^= 1;
                        outputs[*at].script_pubkey = ScriptBuf::from_bytes(script);
                    }),
                ),
            ] {
                assert_eq!(said, Err(Reason::BadCoinbaseOutputs), "{place}: output {at}, {how}");
            }
        }
    }
    // All of it where there is room, as many as the gateway's sizes allow elsewhere.
    let expected = [(0, 0), (1, 9), (2, 16), (3, 175), (4, 300), (5, 57), (255, 0)];
    assert_eq!(paid, BTreeMap::from(expected));
}

fn verdict(judged: &work::Judged) -> Result<(), Reason> {
    judged.verdict.map(|_| ()).map_err(|refusal| refusal.reason)
}

/// What a recorded pool has told its gateway.
#[derive(Default)]
struct Told {
    terms: Vec<Terms>,
    splits: Vec<Dictated>,
    /// The parent of the split that is waited for.
    asked_for: Option<[u8; 32]>,
}

impl Told {
    fn hear(&mut self, session: &Session, plain: &[u8]) {
        if let Ok(FromPool::Coinbaser(split)) = FromPool::decode(plain)
            && let Some(parent) = self.asked_for
        {
            self.splits.push(dictated(&split, parent));
        }
        self.terms.extend(terms(session, plain));
    }

    /// As the first share of a pool that has told just this.
    fn judge(&self, share: &Share<'_>) -> work::Judged {
        let mut memory = GatewayMemory::new();
        for terms in &self.terms {
            memory.learn_terms(terms.clone(), 0);
        }
        for split in &self.splits {
            memory.learn_split(split.clone());
        }
        judge_in_its_time(share, &mut Jobs::new(), &mut memory)
    }
}

/// How many shares there were, how many count, and how many templates were shown that are those of their jobs.
#[derive(Debug, Default)]
struct Judged {
    shares: usize,
    accepted: usize,
    proved: usize,
}

/// Judges every share of a capture in order, as one pool would.
fn judge_capture(capture: &Capture) -> Judged {
    let mut memory = GatewayMemory::new();
    let mut expected = capture.expected.iter();
    let mut all = Judged::default();
    for (index, session) in capture.sessions.iter().enumerate() {
        // Every template is to be checked.
        let mut jobs = Jobs::checked(TemplateChoice::new(1, 1), 0);
        let mut claims: HashMap<u8, TemplateClaim> = HashMap::new();
        let mut asked_for = None;
        // HELLO comes first.
        for frame in session.frames.iter().skip(1) {
            let place = format!("{} line {}", capture.name, frame.line);
            if !frame.from_gateway {
                if let Ok(FromPool::Coinbaser(split)) = FromPool::decode(&frame.plain)
                    && let Some(parent) = asked_for
                {
                    memory.learn_split(dictated(&split, parent));
                }
                if let Some(terms) = terms(session, &frame.plain) {
                    memory.learn_terms(terms, 0);
                }
                continue;
            }
            let share = match FromGateway::decode(&frame.plain) {
                Ok(FromGateway::Share(share)) => share,
                Ok(FromGateway::CoinbaserRequest(request)) => {
                    asked_for = Some(*request.prev_block_hash);
                    continue;
                }
                Ok(FromGateway::Validation(ValidationAnswer::All { job, transactions })) => {
                    all.proved += usize::from(
                        // None where the slot had no share that commits to a template.
                        claims
                            .get(&job)
                            .is_some_and(|claim| proves(claim, &transactions, &place)),
                    );
                    continue;
                }
                _ => continue,
            };
            let expected = expected
                .next()
                .unwrap_or_else(|| panic!("{place}: more shares than expected"));
            assert_eq!(expected["line"], frame.line, "{place}");
            assert_eq!(expected["session"], index, "{place}");
            let judged = judge_share(&share, &mut jobs, &mut memory, expected, &place);
            claims.extend(judged.claim.map(|claim| (claim.slot, *claim)));
            all.accepted += usize::from(judged.verdict.is_ok());
            all.shares += 1;
        }
    }
    all
}

/// Whether the transactions that a gateway has shown are those of the job that was last seen in the slot; then its block is
/// one. The slot may have had another by then.
fn proves(claim: &TemplateClaim, shown: &Transactions<'_>, place: &str) -> bool {
    let transactions: Vec<_> = shown
        .iter()
        .map(|raw| Arc::new(TemplateTransaction::read(raw).expect("a transaction")))
        .collect();
    let body = Arc::new(TemplateBody::new(transactions));
    match claim.prove(&body) {
        Err(TemplateFault::Mismatch) => return false,
        proved => assert_eq!(proved, Ok(()), "{place}"),
    }
    let block: Block = deserialize(&claim.block(body).expect("a block").to_vec()).expect("a block");
    assert!(block.check_merkle_root() && block.check_witness_commitment(), "{place}");
    true
}

/// A split as the recorded pool dictated it.
fn dictated(split: &Coinbaser<'_>, parent: [u8; 32]) -> Dictated {
    let payouts: Box<[_]> = split
        .outputs
        .iter()
        .map(|output| Payout {
            payee: 0,
            value: output.value,
            script: output.script.into(),
        })
        .collect();
    Dictated {
        coinbaser_id: split.coinbaser_id,
        value: split.value,
        parent,
        with_balances: true,
        // Captures have no clock beside their shares'.
        time_s: u64::MAX / 2,
        split: Arc::new(payouts),
    }
}

/// The terms that a frame of the pool says, where it is CONFIG.
fn terms(session: &Session, plain: &[u8]) -> Option<Terms> {
    let (message, signature) = plain.split_at_checked(plain.len().checked_sub(SIGNATURE_LEN)?)?;
    let Ok(FromPool::Config(config)) = FromPool::decode(message) else {
        return None;
    };
    assert!(
        session.pool_session.public().has_signed(plain),
        "signature {signature:02x?}"
    );
    let Config {
        script,
        prime_id,
        tag,
        min_diff,
    } = config;
    let min_diff = MinDiff::new(min_diff.next_power_of_two()).expect("a power of two");
    Some(Terms::new(prime_id, script, tag, min_diff))
}

/// At the time that it says it was made, on a chain where all but one in 65,536 hashes are blocks.
fn judge_in_its_time(share: &Share<'_>, jobs: &mut Jobs, memory: &mut GatewayMemory) -> work::Judged {
    let context = Context {
        chain: &Chain::dev(1),
        now_s: u64::from(share.ntime),
        steady_s: u64::from(share.ntime),
        miners: &Miners::new([1; 16], None),
        may_wait: true,
        allows_without_payouts: true,
        own_template: None,
    };
    judge(share, jobs, memory, &context)
}

/// A block shows all that was rebuilt, whatever the verdict.
fn judge_share(
    share: &Share<'_>,
    jobs: &mut Jobs,
    memory: &mut GatewayMemory,
    expected: &Value,
    place: &str,
) -> work::Judged {
    let judged = judge_in_its_time(share, jobs, memory);
    let hash = bytes(&expected["header_hash"]);
    let Some(candidate) = &judged.candidate else {
        let every_hash_but_the_highest = Target::DIFFICULTY_1.shifted_up(32);
        assert!(
            !every_hash_but_the_highest.is_met_by(&hash),
            "{place} was not rebuilt: {:?}",
            judged.verdict
        );
        return judged;
    };

    assert_eq!(candidate.hash, hash, "{place}");
    assert_eq!(sha256d::Hash::hash(&candidate.header).to_byte_array(), hash, "{place}");
    assert_eq!(candidate.header[36..68], bytes(&expected["merkle_root"]), "{place}");
    let txid = sha256d::Hash::hash(&candidate.coinbase).to_byte_array();
    assert_eq!(txid, bytes(&expected["coinbase_txid"]), "{place}");
    assert_eq!(expected["coinbase_size"], candidate.coinbase.len(), "{place}");
    let transaction: Transaction = deserialize(&candidate.coinbase).expect("a coinbase is a transaction");
    assert_eq!(expected["outputs"], transaction.output.len(), "{place}");
    assert_eq!(expected["job"], candidate.job_id, "{place}");
    assert_eq!(expected["coinbase_id"], candidate.coinbase_id, "{place}");
    assert_eq!(expected["target"], candidate.target_pot, "{place}");
    assert_eq!(
        expected["user"],
        *String::from_utf8_lossy(&candidate.username),
        "{place}"
    );
    assert_eq!(expected["is_block"], share.flags.block(), "{place}");
    assert_eq!(expected["subsidy_only"], share.flags.subsidy_only(), "{place}");
    assert_eq!(expected["quickdiff"], share.flags.quickdiff(), "{place}");
    assert_eq!(expected["has_job_section"], share.job.is_some(), "{place}");
    assert_eq!(expected["has_coinbase_section"], share.coinbase.is_some(), "{place}");

    let prime_id = u32::from_str_radix(expected["prime_id"].as_str().expect("hex digits"), 16).expect("hex digits");
    let mark = CoinbaseMark::of(&candidate.coinbase).expect("the form of gateways");
    assert_eq!(mark.prime_id, prime_id, "{place}");

    // The gateway did not check its miner's work: all else must be good, whatever the class pays.
    let payouts = transaction.output.iter().filter(|output| is_payment(output)).count() - 1;
    match &judged.verdict {
        Ok(accepted) => {
            assert_eq!(accepted.hash, hash, "{place}");
            assert_eq!(accepted.prime_id, prime_id, "{place}");
            assert_eq!(accepted.pays, payouts > 0, "{place}");
            assert!(!matches!(candidate.booking, Booking::ByHand { .. }), "{place}");
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::HighHash, "{place}");
            assert!(share.target_pot > 0, "{place}: nearly every hash meets pot 0");
        }
    }
    judged
}

/// Neither the extranonce nor the witness commitment.
fn is_payment(output: &TxOut) -> bool {
    let script = output.script_pubkey.as_bytes();
    !script.starts_with(&[0x6a, 0x0e]) && !script.starts_with(&COMMITMENT_START)
}

/// Hashes are written with their most significant byte first, as block explorers do.
fn bytes(hex: &Value) -> [u8; 32] {
    let mut bytes: [u8; 32] = capture::unhex(hex.as_str().expect("hex digits"))
        .try_into()
        .expect("32 bytes");
    bytes.reverse();
    bytes
}
