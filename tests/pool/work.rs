//! Real work on the dev chain, as a gateway's templates make it.

use millrace::wire::{CoinbaseSection, Flags, JobSection, Share};
use sha2::{Digest, Sha256};

/// 50 BTC: the subsidy at the heights used here.
pub const SUBSIDY: u64 = 5_000_000_000;

/// One template.
#[derive(Debug, Clone)]
pub struct Job {
    pub slot: u8,
    pub parent: [u8; 32],
    pub height: u32,
    pub value: u64,
    pub branches: Vec<[u8; 32]>,
}

impl Job {
    pub fn new(slot: u8, parent: u8) -> Self {
        Self {
            slot,
            parent: [parent; 32],
            height: 100_000,
            value: SUBSIDY,
            branches: Vec::new(),
        }
    }

    pub fn section<'a>(&'a self, coinbase: &Coinbase) -> JobSection<'a> {
        JobSection {
            prev_block_hash: &self.parent,
            target_index: coinbase.target_index,
            nbits: 0x1d00_ffff,
            coinbaser_id: 0,
            height: self.height,
            coinbase_value: self.value,
            tx_count: if self.branches.is_empty() { 0 } else { (1 << self.branches.len()) - 1 },
            weight: 1_000,
            size: 250,
            sigops: 4,
            branches: &self.branches,
        }
    }
}

/// A coinbase without its 12 extranonce bytes, pot byte `FF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    pub target_index: u16,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
}

/// What a coinbase is made of; the default is what the pool expects.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub height: u32,
    pub tag: Vec<u8>,
    pub prime_id: u32,
    pub script: Vec<u8>,
    pub value: u64,
}

impl Recipe {
    /// Pushes of the scriptSig up to the 14-byte one, whose length byte is the last.
    pub fn script_sig_start(&self) -> (Vec<u8>, usize) {
        let mut sig = vec![3];
        sig.extend_from_slice(&self.height.to_le_bytes()[..3]);
        let tag_len = u8::try_from(self.tag.len() + 1).expect("a short tag");
        if tag_len > 75 {
            sig.push(0x4c);
        }
        sig.push(tag_len);
        sig.extend_from_slice(&self.tag);
        sig.push(0);
        sig.push(7);
        let target = sig.len();
        sig.extend_from_slice(&[0xff, 0x34, 0x12]);
        sig.extend_from_slice(&self.prime_id.to_le_bytes());
        (sig, target)
    }

    /// Class 0: the extranonce in the 14-byte push, one output to the pool, a witness commitment.
    pub fn build(&self) -> Coinbase {
        let (mut sig, target) = self.script_sig_start();
        sig.extend_from_slice(&[14, 0x78, 0x56]);
        let mut coinb1 = start_of_transaction(sig.len() + 12);
        let target_index = u16::try_from(coinb1.len() + target).expect("a short coinbase");
        coinb1.extend_from_slice(&sig);
        let mut coinb2 = vec![0xff; 4];
        coinb2.push(2);
        push_output(&mut coinb2, self.value, &self.script);
        push_output(&mut coinb2, 0, &witness_commitment());
        coinb2.extend_from_slice(&[0; 4]);
        Coinbase {
            target_index,
            coinb1,
            coinb2,
        }
    }

    /// The extranonce in an output instead, as with a tag too long for the scriptSig.
    pub fn build_with_extranonce_output(&self) -> Coinbase {
        let (sig, target) = self.script_sig_start();
        let mut coinb1 = start_of_transaction(sig.len());
        let target_index = u16::try_from(coinb1.len() + target).expect("a short coinbase");
        coinb1.extend_from_slice(&sig);
        coinb1.extend_from_slice(&[0xff; 4]);
        coinb1.push(3);
        coinb1.extend_from_slice(&0_u64.to_le_bytes());
        coinb1.extend_from_slice(&[16, 0x6a, 14, 0x78, 0x56]);
        let mut coinb2 = Vec::new();
        push_output(&mut coinb2, self.value, &self.script);
        push_output(&mut coinb2, 0, &witness_commitment());
        coinb2.extend_from_slice(&[0; 4]);
        Coinbase {
            target_index,
            coinb1,
            coinb2,
        }
    }
}

/// Version, one null input, and the length of its script.
pub fn start_of_transaction(sig_len: usize) -> Vec<u8> {
    let mut tx = vec![1, 0, 0, 0, 1];
    tx.extend_from_slice(&[0; 32]);
    tx.extend_from_slice(&[0xff; 4]);
    tx.push(u8::try_from(sig_len).expect("a scriptSig has at most 100 bytes"));
    tx
}

pub fn push_output(tx: &mut Vec<u8>, value: u64, script: &[u8]) {
    tx.extend_from_slice(&value.to_le_bytes());
    tx.push(u8::try_from(script.len()).expect("a short script"));
    tx.extend_from_slice(script);
}

pub fn witness_commitment() -> Vec<u8> {
    let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.extend_from_slice(&[0x5a; 32]);
    script
}

/// A share with pot 0 whose hash meets its target, without sections.
pub fn solve<'a>(job: &Job, coinbase: &Coinbase, extranonce: &'a [u8; 12], username: &'a [u8]) -> Share<'a> {
    let ntime = u32::try_from(unix_s()).expect("before 2106");
    let mut share = Share {
        job_id: job.slot,
        coinbase_id: 0,
        flags: Flags::default(),
        target_pot: 0,
        ntime,
        nonce: 0,
        version: 0x2000_0000,
        extranonce,
        username,
        reserved: [0; 4],
        job: None,
        coinbase: None,
        padding: &[0],
    };
    // On the dev chain the top 16 bits of a hash must not all be set: one nonce in 65,536 fails.
    while header_hash(job, coinbase, &share)[30..] == [0xff, 0xff] {
        share.nonce += 1;
    }
    share
}

pub fn with_sections<'a>(mut share: Share<'a>, job: &'a Job, coinbase: &'a Coinbase) -> Share<'a> {
    share.job = Some(job.section(coinbase));
    share.coinbase = Some(CoinbaseSection {
        coinbase_id: share.coinbase_id,
        coinb1: &coinbase.coinb1,
        coinb2: &coinbase.coinb2,
    });
    share
}

/// The header's hash as hashed, rebuilt as protocol section 5 says.
pub fn header_hash(job: &Job, coinbase: &Coinbase, share: &Share<'_>) -> [u8; 32] {
    let mut tx = coinbase.coinb1.clone();
    tx[usize::from(coinbase.target_index)] = share.target_pot;
    tx.extend_from_slice(share.extranonce);
    tx.extend_from_slice(&coinbase.coinb2);
    let mut root = sha256d(&tx);
    for branch in &job.branches {
        root = sha256d(&[root, *branch].concat());
    }
    let mut header = share.version.to_le_bytes().to_vec();
    header.extend_from_slice(&job.parent);
    header.extend_from_slice(&root);
    header.extend_from_slice(&share.ntime.to_le_bytes());
    header.extend_from_slice(&0x1d00_ffff_u32.to_le_bytes());
    header.extend_from_slice(&share.nonce.to_le_bytes());
    sha256d(&header)
}

pub fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

fn unix_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}
