//! A pool in memory for tests: the wire's pool side and the real judge, without sockets, ledger or threads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use millrace::wire::{
    BeforeHello, ChannelKey, Coinbaser, CoinbaserOf, CoinbaserRequest, Config, FromGateway, HEADER_LEN, Hello, Inbound,
    Lead, MINING_MAX, Opened, Outbound, Output, PublicKeys, Reason, Response, SecretKeys, ShareResponse,
};
use millrace::work::{
    Booking, Chain, Context, Dictated, GatewayMemory, Jobs, MinDiff, MinerRef, Miners, NewMiner, Pin, Split, Terms,
    judge,
};

/// What a pool says in CONFIG, and how many it pays.
#[derive(Debug, Clone)]
pub struct Dictate {
    pub script: Vec<u8>,
    pub tag: Vec<u8>,
    pub pot: u8,
    pub payees: u32,
}

pub struct MockPool {
    pub keys: SecretKeys,
    pub dictate: Dictate,
    chain: Chain,
    miners: Miners,
    gateways: HashMap<PublicKeys, Known>,
    next_prime_id: u32,
    /// Answers by reason; none for accepted.
    pub verdicts: HashMap<Option<Reason>, u64>,
    pub early_opened: u64,
    pub early_skipped: u64,
    pub classes: HashMap<(u8, u8), u64>,
    /// Of the accepted, those that pay a split.
    pub paying: u64,
    /// Scripts of those who mine.
    pub payees: BTreeSet<Vec<u8>>,
    pub now_s: u64,
}

#[derive(Default)]
struct Known {
    memory: GatewayMemory,
    former: Vec<ChannelKey>,
}

pub struct MockSession {
    stage: Stage,
    buf: Vec<u8>,
}

enum Stage {
    BeforeHello(BeforeHello),
    Open(Box<OpenSession>),
    Moving,
}

struct OpenSession {
    who: PublicKeys,
    keys: SecretKeys,
    key: ChannelKey,
    inbound: Inbound,
    outbound: Outbound,
    jobs: Jobs,
    last_split: u8,
}

/// Pays so many, the first the most; each third split leaves nothing over.
#[derive(Debug)]
struct MockSplit {
    payees: u32,
    leaves_nothing: bool,
}

impl Split for MockSplit {
    fn pin(&self) -> Pin {
        Pin::default()
    }

    fn each_payout(&self, value: u64, _: bool, pay: &mut dyn FnMut(u32, Output<'_>)) {
        let total: u64 = (1..=u64::from(self.payees)).sum();
        let part = value / 100 * 99 / total;
        for payee in 0..self.payees {
            let value = match payee {
                0 if self.leaves_nothing => value - (total - u64::from(self.payees)) * part,
                _ => part * u64::from(self.payees - payee),
            };
            let script = &script_of(payee);
            pay(payee, Output { value, script });
        }
    }
}

/// Of the four lengths that miners' scripts have.
fn script_of(payee: u32) -> Box<[u8]> {
    let (start, len): (&[u8], usize) = match payee % 4 {
        0 => (&[0x00, 0x14], 22),
        1 => (&[0x76, 0xa9, 0x14], 25),
        2 => (&[0xa9, 0x14], 23),
        _ => (&[0x00, 0x20], 34),
    };
    let mut script = start.to_vec();
    script.extend_from_slice(&payee.to_le_bytes());
    script.resize(len, 0xcd);
    script.into()
}

impl MockPool {
    pub fn new(dictate: Dictate) -> Self {
        Self {
            keys: SecretKeys::generate().expect("randomness"),
            dictate,
            // Every good share is a block too, so that its booking says whether it pays a split.
            chain: Chain::dev(1),
            miners: Miners::new([9; 16], None),
            gateways: HashMap::new(),
            next_prime_id: 1,
            verdicts: HashMap::new(),
            early_opened: 0,
            early_skipped: 0,
            classes: HashMap::new(),
            paying: 0,
            payees: BTreeSet::new(),
            now_s: 0,
        }
    }

    pub fn accepted(&self) -> u64 {
        self.verdicts.get(&None).copied().unwrap_or(0)
    }

    /// Forgets the former keys, as a pool started anew may have.
    pub fn forget_former_keys(&mut self) {
        self.gateways.values_mut().for_each(|known| known.former.clear());
    }

    fn greet(&mut self, payload: &[u8], skipped: millrace::wire::Skipped, out: &mut Vec<u8>) -> OpenSession {
        let plain = Hello::unseal(payload, &self.keys).expect("sealed to the pool");
        let hello = Hello::decode(&plain).expect("a good HELLO");
        hello.verify(&plain).expect("signed");
        let session = SecretKeys::generate().expect("randomness");
        let key = ChannelKey::agree(&session, &hello.session.x25519).expect("a good key");
        let response = Response::encode(&hello, &session.public(), b"hello from a mock", &self.keys);
        let mut outbound = Outbound::pool(&hello);
        outbound.response(&Response::seal(&response, &hello.session.x25519), out);
        let mut open = OpenSession {
            who: hello.long_term,
            inbound: Inbound::new(&hello, skipped),
            keys: session,
            key,
            outbound,
            jobs: Jobs::new(),
            last_split: 0,
        };
        self.configure(&mut open, out);
        open
    }

    /// Dictates terms under a new `prime_id`.
    fn configure(&mut self, session: &mut OpenSession, out: &mut Vec<u8>) {
        let prime_id = self.next_prime_id;
        self.next_prime_id += 1;
        let config = Config {
            script: &self.dictate.script,
            prime_id,
            tag: &self.dictate.tag,
            min_diff: 1 << self.dictate.pot,
        };
        session
            .outbound
            .mining_signed(&session.key, &session.keys, &config, out);
        let min_diff = MinDiff::from_pot(self.dictate.pot).expect("a pot");
        let terms = Terms::new(prime_id, &self.dictate.script, &self.dictate.tag, min_diff);
        let known = self.gateways.entry(session.who).or_default();
        known.memory.learn_terms(terms, self.now_s);
    }

    fn serve(&mut self, session: &mut OpenSession, frame: &mut [u8], out: &mut Vec<u8>) {
        let known = self.gateways.get_mut(&session.who).expect("it said HELLO");
        let plain = match session
            .inbound
            .open(frame, &session.key, &known.former)
            .expect("a frame under a known key")
        {
            Opened::Skipped => {
                self.early_skipped += 1;
                return;
            }
            Opened::Plain { plain, early, first } => {
                self.early_opened += u64::from(early);
                if first {
                    known.former = vec![session.key.clone()];
                }
                plain
            }
        };
        match FromGateway::decode(plain).expect("a good message") {
            FromGateway::CoinbaserRequest(request) => {
                session.last_split = session.last_split % u8::MAX + 1;
                if self.dictate.payees == 0 {
                    let split = Coinbaser::without_outputs(request.value, session.last_split);
                    session.outbound.mining(&session.key, &split, out);
                } else {
                    let dictated = dictated(&request, session.last_split, self.dictate.payees, self.now_s);
                    session.say_split(&dictated, out);
                    known.memory.learn_split(dictated);
                }
            }
            FromGateway::Share(share) => {
                let context = Context {
                    chain: &self.chain,
                    now_s: self.now_s,
                    steady_s: self.now_s,
                    miners: &self.miners,
                    may_wait: true,
                    allows_without_payouts: true,
                    own_template: None,
                };
                let judged = judge(&share, &mut session.jobs, &mut known.memory, &context);
                let reason = judged.verdict.err().map(|refusal| refusal.reason);
                *self.verdicts.entry(reason).or_default() += 1;
                let answer = match judged.verdict {
                    Ok(accepted) => {
                        *self.classes.entry((share.coinbase_id, share.flags.0)).or_default() += 1;
                        let booking = judged.candidate.map(|candidate| candidate.booking);
                        self.paying += u64::from(matches!(booking, Some(Booking::Pays { .. })));
                        if accepted.miner == MinerRef::New {
                            self.miners.learn(share.username).expect("a good username");
                            let miner = NewMiner::parse(share.username).expect("a good username");
                            self.payees.insert(miner.script.to_vec());
                        }
                        ShareResponse::accepted(share.nonce, share.target_pot, share.job_id)
                    }
                    Err(refusal) => {
                        ShareResponse::rejected(refusal.reason, share.nonce, share.target_pot, share.job_id)
                    }
                };
                session.outbound.mining(&session.key, &answer, out);
            }
            FromGateway::Validation(_) => {}
        }
    }
}

fn dictated(request: &CoinbaserRequest<'_>, coinbaser_id: u8, payees: u32, now_s: u64) -> Dictated {
    Dictated {
        coinbaser_id,
        value: request.value,
        parent: *request.prev_block_hash,
        with_balances: true,
        time_s: now_s,
        split: Arc::new(MockSplit {
            payees,
            leaves_nothing: coinbaser_id.is_multiple_of(3),
        }),
    }
}

impl OpenSession {
    fn say_split(&mut self, dictated: &Dictated, out: &mut Vec<u8>) {
        let split = CoinbaserOf {
            value: dictated.value,
            coinbaser_id: dictated.coinbaser_id,
            write_outputs: |out: &mut Vec<u8>| dictated.encode_outputs(out),
        };
        self.outbound.mining(&self.key, &split, out);
    }
}

impl MockSession {
    pub fn new() -> Self {
        Self {
            stage: Stage::BeforeHello(BeforeHello::new()),
            buf: Vec::new(),
        }
    }

    /// Sends CONFIG again, with what the pool dictates now.
    pub fn configure(&mut self, pool: &mut MockPool, out: &mut Vec<u8>) {
        match &mut self.stage {
            Stage::Open(open) => pool.configure(open, out),
            _ => panic!("no session"),
        }
    }

    /// Says that the pool is alive.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        match &mut self.stage {
            Stage::Open(open) => open.outbound.ping(out),
            _ => panic!("no session"),
        }
    }

    /// Takes bytes of the gateway, and appends the pool's.
    pub fn feed(&mut self, bytes: &[u8], pool: &mut MockPool, out: &mut Vec<u8>) {
        self.buf.extend_from_slice(bytes);
        loop {
            match std::mem::replace(&mut self.stage, Stage::Moving) {
                Stage::BeforeHello(mut before) => match before.next(&self.buf).expect("a gateway") {
                    Lead::Need(_) => {
                        self.stage = Stage::BeforeHello(before);
                        return;
                    }
                    Lead::Skip(len) => {
                        assert!(self.buf.len() >= len, "tests feed whole frames");
                        self.buf.drain(..len);
                        self.stage = Stage::BeforeHello(before);
                    }
                    Lead::Hello(len) => {
                        let open = pool.greet(&self.buf[HEADER_LEN..len], before.into_skipped(), out);
                        self.buf.drain(..len);
                        self.stage = Stage::Open(Box::new(open));
                    }
                },
                Stage::Open(mut open) => {
                    let len = open.inbound.frame_len(&self.buf, MINING_MAX).expect("a good header");
                    let whole = len.filter(|len| *len <= self.buf.len());
                    if let Some(len) = whole {
                        pool.serve(&mut open, &mut self.buf[..len], out);
                        self.buf.drain(..len);
                    }
                    self.stage = Stage::Open(open);
                    if whole.is_none() {
                        return;
                    }
                }
                Stage::Moving => unreachable!("put back in every arm"),
            }
        }
    }
}
