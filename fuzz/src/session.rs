//! A gateway's sessions from the first byte to the verdict: frames in, messages out of them, shares judged on the dev
//! chain. What is accepted is rebuilt by [`Model`], which shares no code with the judge.

mod model;

use std::sync::{Arc, LazyLock};

use millrace::wire::{
    BeforeHello, ChannelKey, Encode, FromGateway, FromPool, Header, Inbound, InboundError, Lead, MINING_MAX, Opened,
    Reason, Share, Skipped, command,
};
use millrace::work::{
    COINBASE_BUDGET, Chain, Context, Dictated, GatewayMemory, Jobs, MinDiff, MinerRef, Miners, POT_MAX, Payout,
    Refusal, Terms, judge,
};

use super::gateway::{Sender, hello, mining, word};
use super::script::Script;
use model::Model;

/// At difficulty 2 a share of pot 0 is a candidate half the time.
static CHAIN: LazyLock<Chain> = LazyLock::new(|| Chain::dev(2));

/// What became of a script's shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Played {
    pub accepted: u32,
    pub refused: u32,
    pub candidates: u32,
}

/// Kinds: 0 a frame under the session's key, 1 one under the former session's, 2 one under nobody's; 3 CONFIG; 4 the
/// pool's clock, u32; 5 the gateway connects anew, after as many frames before HELLO as the first byte says.
pub fn session(data: &[u8]) {
    play(data);
}

/// The same, and what became of it.
pub fn play(data: &[u8]) -> Played {
    let mut pool = Pool::new();
    for (kind, bytes) in Script::new(data) {
        match kind % 6 {
            3 => pool.learn(bytes),
            4 => pool.set_clock(bytes),
            5 => pool.connect(bytes.first().copied().unwrap_or_default()),
            kind => pool.hear(kind, bytes),
        }
    }
    pool.played
}

/// What one shard knows of the one gateway, and the gateway's own end.
struct Pool {
    miners: Miners,
    memory: GatewayMemory,
    now_s: u64,
    /// Sessions so far; each has keys of its own.
    session: u8,
    /// None once a session has ended.
    line: Option<Line>,
    /// The session that sent a good frame last.
    proven: Option<u8>,
    model: Model,
    played: Played,
}

/// One connection behind its HELLO.
struct Line {
    gateway: Sender,
    inbound: Inbound,
    former: Vec<u8>,
    jobs: Jobs,
}

fn key(session: u8) -> ChannelKey {
    ChannelKey::from_bytes([session; 32])
}

/// No session's.
const NOBODYS: u8 = 0;

impl Pool {
    fn new() -> Self {
        let mut pool = Self {
            miners: Miners::new([1; 16], None),
            memory: GatewayMemory::new(),
            now_s: 1_700_000_000,
            session: NOBODYS,
            line: None,
            proven: None,
            model: Model::default(),
            played: Played::default(),
        };
        // Whatever id a job names, a split of it was dictated.
        for coinbaser_id in 1..=u8::MAX {
            pool.memory.learn_split(Dictated {
                coinbaser_id,
                value: 0,
                parent: [0; 32],
                with_balances: true,
                time_s: u64::MAX / 2,
                split: Arc::new(Box::<[Payout]>::default()),
            });
        }
        pool.connect(0);
        pool
    }

    fn learn(&mut self, plain: &[u8]) {
        let Ok(FromPool::Config(config)) = FromPool::decode(plain) else {
            return;
        };
        let min_diff = config.min_diff.checked_next_power_of_two().and_then(MinDiff::new);
        // The ledger gives every prime_id once.
        if let Some(min_diff) = min_diff
            && !self.model.knows_terms(config.prime_id)
        {
            let terms = Terms::new(config.prime_id, config.script, config.tag, min_diff);
            self.model.learn_terms(terms.clone());
            self.memory.learn_terms(terms, self.now_s);
        }
    }

    fn set_clock(&mut self, bytes: &[u8]) {
        if let Some(now_s) = bytes.first_chunk() {
            self.now_s = u64::from(u32::from_le_bytes(*now_s));
        }
    }

    fn connect(&mut self, early: u8) {
        let Some(session) = self.session.checked_add(1) else {
            return;
        };
        let newest = (self.session != NOBODYS).then_some(self.session);
        let proven = self.proven.filter(|proven| Some(*proven) != newest);
        self.session = session;
        let nk = u32::from(session);
        self.line = Some(Line {
            gateway: Sender::gateway(nk),
            inbound: Inbound::new(&hello(nk), greet(nk, early)),
            former: newest.into_iter().chain(proven).collect(),
            jobs: Jobs::new(),
        });
        self.model.begin_session();
    }

    fn hear(&mut self, kind: u8, plain: &[u8]) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let under = match kind {
            0 => self.session,
            1 => line.former.last().copied().unwrap_or(NOBODYS),
            _ => NOBODYS,
        };
        let mut wire = line.gateway.sealed(mining(0), &key(under), plain);
        match line.inbound.frame_len(&wire, MINING_MAX) {
            Ok(len) => assert_eq!(len, Some(wire.len())),
            Err(error) => {
                assert!(
                    matches!(error, InboundError::TooLong(_)) && wire.len() > MINING_MAX,
                    "{error}"
                );
                return;
            }
        }
        let was_proven = line.inbound.proven();
        let former: Vec<ChannelKey> = line.former.iter().copied().map(key).collect();
        let opened = match line.inbound.open(&mut wire, &key(self.session), &former) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(
                    error == InboundError::TooManySkipped || was_proven && under != self.session,
                    "{error}"
                );
                return;
            }
        };
        match opened {
            Opened::Skipped => assert_eq!(under, NOBODYS),
            Opened::Plain {
                plain: heard,
                early,
                first,
            } => {
                assert_eq!((heard, early), (plain, under != self.session));
                assert_eq!(first, !early && !was_proven);
                if first {
                    self.proven = Some(self.session);
                }
                let Ok(message) = FromGateway::decode(heard) else {
                    return;
                };
                let mut again = Vec::new();
                message.encode(&mut again);
                assert_eq!(again, heard);
                if let FromGateway::Share(share) = message {
                    self.judge(&share, &mut line.jobs);
                }
            }
        }
        self.line = Some(line);
    }

    fn judge(&mut self, share: &Share<'_>, jobs: &mut Jobs) {
        self.model.keep_sections(share);
        let context = Context {
            chain: &CHAIN,
            now_s: self.now_s,
            steady_s: self.now_s,
            miners: &self.miners,
            may_wait: true,
            allows_without_payouts: true,
            own_template: None,
        };
        let judged = judge(share, jobs, &mut self.memory, &context);
        assert!(jobs.bytes() <= COINBASE_BUDGET);
        if let Some(candidate) = &judged.candidate {
            self.played.candidates += 1;
            self.model.check_candidate(share, candidate);
            assert!(CHAIN.network_target(&[0; 32], 0, 0).is_met_by(&candidate.hash));
            assert_eq!(
                candidate.verdict,
                judged.verdict.map(|_| ()).map_err(|refusal| refusal.reason)
            );
        }
        let accepted = match judged.verdict {
            Ok(accepted) => accepted,
            Err(Refusal { reason, bound }) => {
                assert_eq!(reason == Reason::Other, bound.is_some());
                self.played.refused += 1;
                return;
            }
        };
        self.played.accepted += 1;
        assert!(accepted.pot <= POT_MAX && u64::from(share.ntime).abs_diff(self.now_s) <= 7_200);
        self.model.check_accepted(share, &accepted);
        assert!(self.memory.has_share(&accepted.parent, accepted.hash64()));

        // The same work once more, without the sections that are known now.
        let again = Share {
            job: None,
            coinbase: None,
            ..*share
        };
        let duplicate = judge(&again, jobs, &mut self.memory, &context);
        assert_eq!(duplicate.verdict, Err(Reason::DuplicateWork.into()));
        assert_eq!(duplicate.candidate, None);
        if accepted.miner == MinerRef::New {
            let (miner, new) = self.miners.learn(share.username).expect("far from every bound");
            assert!(new.is_some());
            let (known, nothing) = self.miners.learn(share.username).expect("it is known");
            assert_eq!((known, nothing), (miner, None));
        }
    }
}

/// Passes over early frames up to HELLO.
fn greet(nk: u32, early: u8) -> Skipped {
    let mut sender = Sender::connecting(nk);
    let mut before = BeforeHello::new();
    for len in 0..early {
        let frame = sender.raw(word(mining(usize::from(len))), &vec![0; usize::from(len)]);
        assert_eq!(before.next(&frame), Ok(Lead::Skip(frame.len())));
    }
    let header = Header {
        command: command::HELLO,
        signed: true,
        sealed: true,
        channel: false,
        ..mining(100)
    };
    let frame = sender.raw(word(header), &[0; 100]);
    assert_eq!(before.next(&frame), Ok(Lead::Hello(frame.len())));
    let skipped = before.into_skipped();
    assert_eq!(skipped.frames, u32::from(early));
    skipped
}
