//! A template held against what the pool knows, and its block: what a check costs a core, none of it a shard's.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Transaction, VarInt};
use criterion::{Criterion, criterion_group, criterion_main};
use millrace::wire::{ChannelKey, MAC_LEN, Nonce, coinbase_transaction, commitment_script, short_id};
use millrace::work::{KnownTransactions, TemplateBody, TemplateClaim, TemplateTransaction, merkle_branches};

/// A large mempool, and the transactions of a full block among them.
const MEMPOOL: u64 = 100_000;
const TEMPLATE: u64 = 4_000;

/// Bytes of a transaction's witness: 4,000 of them make a block of 4 MB.
const WITNESS: usize = 930;

const KEY: [u8; 16] = [7; 16];

fn templates(c: &mut Criterion) {
    let transactions: Vec<_> = (0..MEMPOOL)
        .map(|value| transaction(value, if value < TEMPLATE { WITNESS } else { 100 }))
        .collect();
    let template = transactions[..TEMPLATE as usize].to_vec();
    let mut known = KnownTransactions::new(1 << 30);
    for transaction in transactions {
        known.learn(transaction);
    }
    let wanted: HashMap<u64, usize> = template
        .iter()
        .enumerate()
        .map(|(at, transaction)| (short_id(&KEY, &transaction.wtxid), at))
        .collect();
    let claim = claim(&template);
    let body = Arc::new(TemplateBody::new(template.clone()));
    known.learn_template(body.clone());
    let block = claim.block(body.clone()).expect("a block");
    println!("a block of {} bytes, {MEMPOOL} transactions known", block.bytes());

    let mut group = c.benchmark_group("templates");
    group.bench_function("short_ids_among_100000", |b| {
        b.iter(|| known.find(&KEY, black_box(&wanted)));
    });
    group.bench_function("read_4000_transactions", |b| {
        b.iter(|| {
            let read = |known: &Arc<TemplateTransaction>| TemplateTransaction::read(&known.raw);
            template.iter().filter_map(read).count()
        });
    });
    group.bench_function("prove_4000_transactions", |b| {
        b.iter(|| claim.prove(&TemplateBody::new(black_box(template.clone()))));
    });
    // What a found block waits for before it is written to a node.
    group.bench_function("find_and_put_together_4_mb", |b| {
        b.iter(|| {
            let body = known.templates().find(black_box(&claim.branches)).expect("it is known");
            claim.block(body).expect("a block")
        });
    });
    group.bench_function("write_4_mb_in_hex", |b| {
        b.iter(|| black_box(&block).in_hex(b"before", b"behind"));
    });
    let (key, nonce) = (ChannelKey::from_bytes([1; 32]), Nonce::gateway_to_pool(1, &[2; 32]));
    let mut sealed = [vec![0; MAC_LEN], block.to_vec()].concat();
    key.seal(&nonce, &mut sealed);
    group.bench_function("open_4_mb", |b| {
        b.iter_batched_ref(
            || sealed.clone(),
            |frame| key.open(&nonce, frame).expect("its own"),
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn transaction(value: u64, witness: usize) -> Arc<TemplateTransaction> {
    let mut raw = vec![2, 0, 0, 0, 0, 1, 1];
    raw.extend([7; 32]);
    raw.extend([0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend(value.to_le_bytes());
    raw.extend([1, 0x51, 1]);
    raw.extend(serialize(&VarInt::from(witness)));
    raw.resize(raw.len() + witness, 0x55);
    raw.extend([0; 4]);
    Arc::new(TemplateTransaction::read(&raw).expect("a transaction"))
}

/// Without a coinbase that commits to anything: what that costs is in the proof all the same.
fn claim(template: &[Arc<TemplateTransaction>]) -> TemplateClaim {
    let coinbase = coinbase_transaction(&[], &[(0, &[0x51]), (0, &commitment_script(&[1; 32]))]);
    let parsed: Transaction = deserialize(&coinbase).expect("a transaction");
    let txids: Vec<[u8; 32]> = template.iter().map(|transaction| transaction.txid).collect();
    let leaves = [*parsed.compute_txid().as_ref()]
        .into_iter()
        .chain(txids.iter().copied());
    let root =
        bitcoin::merkle_tree::calculate_root(leaves.map(|leaf: [u8; 32]| bitcoin::hashes::Hash::from_byte_array(leaf)))
            .map(|root: bitcoin::hashes::sha256d::Hash| bitcoin::hashes::Hash::to_byte_array(root));
    let mut header = [0; 80];
    header[36..68].copy_from_slice(&root.expect("leaves"));
    TemplateClaim {
        slot: 0,
        is_candidate: false,
        number: 1,
        tx_count: TEMPLATE as u32,
        branches: merkle_branches(txids),
        header,
        coinbase,
    }
}

criterion_group!(benches, templates);
criterion_main!(benches);
