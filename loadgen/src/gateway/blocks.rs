//! Blocks that a gateway finds on the templates of a node.

use millrace::wire::{Flags, SUBSIDY_ONLY_ID};

use super::{Expected, Gateway, World};
use crate::asic::Found;
use crate::sha256d;
use crate::slots::Job;

impl Gateway {
    /// The flags of a share that is about to leave. Where it is a block it says so, and the node has it first.
    pub(super) fn bring_block(&self, found: &Found, expected: Expected, world: &World) -> Flags {
        let job = self.slots.job(found.place.slot);
        let (Some(node), Some(job), Expected::Accepted) = (world.source.node(), job, expected) else {
            return found.flags;
        };
        if !sha256d::is_block(found.top, job.template.nbits) {
            return found.flags;
        }
        let coinbase = job.coinbase(found.place.coinbase_id, self.secondary);
        let coinbase = coinbase
            .cut
            .rebuild(found.pot, found.flags.quickdiff(), &found.extranonce);
        let header = header(job, found, &coinbase);
        node.found(sha256d::hash(&header), found.place.coinbase_id, || {
            block(job, found, &header, &coinbase)
        });
        Flags(found.flags.0 | Flags::BLOCK)
    }
}

fn header(job: &Job, found: &Found, coinbase: &[u8]) -> Vec<u8> {
    let template = &job.template;
    let branches = match found.place.coinbase_id {
        SUBSIDY_ONLY_ID => &[][..],
        _ => &template.branches,
    };
    let root = sha256d::root(sha256d::hash(coinbase), branches);
    [
        &found.version.to_le_bytes()[..],
        &template.parent,
        &root,
        &found.ntime.to_le_bytes(),
        &template.nbits.to_le_bytes(),
        &found.nonce.to_le_bytes(),
    ]
    .concat()
}

/// As the gateway brings it to its node: its coinbase has no witness.
fn block(job: &Job, found: &Found, header: &[u8], coinbase: &[u8]) -> Vec<u8> {
    let transactions = match found.place.coinbase_id {
        SUBSIDY_ONLY_ID => &[][..],
        _ => job.template.transactions.as_deref().unwrap_or_default(),
    };
    let mut block = header.to_vec();
    let count = bitcoin::VarInt::from(1 + transactions.len());
    block.extend_from_slice(&bitcoin::consensus::serialize(&count));
    block.extend_from_slice(coinbase);
    transactions.iter().for_each(|one| block.extend_from_slice(&one.raw));
    block
}
