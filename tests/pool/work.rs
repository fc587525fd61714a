//! Real work on the dev chain, as a gateway's templates make it.

use std::time::{SystemTime, UNIX_EPOCH};

use millrace::wire::{
    CoinbaseDraft, CoinbaseOutput, CoinbaseTransaction, CutCoinbase, EXTRANONCE_LEN, ExtranoncePlace, Flags,
    JobSection, Share, coinbase_transaction, commitment_script, extranonce_script,
};
use millrace::work::Terms;
use sha2::{Digest, Sha256};

/// 50 BTC: the subsidy at the heights used here.
pub const SUBSIDY: u64 = 5_000_000_000;

/// A miner's name that every chain of the pool takes.
pub const USERNAME: &[u8] = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig";

/// Of every job here.
pub const HEIGHT: u32 = 100_000;

/// One hash in 65,536 where targets are shifted by 32 bits. Only a chain that a node knows looks at it.
pub const NBITS: u32 = 0x1f00_ffff;
/// What every coinbase here has in its 7-byte push, and before its extranonce.
const UNIQUE_ID: u16 = 0x1234;
const PREFIX: [u8; 2] = [0x78, 0x56];

const VERSION: u32 = 0x2000_0000;

/// Nonces between two numbers of shares, so that no two are answered alike but 2^18 of them apart.
const NONCES_PER_SHARE: u32 = 1 << 14;

/// One template as the gateway's node gave it.
#[derive(Debug, Clone)]
pub struct Job {
    pub slot: u8,
    pub parent: [u8; 32],
    pub height: u32,
    /// Satoshi.
    pub value: u64,
    /// The split that it says it has.
    pub coinbaser_id: u8,
    pub tx_count: u32,
    pub branches: Vec<[u8; 32]>,
}

impl Job {
    pub fn new(slot: u8, parent: u8) -> Self {
        Self {
            slot,
            parent: [parent; 32],
            height: HEIGHT,
            value: SUBSIDY,
            coinbaser_id: 0,
            tx_count: 0,
            branches: Vec::new(),
        }
    }
}

/// What an honest coinbase is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub height: u32,
    pub tag: Vec<u8>,
    pub prime_id: u32,
    /// Payments in their order, satoshi and output script.
    pub payments: Vec<(u64, Vec<u8>)>,
    /// To the witnesses of the block's transactions.
    pub commitment: Option<[u8; 32]>,
}

impl Recipe {
    /// All to the pool's script.
    pub fn new(job: &Job, terms: &Terms) -> Self {
        Self {
            height: job.height,
            tag: terms.tag.to_vec(),
            prime_id: terms.prime_id,
            payments: vec![(job.value, terms.script.to_vec())],
            commitment: Some(commitment_over(&[])),
        }
    }

    /// The pushes of height, tag and `prime_id`.
    pub fn pushes(&self) -> Vec<u8> {
        self.draft(&self.tag_push(), &[]).pushes()
    }

    /// The 7-byte push, its length first.
    pub fn prime_push(&self) -> [u8; 8] {
        self.draft(&[], &[]).prime_push()
    }

    /// The extranonce in a push of the scriptSig: class 0.
    pub fn build(&self) -> CoinbaseTransaction {
        self.with_extranonce_in(ExtranoncePlace::Push)
    }

    /// The extranonce in an output of its own, the first: as with a tag too long for the scriptSig.
    pub fn build_with_extranonce_output(&self) -> CoinbaseTransaction {
        self.with_extranonce_in(ExtranoncePlace::Output(0))
    }

    pub fn with_extranonce_in(&self, place: ExtranoncePlace) -> CoinbaseTransaction {
        let (tag, commitment) = (self.tag_push(), self.commitment_script());
        let outputs = self.outputs(commitment.as_deref());
        CoinbaseDraft {
            place,
            ..self.draft(&tag, &outputs)
        }
        .write()
    }

    /// The transaction around any scriptSig, with outputs before the payments. Pot and extranonce lie where they
    /// belong if they are there at all.
    pub fn around(&self, sig: &[u8], before: &[CoinbaseOutput<'_>]) -> CoinbaseTransaction {
        let commitment = self.commitment_script();
        let outputs = [before, &self.outputs(commitment.as_deref())].concat();
        let bytes = coinbase_transaction(sig, &outputs);
        let target_at = find(&bytes, &self.prime_push()).expect("a 7-byte push") + 1;
        let extranonce_at = find(&bytes, &extranonce_push()).map_or(target_at + 7, |at| at + 3);
        CoinbaseTransaction {
            bytes,
            target_at,
            extranonce_at,
        }
    }

    fn draft<'a>(&self, tag: &'a [u8], outputs: &'a [CoinbaseOutput<'a>]) -> CoinbaseDraft<'a> {
        CoinbaseDraft {
            height: self.height,
            tag,
            unique_id: UNIQUE_ID,
            prime_id: self.prime_id,
            prefix: PREFIX,
            place: ExtranoncePlace::Push,
            outputs,
        }
    }

    fn tag_push(&self) -> Vec<u8> {
        [&self.tag[..], &[0]].concat()
    }

    fn commitment_script(&self) -> Option<Vec<u8>> {
        self.commitment
            .map(|commitment| commitment_script(&commitment).to_vec())
    }

    fn outputs<'a>(&'a self, commitment: Option<&'a [u8]>) -> Vec<CoinbaseOutput<'a>> {
        let payments = self.payments.iter().map(|(value, script)| (*value, &script[..]));
        payments.chain(commitment.map(|script| (0, script))).collect()
    }
}

/// A job with one of its coinbases: what shares are made of.
#[derive(Debug, Clone)]
pub struct Template {
    pub job: Job,
    pub coinbase: CutCoinbase,
    pub coinbase_id: u8,
    pub pot: u8,
    /// That of its shares, s since 1970: a share of a number is the same whenever it is made.
    pub ntime: u32,
}

impl Template {
    /// An honest one: class 0, at the least difficulty that the terms allow.
    pub fn new(job: Job, terms: &Terms) -> Self {
        let coinbase = Recipe::new(&job, terms).build().cut();
        Self {
            job,
            coinbase,
            coinbase_id: 0,
            pot: terms.min_diff.pot(),
            ntime: unix_s(),
        }
    }

    /// The same with another coinbase.
    pub fn with(&self, transaction: &CoinbaseTransaction) -> Self {
        Self {
            coinbase: transaction.cut(),
            ..self.clone()
        }
    }

    /// The same in another slot.
    pub fn in_slot(&self, slot: u8) -> Self {
        let mut other = self.clone();
        other.job.slot = slot;
        other
    }

    /// Share number `n`, not worked on yet.
    pub fn draft(&self, n: u32) -> Found<'_> {
        let mut extranonce = [0; EXTRANONCE_LEN];
        extranonce[..4].copy_from_slice(&n.to_le_bytes());
        Found {
            template: self,
            slot: self.job.slot,
            coinbase_id: self.coinbase_id,
            flags: 0,
            pot: self.pot,
            ntime: self.ntime,
            nonce: n.wrapping_mul(NONCES_PER_SHARE),
            version: VERSION,
            extranonce: extranonce.to_vec(),
            username: USERNAME.to_vec(),
        }
    }

    /// Share number `n`, whose hash meets its target.
    pub fn share(&self, n: u32) -> Found<'_> {
        self.draft(n).mine()
    }

    pub fn job_section(&self) -> JobSection<'_> {
        JobSection {
            prev_block_hash: &self.job.parent,
            target_index: self.coinbase.target_index,
            nbits: NBITS,
            coinbaser_id: self.job.coinbaser_id,
            height: self.job.height,
            coinbase_value: self.job.value,
            tx_count: self.job.tx_count,
            weight: 1_000,
            size: 250,
            sigops: 4,
            branches: &self.job.branches,
        }
    }
}

/// One share, with all that it borrows on the wire.
#[derive(Debug, Clone)]
pub struct Found<'t> {
    pub template: &'t Template,
    pub slot: u8,
    pub coinbase_id: u8,
    pub flags: u8,
    pub pot: u8,
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
    pub extranonce: Vec<u8>,
    pub username: Vec<u8>,
}

impl Found<'_> {
    /// On to the next nonce that meets the target.
    pub fn mine(mut self) -> Self {
        while !self.meets() {
            self.nonce += 1;
        }
        self
    }

    /// On to the next nonce that meets the target and not that of `pot`: work, and no block.
    pub fn mine_below(mut self, pot: u8) -> Self {
        while !self.meets() || meets(&self.hash(), pot) {
            self.nonce += 1;
        }
        self
    }

    /// On to the next nonce that does not.
    pub fn mine_nothing(mut self) -> Self {
        while self.meets() {
            self.nonce += 1;
        }
        self
    }

    fn meets(&self) -> bool {
        meets(&self.hash(), self.pot)
    }

    /// The share alone.
    pub fn bare(&self) -> Share<'_> {
        Share {
            job_id: self.slot,
            coinbase_id: self.coinbase_id,
            flags: Flags(self.flags),
            target_pot: self.pot,
            ntime: self.ntime,
            nonce: self.nonce,
            version: self.version,
            extranonce: &self.extranonce,
            username: &self.username,
            reserved: [0; 4],
            job: None,
            coinbase: None,
            padding: &[0],
        }
    }

    /// The share with the sections of its job and its coinbase.
    pub fn with_sections(&self) -> Share<'_> {
        Share {
            job: Some(self.template.job_section()),
            coinbase: Some(self.template.coinbase.section(self.template.coinbase_id)),
            ..self.bare()
        }
    }

    /// The header's hash as hashed, rebuilt as protocol section 5 says.
    pub fn hash(&self) -> [u8; 32] {
        sha256d(&self.rebuilt().0)
    }

    /// The block of work without transactions, raw, as a node has it.
    pub fn block(&self) -> Vec<u8> {
        let (mut block, coinbase) = self.rebuilt();
        let (version, rest) = coinbase.split_at(4);
        let (rest, lock_time) = rest.split_at(rest.len() - 4);
        block.push(1);
        // With the witness of BIP 141: one item of zeros.
        for part in [version, &[0, 1], rest, &[1, 32], &[0; 32], lock_time] {
            block.extend_from_slice(part);
        }
        block
    }

    /// Header and coinbase.
    fn rebuilt(&self) -> (Vec<u8>, Vec<u8>) {
        let Template { job, coinbase, .. } = self.template;
        let flags = Flags(self.flags);
        let tx = coinbase.rebuild(self.pot, flags.quickdiff(), &self.extranonce);
        let mut root = sha256d(&tx);
        if !flags.subsidy_only() {
            for branch in &job.branches {
                root = sha256d(&[root, *branch].concat());
            }
        }
        let mut header = self.version.to_le_bytes().to_vec();
        header.extend_from_slice(&job.parent);
        header.extend_from_slice(&root);
        header.extend_from_slice(&self.ntime.to_le_bytes());
        header.extend_from_slice(&NBITS.to_le_bytes());
        header.extend_from_slice(&self.nonce.to_le_bytes());
        (header, tx)
    }

    /// What the pool knows the share by: the first 8 bytes of its hash, little-endian.
    pub fn hash64(&self) -> u64 {
        let hash = self.hash();
        u64::from_le_bytes(std::array::from_fn(|at| hash[at]))
    }
}

/// Whether a hash meets the dev chain's target of a pot: `0xFFFF00…` over `2^pot`, by its top 64 bits.
fn meets(hash: &[u8; 32], pot: u8) -> bool {
    let top = u64::from_le_bytes(std::array::from_fn(|at| hash[24 + at]));
    top < 0xffff_0000_0000_0000 >> pot
}

/// A push of prefix and extranonce, its length first.
pub fn extranonce_push() -> Vec<u8> {
    extranonce_output_script()[1..].to_vec()
}

/// The output script that carries prefix and extranonce.
pub fn extranonce_output_script() -> [u8; 16] {
    extranonce_script(PREFIX)
}

/// The script of a commitment to the witnesses of a block without other transactions.
pub fn witness_commitment() -> [u8; 38] {
    commitment_script(&commitment_over(&[]))
}

/// What a coinbase commits to over these wtxids: it counts as zeros itself, and so does the reserved value.
pub fn commitment_over(wtxids: &[[u8; 32]]) -> [u8; 32] {
    let mut row = [&[[0; 32]], wtxids].concat();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| sha256d(&[pair[0], pair[pair.len() - 1]].concat()))
            .collect();
    }
    sha256d(&[row[0], [0; 32]].concat())
}

/// Where `part` first stands in `whole`.
pub fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

pub fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

fn unix_s() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u32::try_from(since.as_secs()).expect("before 2106")
}
