//! From a candidate to the block that goes to the network, by the pool's own assembly.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Block, Transaction};
use millrace::work::{self, Candidate};

/// The block of a candidate as the pool submits it, with the witness of its coinbase. Of the template's transactions
/// subsidy-only work has none.
pub fn assemble(candidate: &Candidate, transactions: &[Transaction]) -> Block {
    let others: &[Transaction] = if candidate.stands_alone() { &[] } else { transactions };
    let raw: Vec<Vec<u8>> = others.iter().map(serialize).collect();
    let block = work::assemble(candidate, &raw).expect("the header commits to these");
    deserialize(&block).expect("a block")
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
    let foreign = serialize(&chain.block(&chain.tip()).txdata[0]);
    assert_eq!(
        work::assemble(&worked.candidate, std::slice::from_ref(&foreign)),
        Err(work::AssemblyError::MerkleRoot)
    );
    assert_eq!(
        work::assemble(&worked.candidate, &[foreign[1..].to_vec()]),
        Err(work::AssemblyError::Transaction(0))
    );
}
