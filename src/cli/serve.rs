//! `millrace serve`: what is started in which order, and what is waited for at the end.

use std::error::Error;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use millrace::config::{ChainConfig, Config, LogFormat, NodeChain, Overrides};
use millrace::control::{ChainSource, Control, ControlPlane, ControlRuntime};
use millrace::identity::Identity;
use millrace::ledger::books::Terms;
use millrace::ledger::{
    CandidateRow, Found, Housekeeping, Ledger, LedgerOptions, OPEN_FILES_MAX, PrimeIds, Published, Writer,
    WriterOptions,
};
use millrace::node::{self, BlockStore, Follower, NewTip, Node, NodeError};
use millrace::shard::{self, Restored, Settings, ShardParts, Shards};
use millrace::telemetry::Telemetry;
use millrace::work::Chain;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use tracing_subscriber::EnvFilter;

use super::Answered;

/// From the order to stop to the end of the process. Shards take 8 s at most; what is left over is stuck on the disk.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Descriptors beside those of sessions: the ledger's table files, and 512 for all else. Where the system allows few they
/// are half of them, of which the ledger takes half.
const OTHER_DESCRIPTORS: u64 = OPEN_FILES_MAX as u64 + 512;

#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration; tuning/millrace.example.toml has every key
    #[arg(long, value_name = "FILE", required_unless_present = "dev")]
    config: Option<PathBuf>,
    /// A pool for trying things out: no file, no node, a chain of its own, keys made where there are none
    #[arg(long, conflicts_with = "config")]
    dev: bool,
    /// Keys, ledger and control socket
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where gateways connect; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Threads that own gateways, each at best with a core of its own
    #[arg(long, value_name = "N")]
    shards: Option<u64>,
    /// Where metrics are served as Prometheus text, or `off`
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// Of the dev chain: one hash in so many is a candidate block
    #[arg(long, value_name = "D")]
    network_difficulty: Option<u64>,
    /// Log lines on stderr: `human` or `json`; RUST_LOG says which
    #[arg(long, value_name = "FORMAT")]
    log: Option<String>,
}

pub fn run(args: &Serve) -> Answered {
    let mut config = args.read_config()?;
    start_log(config.log);
    fit_to_descriptors(&mut config)?;

    let identity = if args.dev {
        Identity::load_or_create(&config.data_dir)?
    } else {
        Identity::load(&config.data_dir)?
    };
    announce(format_args!("pool_pubkey {}", identity.public()));
    leave_cores_to_shards(&config.cores);
    let mut runtime = ControlRuntime::start()?;
    let telemetry = telemetry(&config);
    let chain = match &config.chain {
        ChainConfig::Dev { .. } => None,
        ChainConfig::Node(chain) => match runtime.wait_for(meet_nodes(chain, &telemetry)) {
            Some(met) => Some(met?),
            None => return Ok(ExitCode::SUCCESS),
        },
    };
    let difficulty = match (&config.chain, &chain) {
        (ChainConfig::Dev { network_difficulty }, _) => *network_difficulty,
        (_, Some(met)) => met.tip.difficulty,
        (ChainConfig::Node(_), None) => unreachable!("a chain of nodes has met them"),
    };
    let mut ledger = Ledger::open(&config.data_dir, &ledger_options(&config, difficulty))?;
    let restored = ledger.take_restored();
    let took = ledger.took();
    tracing::info!(
        shares = ledger.sequence(),
        gateways = restored.len(),
        database = ?took.database,
        names = ?took.names,
        books = ?took.books,
        gateways_read = ?took.gateways,
        "the ledger is open"
    );

    // Whatever address or path is taken shows here, before the first gateway connects.
    let metrics = config.metrics.map(bind_metrics).transpose()?;
    let metrics_address = metrics.as_ref().map(TcpListener::local_addr).transpose()?;
    let control = ControlPlane::open(runtime, &config.socket_path(), metrics)?;
    let (address, listeners) =
        shard::bind(config.listen, config.shards).map_err(|error| format!("listen on {}: {error}", config.listen))?;

    let (source, chain, found) = match chain {
        None => (None, Arc::new(Chain::dev(difficulty)), None),
        Some(met) => {
            let (tell, found) = tokio::sync::mpsc::unbounded_channel();
            let chain = met.tip.chain.clone();
            let source = ChainSource {
                nodes: met.nodes,
                follower: met.follower,
                tip: met.tip,
                store: BlockStore::open(&config.data_dir)?,
                found,
                open: ledger.open_blocks()?,
            };
            let tell = move |row: &CandidateRow| {
                // Where nobody listens the pool is stopping, and the next start reads it from the ledger.
                let _ = tell.send(row.clone());
            };
            (Some(source), chain, Some(Box::new(tell) as Found))
        }
    };
    let prime_ids = ledger.prime_ids();
    let writer_options = WriterOptions {
        shards: config.shards,
        ring_entries: config.ring_entries,
        core: config.writer_core,
        telemetry: telemetry.ledger.clone(),
        own_script: config.script.clone(),
        found,
        housekeeping: Housekeeping::keep_days(config.keep_days),
    };
    let (writer, ledgers) = Writer::start(ledger, writer_options)?;
    let settings = Arc::new(shard_settings(&config, chain, identity, prime_ids, writer.published())?);
    let parts = listeners
        .into_iter()
        .zip(ledgers)
        .zip(&telemetry.shards)
        .map(|((listener, ledger), telemetry)| ShardParts {
            listener,
            ledger,
            telemetry: telemetry.clone(),
        })
        .collect();
    let restored = restored.into_iter().map(|gateway| Restored {
        key: gateway.key,
        memory: gateway.memory,
        former: gateway.former,
    });
    let shards = Shards::start(&settings, parts, restored.collect())?;
    announce(format_args!("listening {address}"));
    if let Some(address) = metrics_address {
        announce(format_args!("metrics {address}"));
    }

    let stop = control.run(Control {
        telemetry,
        inboxes: shards.inboxes().to_vec(),
        health: writer.health(),
        desk: writer.desk(),
        chain: source,
        memory_limit_bytes: config.memory_limit_bytes,
    });
    end_in_time();
    shards.join()?;
    writer.stop();
    tracing::info!("stopped");
    Ok(if stop.is_failure() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Serve {
    fn read_config(&self) -> Result<Config, Box<dyn Error>> {
        let overrides = Overrides {
            data_dir: self.data_dir.clone(),
            listen: self.listen.clone(),
            shards: self.shards,
            metrics: self.metrics.clone(),
            network_difficulty: self.network_difficulty,
            log: self.log.clone(),
        };
        Ok(match &self.config {
            Some(path) => Config::load(path, &overrides)?,
            None => Config::dev(&overrides)?,
        })
    }
}

/// Threads inherit where they may run, and those that RocksDB starts run as long and as gladly as a shard does: one that
/// shares a shard's core takes it for milliseconds. So this thread moves off those cores before it starts any other.
fn leave_cores_to_shards(cores: &[usize]) {
    let left = sched_getaffinity(None).map(|mut set| {
        cores.iter().for_each(|core| set.unset(*core));
        set
    });
    match left {
        Ok(left) if left.count() > 0 => {
            if let Err(error) = sched_setaffinity(None, &left) {
                tracing::warn!(%error, "other threads may run on the shards' cores");
            }
        }
        Ok(_) => tracing::warn!("the shards have every core; other threads run on theirs"),
        Err(error) => tracing::warn!(%error, "other threads may run on the shards' cores"),
    }
}

/// For whoever started the pool. That nobody reads is no reason not to serve.
fn announce(line: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for people; a file or a journal keeps them as noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

fn telemetry(config: &Config) -> Telemetry {
    let nodes = match &config.chain {
        ChainConfig::Dev { .. } => Vec::new(),
        ChainConfig::Node(chain) => chain.nodes.iter().map(|node| (node.rpc, Arc::default())).collect(),
    };
    Telemetry {
        nodes,
        ..Telemetry::new(config.shards)
    }
}

/// Nodes that can be used, and the tip that they have.
struct Met {
    nodes: Vec<Arc<Node>>,
    follower: Follower,
    tip: NewTip,
}

async fn meet_nodes(chain: &NodeChain, telemetry: &Telemetry) -> Result<Met, NodeError> {
    let of_nodes: Vec<_> = telemetry.nodes.iter().map(|(_, node)| node.clone()).collect();
    let nodes = node::connect(chain, &of_nodes).await?;
    let mut follower = Follower::new(chain, nodes.clone());
    let tip = follower.next().await;
    tracing::info!(height = tip.height, difficulty = tip.difficulty, "the chain is known");
    Ok(Met { nodes, follower, tip })
}

fn ledger_options(config: &Config, difficulty: u64) -> LedgerOptions {
    LedgerOptions {
        chain: config.chain.name(),
        first_prime_id: config.first_prime_id.get(),
        disk_floor_bytes: config.disk_floor_bytes,
        resume_for_s: config.resume_for_s,
        now_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        terms: Terms {
            scheme: config.scheme,
            split: config.split,
            difficulty,
        },
        own_script: config.script.clone(),
    }
}

fn bind_metrics(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("metrics on {address}: {error}"))
}

fn shard_settings(
    config: &Config,
    chain: Arc<Chain>,
    identity: Identity,
    prime_ids: PrimeIds,
    published: Published,
) -> Result<Settings, getrandom::Error> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    Ok(Settings {
        identity: Arc::new(identity.into_keys()),
        chain,
        script: config.script.clone(),
        tag: config.tag.clone(),
        min_diff: config.min_diff,
        motd: config.motd.clone(),
        shards: config.shards,
        cores: config.cores.clone(),
        resume_for_s: config.resume_for_s,
        limits: config.limits,
        guards: config.guards.clone(),
        prime_ids,
        published,
        split_use: config.split_use,
        secret,
        large_answers: shard::LargeAnswers::default(),
    })
}

/// Every session is a descriptor, and a ledger without one cannot be written. Where the system allows fewer than the
/// configuration asks for, sessions are what is cut, and who runs the pool hears of it now.
fn fit_to_descriptors(config: &mut Config) -> Result<(), String> {
    let Some(allowed) = super::raise_descriptor_limit() else {
        return Ok(());
    };
    let limits = &mut config.limits;
    let wanted = ((limits.sessions_per_shard + limits.handshakes_per_shard) * config.shards) as u64 + OTHER_DESCRIPTORS;
    if wanted <= allowed {
        return Ok(());
    }
    let others = OTHER_DESCRIPTORS.min(allowed / 2);
    let per_shard = usize::try_from(allowed - others).unwrap_or(usize::MAX) / config.shards;
    limits.handshakes_per_shard = limits.handshakes_per_shard.min(per_shard / 5);
    limits.sessions_per_shard = limits.sessions_per_shard.min(per_shard - limits.handshakes_per_shard);
    if limits.handshakes_per_shard == 0 {
        return Err(format!(
            "{allowed} file descriptors are too few for sessions: raise the limit (nofile) to {wanted}"
        ));
    }
    tracing::warn!(
        allowed,
        wanted,
        sessions_per_shard = limits.sessions_per_shard,
        handshakes_per_shard = limits.handshakes_per_shard,
        "fewer file descriptors than the configuration asks for: raise the limit (nofile), or these bounds hold"
    );
    Ok(())
}

/// A disk that hangs must not keep the process: what was acknowledged is on it already.
fn end_in_time() {
    std::thread::spawn(|| {
        std::thread::sleep(STOP_WITHIN);
        tracing::error!("not stopped after {STOP_WITHIN:?}; ending as it is");
        std::process::exit(1);
    });
}
