//! Templates made by hand, each bent in one place.

use bitcoin::VarInt;

use super::*;
use crate::wire::{CoinbaseOutput, coinbase_transaction, commitment_script};

/// One input, one output with this script, and a witness of its own where one is given.
fn transaction(value: u64, script: &[u8], witness: Option<u8>) -> Arc<TemplateTransaction> {
    let mut raw = vec![2, 0, 0, 0];
    if witness.is_some() {
        raw.extend([0, 1]);
    }
    raw.push(1);
    raw.extend([7; 32]);
    raw.extend([0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend(value.to_le_bytes());
    raw.extend(bitcoin::consensus::serialize(&VarInt::from(script.len())));
    raw.extend(script);
    raw.extend(witness.into_iter().flat_map(|byte| [1, 1, byte]));
    raw.extend([0; 4]);
    Arc::new(TemplateTransaction::read(&raw).expect("a transaction"))
}

/// The claim of a share on these transactions, with a coinbase that commits to their witnesses.
fn claim(transactions: &[Arc<TemplateTransaction>], commitment: Option<[u8; 32]>) -> TemplateClaim {
    let commitment = commitment.as_ref().map(commitment_script);
    let payment: CoinbaseOutput<'_> = (0, &[0x51]);
    let outputs: Vec<_> = [payment]
        .into_iter()
        .chain(commitment.iter().map(|script| (0, &script[..])))
        .collect();
    let coinbase = coinbase_transaction(&[2, 0x40, 0x0d], &outputs);
    let parsed: Transaction = deserialize(&coinbase).expect("a transaction");
    let txids: Vec<_> = transactions.iter().map(|transaction| transaction.txid).collect();
    let branches = merkle_branches(txids);
    let root = branches.iter().fold(*parsed.compute_txid().as_ref(), |node, branch| {
        sha256d::node(&node, branch)
    });
    let mut header = [0; 80];
    header[36..68].copy_from_slice(&root);
    TemplateClaim {
        slot: 0,
        is_candidate: false,
        number: 1,
        tx_count: u32::try_from(transactions.len()).expect("few"),
        branches,
        header,
        coinbase,
    }
}

fn body(transactions: &[Arc<TemplateTransaction>]) -> Arc<TemplateBody> {
    Arc::new(TemplateBody::new(transactions.to_vec()))
}

fn some(count: u64) -> Vec<Arc<TemplateTransaction>> {
    (0..count)
        .map(|value| transaction(value, &[0x51], (value % 2 == 0).then_some(0x55)))
        .collect()
}

fn good(transactions: &[Arc<TemplateTransaction>]) -> TemplateClaim {
    claim(transactions, Some(*body(transactions).commitment()))
}

#[test]
fn branches_lead_to_the_root_over_any_number_of_transactions() {
    for count in 0..40_u8 {
        let txids: Vec<[u8; 32]> = (1..=count).map(|byte| [byte; 32]).collect();
        let leaf = [0xcb; 32];
        let by_branches = merkle_branches(txids.clone())
            .iter()
            .fold(leaf, |node, branch| sha256d::node(&node, branch));
        let whole = sha256d::merkle_root([leaf].into_iter().chain(txids).collect());
        assert_eq!(by_branches, whole, "{count}");
    }
}

#[test]
fn a_template_is_its_transactions_in_their_order_and_makes_the_block() {
    for count in [0, 1, 2, 5, 8] {
        let transactions = some(count);
        let claim = good(&transactions);
        assert_eq!(claim.prove(&body(&transactions)), Ok(()), "{count}");
        let block = claim.block(body(&transactions)).expect("a block");
        assert_eq!(block.to_vec().len(), block.bytes());
        let parsed: bitcoin::Block = deserialize(&block.to_vec()).expect("a block");
        assert_eq!(parsed.txdata.len(), 1 + transactions.len());
        assert!(
            parsed.check_merkle_root() && parsed.check_witness_commitment(),
            "{count}"
        );
    }
    let transactions = some(5);
    let claim = good(&transactions);
    let mut others = transactions.clone();
    others.swap(1, 3);
    assert_eq!(claim.prove(&body(&others)), Err(TemplateFault::Mismatch));
    assert_eq!(claim.prove(&body(&transactions[..4])), Err(TemplateFault::Mismatch));
    assert_eq!(
        claim.block(body(&others)),
        Err(AssemblyError::MerkleRoot),
        "the header says so as well"
    );
    // A last one that stands twice has the same branches, and is another block.
    let twice: Vec<_> = transactions.iter().chain(transactions.last()).cloned().collect();
    assert_eq!(claim.prove(&body(&twice)), Err(TemplateFault::Mismatch));
}

#[test]
fn witnesses_are_committed_to() {
    let transactions = some(3);
    assert_eq!(
        claim(&transactions, None).prove(&body(&transactions)),
        Err(TemplateFault::Commitment)
    );
    assert_eq!(
        claim(&transactions, Some([1; 32])).prove(&body(&transactions)),
        Err(TemplateFault::Commitment)
    );
    // The same txids under other witnesses.
    let mut others = transactions.clone();
    others[0] = transaction(0, &[0x51], Some(0x56));
    assert_eq!(others[0].txid, transactions[0].txid);
    assert_eq!(
        good(&transactions).prove(&body(&others)),
        Err(TemplateFault::Commitment)
    );
    // Without any witness no commitment is needed; a wrong one is wrong all the same.
    let plain = [transaction(1, &[0x51], None)];
    assert_eq!(claim(&plain, None).prove(&body(&plain)), Ok(()));
    assert_eq!(
        claim(&plain, Some([1; 32])).prove(&body(&plain)),
        Err(TemplateFault::Commitment)
    );
}

#[test]
fn weight_and_signature_operations_are_counted_to_the_unit() {
    let weigh = |last: usize| {
        let mut transactions = vec![transaction(0, &vec![0x6a; 800_000], Some(0x55))];
        transactions.push(transaction(1, &vec![0x6a; last], None));
        let claim = good(&transactions);
        let block: bitcoin::Block =
            deserialize(&claim.block(body(&transactions)).expect("a block").to_vec()).expect("a block");
        (claim.prove(&body(&transactions)), block.weight().to_wu())
    };
    let (_, light) = weigh(100_000);
    let room = usize::try_from((BLOCK_WEIGHT_MAX - light) / BYTE_WEIGHT).expect("room");
    let (proved, weight) = weigh(100_000 + room);
    assert_eq!(proved, Ok(()));
    assert!(weight <= BLOCK_WEIGHT_MAX && weight + BYTE_WEIGHT > BLOCK_WEIGHT_MAX);
    let (proved, weight) = weigh(100_001 + room);
    assert_eq!(proved, Err(TemplateFault::Weight(weight)));

    // OP_CHECKSIG, each of which costs four.
    let most = [transaction(0, &vec![0xac; 20_000], None)];
    assert_eq!(good(&most).prove(&body(&most)), Ok(()));
    let over = [transaction(0, &vec![0xac; 20_001], None)];
    assert_eq!(good(&over).prove(&body(&over)), Err(TemplateFault::Sigops(80_004)));
}

#[test]
fn what_is_no_transaction_is_none() {
    let raw = &transaction(1, &[0x51], Some(1)).raw;
    assert!(TemplateTransaction::read(&raw[..raw.len() - 1]).is_none());
    assert!(TemplateTransaction::read(&[raw, &[0][..]].concat()).is_none());
    assert!(TemplateTransaction::read(&[]).is_none());
}
