//! Work for the benches: the shares of one session as they come over the wire, each new and each good.

#![allow(dead_code)] // Each bench uses the part it needs.

use std::sync::Arc;

use millrace::wire::{
    Agent, ChannelKey, CutCoinbase, FromGateway, Hello, Inbound, MINING_MAX, Opened, Outbound, Reason, SecretKeys,
    Share, ShareResponse, Skipped,
};
use millrace::work::{
    self, Accepted, Chain, Context, Dictated, GatewayMemory, Jobs, MinDiff, MinerId, MinerRef, Miners, Refusal, Terms,
    judge,
};
use millrace_loadgen::coinbase::{self, Payout, Payouts, Recipe, Secondary};
use millrace_loadgen::draft::Draft;
use millrace_loadgen::template::Template;

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
/// Nearly an address.
const NOBODY: &[u8] = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5.rig";
/// P2WPKH, the pool's and those of payees.
const SCRIPT: [u8; 22] = [
    0x00, 0x14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
];
/// What a split pays to each, in satoshi.
const PAYOUT: u64 = 1_000;
const COINBASER_ID: u8 = 7;

/// What the shares are like.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub branches: usize,
    pub coinbase_id: u8,
    /// Payments beside the pool's: all those of the split that was dictated.
    pub payouts: usize,
    pub padding: usize,
}

impl Kind {
    /// A share of class 2 that pays the pool alone, in a frame of 120 bytes.
    pub const fn over(branches: usize) -> Self {
        Self {
            branches,
            coinbase_id: 2,
            payouts: 0,
            padding: USUAL_PADDING,
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
    dictated: Option<Dictated>,
    pub key: ChannelKey,
    pub first: Vec<u8>,
    /// One behind the other.
    pub frames: Vec<u8>,
    pub lens: Vec<usize>,
    /// What all but the first are answered.
    expected: Result<(), Reason>,
    pub coinbase: CutCoinbase,
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
    /// Shares that are all accepted.
    pub fn new(kind: Kind) -> Self {
        Self::answered(kind, Ok(()))
    }

    /// The same shares, but that all behind the first are refused, for this reason alone: [`Reason::BadVersion`] or
    /// [`Reason::BadUsername`].
    pub fn refused(kind: Kind, reason: Reason) -> Self {
        Self::answered(kind, Err(reason))
    }

    fn answered(kind: Kind, expected: Result<(), Reason>) -> Self {
        let gateway = SecretKeys::from_seeds(&[2; 64]);
        let hello = Hello {
            long_term: SecretKeys::from_seeds(&[1; 64]).public(),
            session: gateway.public(),
            agent: Agent::new("v0.4.1-beta/bench"),
            nk: 0x1234_5678,
            padding: vec![0; 9],
        };
        let key = ChannelKey::agree(&gateway, &SecretKeys::from_seeds(&[3; 64]).public().x25519).expect("a sound key");
        let dictated = (kind.payouts > 0).then(|| dictated(kind.payouts));
        let (mut draft, coinbase) = draft(&kind);

        let padding = vec![0; kind.padding];
        let mut trial = Session::fresh(&hello, dictated.as_ref());
        let mut outbound = Outbound::gateway(hello.nk, &hello.session.ed25519);
        // One hash in 65,536 fails even at pot 0: only shares that come out as expected are taken.
        let mut push = |draft: &mut Draft, expected: Result<(), Reason>, out: &mut Vec<u8>| {
            loop {
                draft.nonce += 1;
                let share = draft.share(&padding);
                let verdict = trial.judge(&share).map(|_| ()).map_err(|refusal| refusal.reason);
                if verdict == expected {
                    return outbound.mining(&key, &FromGateway::Share(share), out);
                }
                assert_eq!(verdict, Err(Reason::HighHash), "what such a share may come to");
            }
        };
        let (mut first, mut frames, mut lens) = (Vec::new(), Vec::new(), Vec::with_capacity(SHARES));
        push(&mut draft, Ok(()), &mut first);
        (draft.job, draft.coinbase) = (None, None);
        match expected {
            Err(Reason::BadUsername) => draft.username = NOBODY.into(),
            Err(_) => draft.version = 0,
            Ok(()) => {}
        }
        for _ in 0..SHARES {
            let before = frames.len();
            push(&mut draft, expected, &mut frames);
            lens.push(frames.len() - before);
        }
        Self {
            hello,
            dictated,
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
        Session::fresh(&self.hello, self.dictated.as_ref())
    }

    /// A session that has heard the first share.
    pub fn session(&self) -> Session {
        let mut session = self.fresh();
        let said = session.take(&mut self.first.clone(), &self.key);
        assert!(said.is_ok(), "{said:?}");
        session
    }

    /// Nanoseconds that `each` takes for the first `count` frames of a fresh session. It says whether the share was
    /// accepted: where one was not, there is no figure.
    pub fn time(&self, count: usize, mut each: impl FnMut(&mut Session, &mut [u8]) -> bool) -> u64 {
        let mut session = self.session();
        let mut wire = self.frames.clone();
        let mut accepted = 0;
        let start = std::time::Instant::now();
        let mut rest = &mut wire[..];
        for len in &self.lens[..count] {
            let (frame, behind) = rest.split_at_mut(*len);
            accepted += usize::from(each(&mut session, frame));
            rest = behind;
        }
        let took = start.elapsed();
        assert_eq!(accepted, if self.expected.is_ok() { count } else { 0 });
        u64::try_from(took.as_nanos()).expect("less than centuries")
    }

    /// What the frame of the first share says, and what those of the others say.
    pub fn opened(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut inbound = self.fresh().inbound;
        let mut opened = |frame: &[u8]| open(&mut inbound, &mut frame.to_vec(), &self.key).to_vec();
        let first = opened(&self.first);
        let mut rest = &self.frames[..];
        let others = self.lens.iter().map(|len| {
            let (frame, behind) = rest.split_at(*len);
            rest = behind;
            opened(frame)
        });
        (first, others.collect())
    }
}

impl Session {
    fn fresh(hello: &Hello, dictated: Option<&Dictated>) -> Self {
        let mut memory = GatewayMemory::new();
        let least = MinDiff::from_pot(0).expect("a pot");
        memory.learn_terms(Terms::new(PRIME_ID, &SCRIPT, TAG, least), NOW_S);
        if let Some(dictated) = dictated {
            memory.learn_split(dictated.clone());
        }
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
        let share = share_of(open(&mut self.inbound, frame, key));
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

/// What a plaintext says, which is a share.
pub fn share_of(plain: &[u8]) -> Share<'_> {
    match FromGateway::decode(plain).expect("a message") {
        FromGateway::Share(share) => share,
        _ => panic!("not a share"),
    }
}

fn open<'f>(inbound: &mut Inbound, frame: &'f mut [u8], key: &ChannelKey) -> &'f [u8] {
    let len = inbound
        .frame_len(frame, MINING_MAX)
        .expect("a header")
        .expect("a whole header");
    assert_eq!(len, frame.len());
    match inbound.open(frame, key, &[]).expect("the session's key") {
        Opened::Plain { plain, .. } => plain,
        Opened::Skipped => panic!("a frame was skipped"),
    }
}

fn dictated(payouts: usize) -> Dictated {
    let payout = |payee| work::Payout {
        payee,
        value: PAYOUT,
        script: SCRIPT.into(),
    };
    let payouts: Box<[_]> = (0..).take(payouts).map(payout).collect();
    Dictated {
        coinbaser_id: COINBASER_ID,
        value: VALUE,
        parent: PARENT,
        with_balances: true,
        time_s: NOW_S,
        split: Arc::new(payouts),
    }
}

/// A share with both sections as the generator's gateways make it, and its coinbase.
fn draft(kind: &Kind) -> (Draft, CutCoinbase) {
    let template = Template {
        parent: PARENT,
        height: HEIGHT,
        value: VALUE,
        nbits: NBITS,
        min_time: 0,
        // The most transactions that so many branches serve.
        tx_count: u32::try_from((1_u64 << kind.branches) - 1).expect("at most 24 branches"),
        weight: 3_900_000,
        size: 1_500_000,
        sigops: 4_000,
        branches: vec![BRANCH; kind.branches],
        commitment: [0x5a; 32],
        transactions: None,
    };
    let terms = coinbase::Terms {
        prime_id: PRIME_ID,
        script: SCRIPT.into(),
        tag: TAG.into(),
        min_pot: 0,
    };
    let payout = Payout {
        value: PAYOUT,
        script: &SCRIPT,
    };
    let payouts = Payouts::from_iter(std::iter::repeat_n(payout, kind.payouts));
    let recipe = Recipe {
        coinbase_id: kind.coinbase_id,
        template: &template,
        terms: &terms,
        secondary: Secondary::None,
        unique_id: 0x1234,
        payouts: &payouts,
    };
    assert_eq!(recipe.fitting().len(), kind.payouts, "its class has room for all");
    let now_s = u32::try_from(NOW_S).expect("before 2106");
    let mut draft = Draft::unworked(3, &recipe, 0, now_s, 0, USERNAME);
    let job = draft.job.as_mut().expect("made with one");
    job.coinbaser_id = if kind.payouts > 0 { COINBASER_ID } else { 0 };
    (draft, recipe.build().cut)
}
