//! From a candidate to the block that goes to the network, by the pool's own assembly.

use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Block, Transaction};
use millrace::work::{AssemblyError, Candidate, TemplateBody, TemplateTransaction};

/// The block of a candidate as the pool submits it, with the witness of its coinbase. Of the template's transactions
/// subsidy-only work has none.
pub fn assemble(candidate: &Candidate, transactions: &[Transaction]) -> Block {
    let others: &[Transaction] = if candidate.stands_alone() { &[] } else { transactions };
    let body = TemplateBody::new(others.iter().map(known).collect());
    let block = candidate.block(Arc::new(body)).expect("the header commits to these");
    deserialize(&block.to_vec()).expect("a block")
}

#[test]
fn other_transactions_than_the_header_commits_to_make_no_block() {
    let chain = super::chain::Chain::new();
    let offered = chain.template();
    let template = super::work::template_of(&offered);
    let script = chain.miner.script(millrace_consensus::Kind::P2wpkh);
    let class = super::work::Class::new(0);
    let time = u32::try_from(offered["curtime"].as_u64().expect("a time")).expect("before 2106");
    let worked = super::work::work(&template, 0x2000_0000, time, class, &script);
    let foreign = known(&chain.block(&chain.tip()).txdata[0]);
    let foreign = Arc::new(TemplateBody::new(vec![foreign]));
    assert_eq!(worked.candidate.block(foreign), Err(AssemblyError::MerkleRoot));
}

fn known(transaction: &Transaction) -> Arc<TemplateTransaction> {
    Arc::new(TemplateTransaction::read(&serialize(transaction)).expect("a transaction"))
}
