//! The least that must be true of an accepted share, computed as protocol section 5 says it, by other means than the
//! judge's: transactions are read by the crate `bitcoin`.

use std::collections::{HashMap, HashSet};

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{OutPoint, Transaction};
use millrace::wire::Share;
use millrace::work::{Accepted, Candidate, NewMiner, PARENTS_ACCEPTED, Terms};

/// Satoshi of the subsidy at a height, on any chain.
fn subsidy(height: u32) -> u64 {
    let halvings = height / 210_000;
    if halvings > 63 { 0 } else { 5_000_000_000 >> halvings }
}

#[derive(Default)]
pub struct Model {
    jobs: HashMap<u8, Job>,
    /// The last named last.
    parents: Vec<[u8; 32]>,
    /// By the start of their hash, as the memory of a gateway knows them.
    stale: HashSet<[u8; 8]>,
    /// In the order they came.
    terms: Vec<Terms>,
    accepted: HashSet<([u8; 32], u64)>,
}

struct Job {
    parent: [u8; 32],
    target_index: usize,
    nbits: u32,
    height: u32,
    value: u64,
    branches: Vec<[u8; 32]>,
    coinbases: HashMap<u8, (Vec<u8>, Vec<u8>)>,
}

struct Rebuilt {
    header: [u8; 80],
    hash: [u8; 32],
    coinbase: Vec<u8>,
}

impl Model {
    pub fn knows_terms(&self, prime_id: u32) -> bool {
        self.terms.iter().any(|terms| terms.prime_id == prime_id)
    }

    pub fn learn_terms(&mut self, terms: Terms) {
        self.terms.push(terms);
    }

    /// Sections are of one connection.
    pub fn begin_session(&mut self) {
        self.jobs.clear();
    }

    pub fn keep_sections(&mut self, share: &Share<'_>) {
        if let Some(section) = &share.job
            && share.job_id < 8
        {
            self.name_parent(*section.prev_block_hash);
            let job = Job {
                parent: *section.prev_block_hash,
                target_index: usize::from(section.target_index),
                nbits: section.nbits,
                height: section.height,
                value: section.coinbase_value,
                branches: section.branches.to_vec(),
                coinbases: HashMap::new(),
            };
            self.jobs.insert(share.job_id, job);
        }
        if let Some(section) = &share.coinbase
            && let Some(job) = self.jobs.get_mut(&share.job_id)
        {
            let halves = (section.coinb1.to_vec(), section.coinb2.to_vec());
            job.coinbases.insert(section.coinbase_id, halves);
        }
    }

    fn name_parent(&mut self, parent: [u8; 32]) {
        if let Some(at) = self.parents.iter().position(|known| *known == parent) {
            self.parents.remove(at);
        } else if self.stale.contains(&parent[..8]) {
            return;
        } else if self.parents.len() == PARENTS_ACCEPTED {
            let oldest = self.parents.remove(0);
            self.stale.insert(*oldest.first_chunk().expect("32 bytes"));
        }
        self.parents.push(parent);
    }

    pub fn check_candidate(&self, share: &Share<'_>, candidate: &Candidate) {
        let job = &self.jobs[&share.job_id];
        let rebuilt = job.rebuild(share, share.extranonce);
        assert_eq!(candidate.hash, rebuilt.hash);
        assert_eq!(candidate.header, rebuilt.header);
        assert_eq!(candidate.coinbase, rebuilt.coinbase);
        assert_eq!((candidate.height, candidate.value), (job.height, job.value));
        assert_eq!(candidate.username, share.username);
    }

    pub fn check_accepted(&mut self, share: &Share<'_>, accepted: &Accepted) {
        let job = &self.jobs[&share.job_id];
        let Rebuilt { hash, coinbase, .. } = job.rebuild(share, share.extranonce);
        assert_eq!(
            (accepted.hash, accepted.parent, accepted.pot),
            (hash, job.parent, share.target_pot)
        );
        assert!(self.parents.contains(&job.parent));
        // The target of pot p lies below 2^(256 - p).
        let zeros = hash.iter().rev().take_while(|byte| **byte == 0).count() * 8;
        let partial = hash
            .iter()
            .rev()
            .find(|byte| **byte != 0)
            .map_or(0, |byte| byte.leading_zeros() as usize);
        assert!(zeros + partial >= usize::from(share.target_pot));
        assert_eq!(share.version >> 29, 1);
        assert!(NewMiner::parse(share.username).is_ok());

        let named = self.terms.iter().position(|terms| terms.prime_id == accepted.prime_id);
        let since = &self.terms[named.expect("terms that were told")..];
        assert!(since.iter().any(|terms| terms.min_diff.pot() <= share.target_pot));
        job.check_coinbase(share, &coinbase, &since[0]);

        let new = self.accepted.insert((job.parent, accepted.hash64()));
        assert!(new, "the same work counts twice");
    }
}

impl Job {
    fn rebuild(&self, share: &Share<'_>, extranonce: &[u8]) -> Rebuilt {
        let (coinb1, coinb2) = &self.coinbases[&share.coinbase_id];
        let mut coinbase = coinb1.clone();
        coinbase[self.target_index] = share.target_pot;
        if share.flags.quickdiff() {
            let [.., a, b] = &mut coinbase[..] else {
                panic!("a coinb1 of less than two bytes");
            };
            let again = (*a, *b) == (0x44, 0x51);
            (*a, *b) = if again { (0xbb, 0xae) } else { (0x44, 0x51) };
        }
        coinbase.extend_from_slice(extranonce);
        coinbase.extend_from_slice(coinb2);

        let mut root = sha256d::Hash::hash(&coinbase).to_byte_array();
        if !share.flags.subsidy_only() {
            for branch in &self.branches {
                root = sha256d::Hash::hash(&[root, *branch].concat()).to_byte_array();
            }
        }
        let header = [
            &share.version.to_le_bytes()[..],
            &self.parent,
            &root,
            &share.ntime.to_le_bytes(),
            &self.nbits.to_le_bytes(),
            &share.nonce.to_le_bytes(),
        ];
        let header: [u8; 80] = header.concat().try_into().expect("4, 32, 32, 4, 4 and 4 bytes");
        Rebuilt {
            hash: sha256d::Hash::hash(&header).to_byte_array(),
            header,
            coinbase,
        }
    }

    fn check_coinbase(&self, share: &Share<'_>, coinbase: &[u8], terms: &Terms) {
        let transaction: Transaction = deserialize(coinbase).expect("a transaction to its last byte");
        assert_eq!(
            (transaction.version.0, transaction.lock_time.to_consensus_u32()),
            (1, 0)
        );
        assert_eq!(transaction.input.len(), 1);
        assert_eq!(transaction.input[0].previous_output, OutPoint::null());
        let script_sig = transaction.input[0].script_sig.as_bytes();
        assert!((2..=100).contains(&script_sig.len()));
        assert!(
            script_sig
                .windows(terms.tag.len().max(1))
                .any(|window| terms.tag.is_empty() || window == &*terms.tag)
        );

        // The 7-byte push of the work that is paid for, and inside the script.
        let push = &coinbase[self.target_index - 1..self.target_index + 7];
        assert_eq!((push[0], push[1]), (7, share.target_pot));
        assert_eq!(push[4..], terms.prime_id.to_le_bytes());
        assert!((42..42 + script_sig.len()).contains(&self.target_index));

        // On this chain no split has outputs: all goes to the pool.
        let subsidy_only = share.flags.subsidy_only();
        let sum: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
        assert_eq!(sum, if subsidy_only { subsidy(self.height) } else { self.value });
        for output in transaction.output.iter().filter(|output| output.value.to_sat() > 0) {
            assert_eq!(output.script_pubkey.as_bytes(), &*terms.script);
        }

        // Another extranonce is the same coinbase but for the extranonce.
        let flipped: Vec<u8> = share.extranonce.iter().map(|byte| !byte).collect();
        let other: Transaction = deserialize(&self.rebuild(share, &flipped).coinbase).expect("a transaction as well");
        assert_eq!(transaction.output.len(), other.output.len());
        let mut differences = 0;
        for (output, other) in transaction.output.iter().zip(&other.output) {
            assert_eq!(output.value, other.value);
            if output.script_pubkey != other.script_pubkey {
                differences += 1;
                assert_eq!(output.script_pubkey.as_bytes()[..2], [0x6a, 14]);
            }
        }
        let other_sig = other.input[0].script_sig.as_bytes();
        let end = script_sig.len() - if differences == 0 { 12 } else { 0 };
        assert_eq!(
            (&other_sig[..end], other_sig.len()),
            (&script_sig[..end], script_sig.len())
        );
        assert!(differences <= 1);
    }
}
