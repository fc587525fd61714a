//! A stand-in node as a generator's gateways see it.

use std::time::Duration;

use super::*;
use crate::template::Template;
use crate::upstream::Upstream;

/// A node on a port of its own, for as long as the test runs.
fn start(offer: Offer, bits: u32) -> (Arc<Node>, SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (publisher, _) = Publisher::start("tcp://127.0.0.1:0").expect("a free port");
    let node = Arc::new(Node {
        bits,
        offer,
        publisher,
        chain: Mutex::new(Chain {
            blocks: vec![[7; 32]],
            arrivals: HashMap::new(),
        }),
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    fs::write(folder.path().join("cookie"), "user:secret").expect("a file");
    let served = node.clone();
    std::thread::spawn(move || {
        http::serve(
            &listener,
            "user:secret",
            &Arc::new(move |call: &Call| served.answer(call)),
        )
    });
    (node, address, folder)
}

#[test]
fn a_full_template_is_read_as_it_was_made() {
    let offer = Offer::new(500, 3_800_000, 20).expect("it fits a block");
    let (node, address, folder) = start(offer, 0x207f_ffff);
    let cookie = folder.path().join("cookie");
    let following = Upstream::follow(address, &cookie, false, Duration::from_secs(60)).expect("the node answers");
    let template = following.upstream().template();
    assert_eq!(
        (template.tx_count, template.height, template.nbits),
        (500, FIRST_HEIGHT + 1, 0x207f_ffff)
    );
    assert!((3_795_000..3_805_000).contains(&template.size), "{}", template.size);
    let transactions = template.transactions.as_deref().expect("a node's has them");
    let weight: u64 = transactions
        .iter()
        .map(|one| bitcoin::consensus::deserialize::<bitcoin::Transaction>(&one.raw).expect("a transaction"))
        .map(|one| one.weight().to_wu())
        .sum();
    assert_eq!(u64::from(template.weight), weight);
    assert!(template.coinbase_room() > 16_384);
    let txids: Vec<_> = transactions.iter().map(|one| one.txid).collect();
    assert_eq!(template.branches, millrace::work::merkle_branches(txids));

    let upstream = following.upstream();
    upstream.make_block().expect("the node makes one");
    while upstream.tip() == 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(upstream.template().parent, node.chain().tip());
    assert_eq!(upstream.template().height, FIRST_HEIGHT + 2);
}

#[test]
fn a_block_becomes_the_tip_and_its_arrival_is_noted() {
    let (node, address, folder) = start(Offer::new(0, 0, 0).expect("nothing fits"), 0x207f_ffff);
    let cookie = folder.path().join("cookie");
    let following = Upstream::follow(address, &cookie, true, Duration::from_secs(60)).expect("the node answers");
    let mut block = vec![0; 81];
    block[4..36].copy_from_slice(&node.chain().tip());
    let hash = sha256d::hash(&block[..80]);
    for _ in 0..2 {
        following.upstream().found(hash, 0, || block.clone());
    }
    assert_eq!(node.chain().tip(), hash);
    assert!(node.chain().arrivals.contains_key(&hash));
    let fate = following.upstream().fate();
    assert_eq!((fate.found, fate.taken), (2, 1));
    assert!(fate.refusals.is_empty() && fate.to_node_ns.is_empty(), "{fate:?}");
    // A block on a parent that is none of its is not the tip.
    following.upstream().found([1; 32], 0, || vec![9; 81]);
    assert_eq!(node.chain().tip(), hash);
}

#[test]
fn what_does_not_fit_a_block_is_refused() {
    assert!(Offer::new(500, 3_990_000, 0).is_err());
    assert!(Offer::new(20_000, 0, 0).is_err());
}

#[test]
fn templates_of_other_forms_are_refused() {
    let node = json!({"transactions": [], "default_witness_commitment": "6a"});
    assert!(Template::offered(&node).is_err());
}
