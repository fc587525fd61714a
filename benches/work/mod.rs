//! Work for the benches: the shares of one session as they come over the wire, each new and each good.

#![allow(dead_code)] // Each bench uses the part it needs.

use millrace::wire::{
    Agent, ChannelKey, CoinbaseSection, EXTRANONCE_LEN, Flags, FromGateway, Hello, Inbound, JobSection, MINING_MAX,
    Opened, Outbound, Reason, SecretKeys, Share, ShareResponse, Skipped,
};
use millrace::work::{
    Accepted, Chain, Context, GatewayMemory, Jobs, MinDiff, MinerId, MinerRef, Miners, Refusal, Terms, judge,
};

/// Shares of one stream.
pub const SHARES: usize = 1_024;

/// Bytes of padding that make a share's frame 120 bytes long, header and MAC included.
pub const USUAL_PADDING: usize = 22;

/// What all jobs have in common.
pub const PARENT: [u8; 32] = [0x99; 32];
pub const NBITS: u32 = 0x1d00_ffff;
pub const BRANCH: [u8; 32] = [0x21; 32];

const NOW_S: u64 = 1_750_000_000;
const PRIME_ID: u32 = 0x0403_0201;
const HEIGHT: u32 = 840_000;
const VALUE: u64 = 317_000_000;
const TAG: &[u8] = b"millrace";
const USERNAME: &[u8] = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
/// P2WPKH, the pool's and, with another hash, those of payees.
const SCRIPT: [u8; 22] = [
    0x00, 0x14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
];
/// Bytes of `coinb1`, which class 2 fills with payouts.
const COINB1_MAX: usize = 512;

/// What the shares are like.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub branches: usize,
    pub coinbase_id: u8,
    /// Payments beside the pool's. As long as splits pay nobody such shares are refused by reason 27.
    pub payouts: usize,
    pub padding: usize,
    pub username: &'static [u8],
}

impl Kind {
    /// A share of class 2 that pays the pool alone, in a frame of 120 bytes.
    pub const fn over(branches: usize) -> Self {
        Self {
            branches,
            coinbase_id: 2,
            payouts: 0,
            padding: USUAL_PADDING,
            username: USERNAME,
        }
    }

    pub const fn of_class(self, coinbase_id: u8, payouts: usize) -> Self {
        Self {
            coinbase_id,
            payouts,
            ..self
        }
    }
}

/// What a share leaves for the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub prime_id: u32,
    pub hash64: u64,
    pub parent: [u8; 32],
    pub pot: u8,
    pub miner: u32,
    pub time_ms: u64,
}

/// Frames of one session under its key: first a share with both sections, then [`SHARES`] without.
pub struct Stream {
    hello: Hello,
    pub key: ChannelKey,
    pub first: Vec<u8>,
    /// One behind the other.
    pub frames: Vec<u8>,
    pub lens: Vec<usize>,
    /// What the shares must be answered.
    expected: Result<(), Reason>,
    pub coinbase: Coinbase,
}

/// A coinbase around its extranonce.
#[derive(Debug, Clone)]
pub struct Coinbase {
    pub target_index: u16,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
}

/// The pool's side, with all that outlives one share.
pub struct Session {
    pub inbound: Inbound,
    pub outbound: Outbound,
    jobs: Jobs,
    memory: GatewayMemory,
    miners: Miners,
    chain: Chain,
}

impl Stream {
    pub fn new(kind: Kind) -> Self {
        let gateway = SecretKeys::from_seeds(&[2; 64]);
        let hello = Hello {
            long_term: SecretKeys::from_seeds(&[1; 64]).public(),
            session: gateway.public(),
            agent: Agent::new("v0.4.1-beta/bench"),
            nk: 0x1234_5678,
            padding: vec![0; 9],
        };
        let key = ChannelKey::agree(&gateway, &SecretKeys::from_seeds(&[3; 64]).public().x25519).expect("a sound key");
        let branches = vec![BRANCH; kind.branches];
        let coinbase = Coinbase::new(&kind);
        let padding = vec![0; kind.padding];
        let bare = Share {
            job_id: 3,
            coinbase_id: kind.coinbase_id,
            flags: Flags::default(),
            target_pot: 0,
            ntime: u32::try_from(NOW_S).expect("before 2106"),
            nonce: 0,
            version: 0x2000_0000,
            extranonce: &[7; EXTRANONCE_LEN],
            username: kind.username,
            reserved: [0; 4],
            job: None,
            coinbase: None,
            padding: &padding,
        };
        let with_sections = Share {
            job: Some(job(&branches, coinbase.target_index)),
            coinbase: Some(coinbase.section(kind.coinbase_id)),
            ..bare
        };

        // One hash in 65,536 fails even at pot 0: only shares that come out as expected are taken.
        let expected = match kind {
            _ if kind.payouts > 0 => Err(Reason::BadCoinbaseOutputs),
            _ if kind.username != USERNAME => Err(Reason::BadUsername),
            _ => Ok(()),
        };
        let mut trial = Session::fresh(&hello);
        let mut nonce = 0;
        let mut good = |mut share: Share<'_>, out: &mut Vec<u8>, outbound: &mut Outbound| {
            loop {
                (share.nonce, nonce) = (nonce, nonce + 1);
                if trial.judge(&share).map(|_| ()).map_err(|refusal| refusal.reason) == expected {
                    return outbound.mining(&key, &FromGateway::Share(share), out);
                }
            }
        };
        let mut outbound = Outbound::gateway(hello.nk, &hello.session.ed25519);
        let (mut first, mut frames, mut lens) = (Vec::new(), Vec::new(), Vec::with_capacity(SHARES));
        good(with_sections, &mut first, &mut outbound);
        for _ in 0..SHARES {
            let before = frames.len();
            good(bare, &mut frames, &mut outbound);
            lens.push(frames.len() - before);
        }
        Self {
            hello,
            key,
            first,
            frames,
            lens,
            expected,
            coinbase,
        }
    }

    /// A session that has heard nothing.
    pub fn fresh(&self) -> Session {
        Session::fresh(&self.hello)
    }

    /// A session that has heard the first share.
    pub fn session(&self) -> Session {
        let mut session = self.fresh();
        let mut first = self.first.clone();
        let said = session
            .take(&mut first, &self.key)
            .map(|_| ())
            .map_err(|refusal| refusal.reason);
        assert_eq!(said, self.expected);
        session
    }

    /// Nanoseconds that `each` takes for the first `count` frames of a fresh session, every one ending as expected.
    pub fn time(&self, count: usize, mut each: impl FnMut(&mut Session, &mut [u8]) -> bool) -> u64 {
        let mut session = self.session();
        let mut wire = self.frames.clone();
        let mut good = 0;
        let start = std::time::Instant::now();
        let mut rest = &mut wire[..];
        for len in &self.lens[..count] {
            let (frame, behind) = rest.split_at_mut(*len);
            good += usize::from(each(&mut session, frame));
            rest = behind;
        }
        let took = start.elapsed();
        assert_eq!(good, if self.expected.is_ok() { count } else { 0 });
        u64::try_from(took.as_nanos()).expect("less than centuries")
    }
}

impl Session {
    fn fresh(hello: &Hello) -> Self {
        let mut memory = GatewayMemory::new();
        let least = MinDiff::from_pot(0).expect("a pot");
        memory.learn_terms(Terms::new(PRIME_ID, &SCRIPT, TAG, least), NOW_S);
        let mut miners = Miners::new([5; 16], None);
        miners.learn(USERNAME).expect("a good username");
        Self {
            inbound: Inbound::new(hello, Skipped::default()),
            outbound: Outbound::pool(hello),
            jobs: Jobs::new(),
            memory,
            miners,
            chain: Chain::dev(u64::MAX),
        }
    }

    /// Bytes that are counted for the coinbases kept.
    pub fn coinbase_bytes(&self) -> usize {
        self.jobs.bytes()
    }

    /// From ciphertext to record: the whole way of a share up to the ring.
    pub fn take(&mut self, frame: &mut [u8], key: &ChannelKey) -> Result<Record, Refusal> {
        let len = self
            .inbound
            .frame_len(frame, MINING_MAX)
            .expect("a header")
            .expect("a whole header");
        assert_eq!(len, frame.len());
        let Opened::Plain { plain, .. } = self.inbound.open(frame, key, &[]).expect("the session's key") else {
            panic!("a frame was skipped");
        };
        let FromGateway::Share(share) = FromGateway::decode(plain).expect("a message") else {
            panic!("not a share");
        };
        self.judge(&share)
    }

    /// From verdict to ciphertext.
    pub fn answer(&mut self, nonce: u32, key: &ChannelKey, out: &mut Vec<u8>) {
        self.outbound.mining(key, &ShareResponse::accepted(nonce, 0, 3), out);
    }

    pub fn judge(&mut self, share: &Share<'_>) -> Result<Record, Refusal> {
        let context = Context {
            chain: &self.chain,
            now_s: NOW_S,
            steady_s: NOW_S,
            miners: &self.miners,
            may_wait: true,
            allows_without_payouts: true,
            own_template: None,
        };
        let accepted: Accepted = judge(share, &mut self.jobs, &mut self.memory, &context).verdict?;
        let MinerRef::Known(MinerId(miner)) = accepted.miner else {
            panic!("the username was learned");
        };
        Ok(Record {
            prime_id: accepted.prime_id,
            hash64: accepted.hash64(),
            parent: accepted.parent,
            pot: accepted.pot,
            miner,
            time_ms: NOW_S * 1_000,
        })
    }
}

impl Coinbase {
    /// Payouts of class 2 stand before the extranonce's output as far as `coinb1` has room.
    fn new(kind: &Kind) -> Self {
        let mut sig = vec![3];
        sig.extend_from_slice(&HEIGHT.to_le_bytes()[..3]);
        sig.push(u8::try_from(TAG.len() + 1).expect("a short tag"));
        sig.extend_from_slice(TAG);
        sig.extend_from_slice(&[0, 7]);
        let target_at = sig.len();
        sig.extend_from_slice(&[0xff, 0x34, 0x12]);
        sig.extend_from_slice(&PRIME_ID.to_le_bytes());
        let in_sig = kind.coinbase_id != 2 || kind.payouts == 0;
        let sig_len = sig.len() + if in_sig { 15 } else { 0 };

        let mut coinb1 = vec![1, 0, 0, 0, 1];
        coinb1.extend_from_slice(&[0; 32]);
        coinb1.extend_from_slice(&[0xff; 4]);
        coinb1.push(u8::try_from(sig_len).expect("a short script"));
        let target_index = u16::try_from(coinb1.len() + target_at).expect("a short script");
        coinb1.extend_from_slice(&sig);
        let mut behind = vec![0xff; 4];
        let outputs = kind.payouts + 2 + usize::from(!in_sig);
        match u8::try_from(outputs) {
            Ok(count @ ..0xfd) => behind.push(count),
            _ => {
                behind.push(0xfd);
                behind.extend_from_slice(&u16::try_from(outputs).expect("at most 512").to_le_bytes());
            }
        }
        let mut left = kind.payouts;
        if in_sig {
            coinb1.extend_from_slice(&[14, 0xab, 0xcd]);
        } else {
            coinb1.append(&mut behind);
            while left > 0 && coinb1.len() + 31 + 13 <= COINB1_MAX {
                push_output(&mut coinb1, 1_000, &SCRIPT);
                left -= 1;
            }
            coinb1.extend_from_slice(&[0; 8]);
            coinb1.extend_from_slice(&[16, 0x6a, 14, 0xab, 0xcd]);
        }
        for _ in 0..left {
            push_output(&mut behind, 1_000, &SCRIPT);
        }
        push_output(&mut behind, VALUE - 1_000 * kind.payouts as u64, &SCRIPT);
        push_output(
            &mut behind,
            0,
            &[&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[0x5a; 32]].concat(),
        );
        behind.extend_from_slice(&[0; 4]);
        Self {
            target_index,
            coinb1,
            coinb2: behind,
        }
    }

    /// Bytes of the transaction.
    pub fn bytes(&self) -> usize {
        self.coinb1.len() + EXTRANONCE_LEN + self.coinb2.len()
    }

    pub fn section(&self, coinbase_id: u8) -> CoinbaseSection<'_> {
        CoinbaseSection {
            coinbase_id,
            coinb1: &self.coinb1,
            coinb2: &self.coinb2,
        }
    }
}

fn job(branches: &[[u8; 32]], target_index: u16) -> JobSection<'_> {
    JobSection {
        prev_block_hash: &PARENT,
        target_index,
        nbits: NBITS,
        coinbaser_id: 0,
        height: HEIGHT,
        coinbase_value: VALUE,
        // The most transactions that so many branches serve.
        tx_count: u32::try_from((1_u64 << branches.len()) - 1).expect("at most 24 branches"),
        weight: 3_900_000,
        size: 1_500_000,
        sigops: 4_000,
        branches,
    }
}

fn push_output(tx: &mut Vec<u8>, value: u64, script: &[u8]) {
    tx.extend_from_slice(&value.to_le_bytes());
    tx.push(u8::try_from(script.len()).expect("a short script"));
    tx.extend_from_slice(script);
}
