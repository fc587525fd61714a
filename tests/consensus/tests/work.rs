//! millrace's own work on a template of the node: a gateway's coinbase, a share on it, and what the pool makes of it.

use std::sync::Arc;

use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::PushBytesBuf;
use millrace::wire::{EXTRANONCE_LEN, Flags, Reason, SUBSIDY_ONLY_ID, Share};
use millrace::work::{
    self, Candidate, Chain, Context, Dictated, GatewayMemory, Jobs, MinDiff, Miners, Terms, header_hash, judge,
};
use millrace_loadgen::coinbase::{Payout, Payouts, Recipe, Secondary, Terms as Heard};
use millrace_loadgen::template::Template;
use serde_json::Value;

const PRIME_ID: u32 = 0x1234_5678;
const COINBASER_ID: u8 = 9;
const USERNAME: &[u8] = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig";

/// Of the dev chain, so that its network target lies just below regtest's: half of all hashes are blocks.
const NETWORK_DIFFICULTY: u64 = 2;

/// One coinbase to try.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// 0 to 5, or that of subsidy-only work.
    pub coinbase_id: u8,
    pub secondary: Secondary,
    pub quickdiff: bool,
    /// Whom the split pays beside the pool.
    pub payees: usize,
    /// Whether the split leaves nothing to the pool.
    pub takes_all: bool,
}

impl Class {
    pub fn new(coinbase_id: u8) -> Self {
        Self {
            coinbase_id,
            secondary: Secondary::Short,
            quickdiff: false,
            payees: 0,
            takes_all: false,
        }
    }
}

/// What came of one share that is a block.
#[derive(Debug)]
pub struct Worked {
    pub verdict: Result<(), Reason>,
    pub candidate: Candidate,
    /// What the coinbase must pay, as far as the gateway found room for it.
    pub paid: Vec<(u64, ScriptBuf)>,
}

/// A template of the node's, as the gateway reads it.
pub fn template_of(node: &Value) -> Template {
    Template::offered(node).expect("a template")
}

/// A share on this template that is a block, rebuilt and judged by the pool.
pub fn work(template: &Template, version: u32, time: u32, class: Class, pool_script: &ScriptBuf) -> Worked {
    let tag = b"millrace".to_vec();
    let terms = Terms::new(
        PRIME_ID,
        pool_script.as_bytes(),
        &tag,
        MinDiff::from_pot(0).expect("a pot"),
    );
    let heard = Heard {
        prime_id: PRIME_ID,
        script: pool_script.as_bytes().into(),
        tag: tag.into(),
        min_pot: 0,
    };
    let split = payouts(class, template.value);
    let mut memory = GatewayMemory::new();
    memory.learn_terms(terms, time.into());
    let is_split = !split.is_empty();
    if is_split {
        memory.learn_split(Dictated {
            coinbaser_id: COINBASER_ID,
            value: template.value,
            parent: template.parent,
            with_balances: false,
            time_s: time.into(),
            split: Arc::new(dictated(&split)),
        });
    }
    let to_pay: Payouts = split
        .iter()
        .map(|(value, script)| Payout {
            value: *value,
            script: script.as_bytes(),
        })
        .collect();
    let recipe = Recipe {
        coinbase_id: class.coinbase_id,
        template,
        terms: &heard,
        secondary: class.secondary,
        unique_id: 0x0605,
        payouts: &to_pay,
    };
    let coinbase = recipe.build();
    let fitting = recipe.fitting();
    let paid = fitting
        .iter()
        .map(|payout| (payout.value, ScriptBuf::from_bytes(payout.script.to_vec())))
        .collect();

    let chain = Chain::dev(NETWORK_DIFFICULTY);
    let is_subsidy_only = class.coinbase_id == SUBSIDY_ONLY_ID;
    let extranonce = [0xa5; EXTRANONCE_LEN];
    let leaf = coinbase.leaf(0, class.quickdiff, &extranonce);
    let branches = if is_subsidy_only { &[][..] } else { &template.branches };
    let root = branches.iter().fold(leaf, |node, branch| {
        sha256d::Hash::hash(&[node, *branch].concat()).to_byte_array()
    });
    let header = |nonce: u32| -> [u8; 80] {
        let parts: [&[u8]; 6] = [
            &version.to_le_bytes(),
            &template.parent,
            &root,
            &time.to_le_bytes(),
            &template.nbits.to_le_bytes(),
            &nonce.to_le_bytes(),
        ];
        parts.concat().try_into().expect("80 bytes")
    };
    let nonce = (0..)
        .find(|nonce| {
            chain
                .network_target(&[0; 32], 0, 0)
                .is_met_by(&header_hash(&header(*nonce)))
        })
        .expect("every second meets it");

    let mut flags = Flags::BLOCK;
    flags |= if is_subsidy_only { Flags::SUBSIDY_ONLY } else { 0 };
    flags |= if class.quickdiff { Flags::QUICKDIFF } else { 0 };
    let share = Share {
        job_id: 3,
        coinbase_id: class.coinbase_id,
        flags: Flags(flags),
        target_pot: 0,
        ntime: time,
        nonce,
        version,
        extranonce: &extranonce,
        username: USERNAME,
        reserved: [0; 4],
        job: Some(template.section(&coinbase.cut, if is_split { COINBASER_ID } else { 0 })),
        coinbase: Some(coinbase.cut.section(class.coinbase_id)),
        padding: &[0],
    };
    let context = Context {
        chain: &chain,
        now_s: time.into(),
        steady_s: time.into(),
        miners: &Miners::new([7; 16], None),
        may_wait: true,
        allows_without_payouts: true,
        own_template: None,
    };
    let judged = judge(&share, &mut Jobs::new(), &mut memory, &context);
    Worked {
        verdict: judged.verdict.map(|_| ()).map_err(|refusal| refusal.reason),
        candidate: *judged.candidate.expect("its hash meets the network target"),
        paid,
    }
}

/// Of the script types that miners use, each another key, the largest value first.
fn payouts(class: Class, value: u64) -> Vec<(u64, ScriptBuf)> {
    let count = class.payees as u64;
    let hash = |n: u64| {
        let mut bytes = [0x11; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    let script = |n: u64| {
        let short = PushBytesBuf::from(<[u8; 20]>::try_from(&hash(n)[..20]).expect("20 bytes"));
        let long = PushBytesBuf::from(hash(n));
        let builder = bitcoin::script::Builder::new();
        use bitcoin::opcodes::all::{OP_CHECKSIG, OP_DUP, OP_EQUAL, OP_EQUALVERIFY, OP_HASH160};
        match n % 5 {
            0 => builder.push_int(0).push_slice(short),
            1 => builder
                .push_opcode(OP_DUP)
                .push_opcode(OP_HASH160)
                .push_slice(short)
                .push_opcode(OP_EQUALVERIFY)
                .push_opcode(OP_CHECKSIG),
            2 => builder.push_opcode(OP_HASH160).push_slice(short).push_opcode(OP_EQUAL),
            3 => builder.push_int(0).push_slice(long),
            _ => builder.push_int(1).push_slice(long),
        }
        .into_script()
    };
    let each = value / (count + 1).max(2) / 2;
    let mut payouts: Vec<_> = (0..count).map(|n| (each + count - n, script(n))).collect();
    if class.takes_all
        && let Some(first) = payouts.first_mut()
    {
        first.0 = value - each * (count - 1) - (0..count - 1).map(|n| n + 1).sum::<u64>();
    }
    payouts
}

/// These as the pool splits.
fn dictated(payouts: &[(u64, ScriptBuf)]) -> Box<[work::Payout]> {
    let payouts = (0..).zip(payouts).map(|(payee, (value, script))| work::Payout {
        payee,
        value: *value,
        script: script.as_bytes().into(),
    });
    payouts.collect()
}
