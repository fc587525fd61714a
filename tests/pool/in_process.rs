//! The library's pool in the process of the test, on a chain that a test knows as a node would.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};

use millrace::config::{Config, Overrides};
use millrace::guard::Pressure;
use millrace::identity::{Identity, KeyRing};
use millrace::ledger::books::Terms;
use millrace::ledger::{
    Done, Housekeeping, Ledger, LedgerOptions, Order, OrderError, Writer, WriterOptions, monotonic_ns,
};
use millrace::shard::{self, Doors, LargeAnswers, NewChain, Settings, ShardCommand, ShardParts, Shards};
use millrace::wire::PublicKeys;
use millrace::work::Chain;
use tempfile::TempDir;

use super::PATIENCE;
use super::gateway::Gateway;
use super::session::Session;

/// One shard, its writer and the books.
pub struct InProcess {
    shards: Option<Shards>,
    writer: Option<Writer>,
    address: SocketAddr,
    key: PublicKeys,
    data: TempDir,
}

impl InProcess {
    /// `difficulty`: of the chain's blocks.
    pub fn start(difficulty: u64, chain: Chain) -> Self {
        let data = TempDir::new().expect("a folder for the test");
        let overrides = Overrides {
            data_dir: Some(data.path().into()),
            listen: Some("127.0.0.1:0".into()),
            shards: Some(1),
            ..Overrides::default()
        };
        let config = Config::dev(&overrides).expect("the dev chain's own configuration");
        let identity = Identity::load_or_create(data.path(), || Err("no passphrase".into()), false).expect("keys");
        let options = LedgerOptions {
            chain: "dev",
            first_prime_id: config.first_prime_id.get(),
            disk_floor_bytes: 0,
            resume_for_s: config.resume_for_s,
            gateways_max: 65_536,
            now_s: 0,
            terms: Terms {
                scheme: config.scheme,
                split: config.split,
                difficulty,
            },
            own_script: config.script.clone(),
        };
        let ledger = Ledger::open(data.path(), &options).expect("a new ledger");
        let prime_ids = ledger.prime_ids();
        let options = WriterOptions {
            shards: 1,
            ring_entries: config.ring_entries,
            core: None,
            telemetry: Arc::default(),
            own_script: config.script.clone(),
            found: None,
            housekeeping: Housekeeping::keep_days(config.keep_days),
        };
        let (writer, ledgers) = Writer::start(ledger, options).expect("a thread for the writer");
        let key = identity.public();
        let settings = Settings {
            templates: None,
            chain: Arc::new(chain),
            keys: Arc::new(KeyRing::new(&identity, 1)),
            script: config.script,
            tag: config.tag,
            min_diff: config.min_diff,
            steering: config.steering,
            motd: config.motd,
            shards: 1,
            cores: Vec::new(),
            resume_for_s: config.resume_for_s,
            limits: config.limits,
            guards: config.guards.clone(),
            bans: Vec::new(),
            prime_ids,
            published: writer.published(),
            split_use: config.split_use,
            policy: std::sync::Arc::default(),
            secret: [7; 16],
            large_answers: LargeAnswers::default(),
            standing: Arc::default(),
            greetings: Default::default(),
        };
        let (address, listeners) = shard::bind(config.listen, 1).expect("a free port");
        let parts = listeners.into_iter().zip(ledgers).map(|(listener, ledger)| ShardParts {
            doors: Doors {
                listeners: vec![listener],
                ..Doors::default()
            },
            ledger,
            telemetry: Arc::default(),
        });
        let shards = Shards::start(&Arc::new(settings), parts.collect(), Vec::new()).expect("a shard");
        Self {
            shards: Some(shards),
            writer: Some(writer),
            address,
            key,
            data,
        }
    }

    pub fn connect(&self, gateway: &Gateway) -> Session {
        gateway.connect_to(self.address, self.key)
    }

    /// The same as [`Gateway::try_connect_to`].
    pub fn try_connect(&self, gateway: &Gateway) -> Option<Session> {
        gateway.try_connect_to(self.address, self.key)
    }

    /// Memory is so near its limit from now on; returns when the shard has heard it.
    pub fn press(&self, pressure: Pressure) {
        let shards = self.shards.as_ref().expect("they run until it is dropped");
        for inbox in shards.inboxes() {
            let (reply, heard) = mpsc::channel();
            inbox.send(ShardCommand::Pressure(pressure)).expect("room");
            inbox.send(ShardCommand::Taken(reply)).expect("room");
            heard.recv_timeout(PATIENCE).expect("the shard takes it");
        }
    }

    /// The chain is another from now on, as the control plane tells shards and books.
    pub fn tell(&self, chain: Chain, new_block: bool) {
        let chain = Arc::new(chain);
        let now_ns = monotonic_ns();
        let shards = self.shards.as_ref().expect("they run until it is dropped");
        for inbox in shards.inboxes() {
            let new = NewChain {
                chain: chain.clone(),
                new_block,
                heard_ns: now_ns,
                left_ns: now_ns,
            };
            inbox.send(ShardCommand::Chain(new)).expect("room");
        }
        let writer = self.writer.as_ref().expect("it runs until it is dropped");
        writer.desk().chain(chain);
    }

    /// Where the ledger is.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Gives the books an order and waits until it is obeyed.
    pub fn order(&self, order: Order) -> Result<Done, OrderError> {
        let (reply, done) = mpsc::channel();
        let writer = self.writer.as_ref().expect("it runs until it is dropped");
        writer.desk().order(order, reply);
        done.recv_timeout(PATIENCE).expect("the books answer")
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Some(shards) = self.shards.take() {
            for inbox in shards.inboxes() {
                let _ = inbox.send(ShardCommand::Drain);
            }
            let _ = shards.join();
        }
        if let Some(writer) = self.writer.take() {
            writer.stop();
        }
    }
}
