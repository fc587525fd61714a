//! `millrace serve`: what is started in which order, and what is waited for at the end.

mod inherited;
mod notify;
mod succession;
mod successor;

use std::error::Error;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use millrace::config::{ChainConfig, Config, LogFormat, NodeChain, Overrides};
use millrace::control::{
    BanDesk, ChainSource, ChainTold, Control, ControlPlane, ControlRuntime, KeyDesk, MetNodes, PolicyDesk, Stop,
};
use millrace::identity::{Identity, KeyRing};
use millrace::ledger::books::Terms;
use millrace::ledger::{
    self, HealthState, Housekeeping, Ledger, LedgerOptions, OPEN_FILES_MAX, PrimeIds, Published, Writer, WriterOptions,
};
use millrace::node::{self, BlockStore, Follower, NodeError};
use millrace::shard::{self, Doors, Settings, ShardParts, Shards, Standing, TemplateChecks};
use millrace::telemetry::Telemetry;
use millrace::work::{Chain, Policy};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use tracing_subscriber::EnvFilter;

use self::inherited::Inherited;
use self::succession::Succession;
use self::successor::Successor;
use super::{Answered, PassphraseFrom};

/// How long `--check` waits for a node that is ready: what asks it waits for 20 s.
const CHECK_PATIENCE: Duration = Duration::from_secs(8);

/// From the order to stop to the end of the process, in steps of a second: of a stall of the whole process, after which all that
/// waits is due at once, one counts. Shards take 8 s at most; what is left over is stuck on the disk.
const STOP_WITHIN_S: u64 = 10;

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
    /// Say whether it would start with these arguments, and start nothing: what SIGUSR2 asks first
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

pub fn run(args: &Serve) -> Answered {
    let mut inherited = Inherited::take()?;
    let successor = Successor::of_this_process()?;
    let mut config = args.read_config()?;
    start_log(config.log);
    fit_to_descriptors(&mut config)?;

    let identity = if args.dev {
        let protect = args.passphrase.passphrase_file.is_some();
        Identity::load_or_create(&config.data_dir, || args.passphrase.ask(), protect)?
    } else {
        Identity::load(&config.data_dir, || args.passphrase.ask())?
    };
    let policy = Arc::new(PolicyDesk::open(&config.data_dir, config.policy.clone())?);
    if args.check {
        return check_surroundings(&config);
    }
    announce(format_args!("pool_pubkey {}", identity.public()));
    let keys = Arc::new(KeyDesk::new(identity, config.shards));
    keys.log();
    leave_cores_to_shards(&config.cores);
    let mut runtime = ControlRuntime::start()?;
    let told_to_stop = runtime.told_to_stop();
    let telemetry = telemetry(&config);
    let (followed, difficulty) = match &config.chain {
        ChainConfig::Dev { network_difficulty } => (None, *network_difficulty),
        ChainConfig::Node(chain) => match runtime.wait_for(meet_nodes(chain, &telemetry)) {
            Some(met) => {
                let met = met?;
                let difficulty = met.tip.difficulty;
                (Some((chain, met)), difficulty)
            }
            None => return Ok(ExitCode::SUCCESS),
        },
    };
    let mut ledger = Ledger::open(&config.data_dir, &ledger_options(&config, difficulty))?;
    ledger.note_bundle_privacy(config.bundle_privacy)?;
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
    let standing = Arc::new(Standing::default());
    let from_systemd = inherited.from_systemd && !inherited.listeners.is_empty();
    if from_systemd {
        standing.stay();
    }
    let (address, listeners) = inherited
        .or_bind(config.listen, config.shards)
        .map_err(|error| format!("listen on {}: {error}", config.listen))?;

    let (source, chain, found, templates) = match followed {
        None => (None, Arc::new(Chain::dev(difficulty)), None, None),
        Some((follows, met)) => {
            let chain = met.tip.chain.clone();
            let store = BlockStore::open(&config.data_dir)?;
            let bytes = follows.templates.transaction_bytes;
            // Before the first session no block can be ours.
            let is_new = !ledger.had_sessions();
            let searched = ledger.searched()?.or_else(|| is_new.then(|| met.tip.searched()));
            let open = ledger.open_blocks(met.tip.height.saturating_sub(node::WATCHED_FOR))?;
            let (source, told) = ChainSource::new(met, store, open, searched, bytes);
            let ChainTold { found, claim } = told;
            let checks = TemplateChecks {
                one_in: follows.templates.check_one_in,
                refuses_unshown: follows.templates.refuses_unshown,
                tell: claim,
            };
            (Some(source), chain, Some(found), Some(checks))
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
    let mut settings = shard_settings(
        &config,
        chain,
        keys.ring(),
        policy.policy(),
        prime_ids,
        writer.published(),
        templates,
    )?;
    settings.standing = standing.clone();
    let bans = Arc::new(BanDesk::new(&config.data_dir, config.guards.bans));
    settings.bans = bans.read();
    let settings = Arc::new(settings);
    let mut doors: Vec<_> = shard::deal(&listeners, config.shards)?
        .into_iter()
        .map(|listeners| Doors {
            listeners,
            connections: Vec::new(),
        })
        .collect();
    for (at, connection) in inherited.connections.into_iter().enumerate() {
        doors[at % config.shards].connections.push(connection);
    }
    let parts = doors
        .into_iter()
        .zip(ledgers)
        .zip(&telemetry.shards)
        .map(|((doors, ledger), telemetry)| ShardParts {
            doors,
            ledger,
            telemetry: telemetry.clone(),
        })
        .collect();
    let shards = Shards::start(&settings, parts, restored)?;
    announce(format_args!("listening {address}"));
    if let Some(address) = metrics_address {
        announce(format_args!("metrics {address}"));
    }

    notify::ready();
    let prepare_restart = {
        let (successor, standing) = (successor.clone(), standing.clone());
        move || {
            successor.check()?;
            standing.stay();
            notify::reloading();
            Ok(())
        }
    };
    let health = writer.health();
    let stop = control.run(Control {
        telemetry,
        inboxes: shards.inboxes().to_vec(),
        health: health.clone(),
        desk: writer.desk(),
        keys,
        policy,
        bans,
        chain: source,
        prepare_restart: Some(Box::new(prepare_restart)),
        memory_limit_bytes: config.memory_limit_bytes,
    });
    if stop != Stop::Restart {
        notify::stopping();
    }
    let succession = (stop == Stop::Restart).then(|| {
        Arc::new(Succession {
            successor,
            listeners,
            from_systemd,
            standing,
            told_to_stop,
            health: health.clone(),
            began: Mutex::default(),
        })
    });
    end_in_time(succession.clone());
    shards.join()?;
    writer.stop();
    // What came last was written after the control plane had looked for the last time.
    if let (false, HealthState::Failed(error)) = (stop.is_failure(), health.state()) {
        return Err(format!("the ledger failed while the pool stopped: {error}").into());
    }
    if let Some(error) = succession.and_then(|succession| succession.begin()) {
        return Err(format!("cannot begin again: {error}").into());
    }
    tracing::info!("stopped");
    Ok(if stop.is_failure() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What a start finds outside of its configuration, as far as it can be seen while another process serves: a ledger that it can
/// read or migrate, and a node that is ready. Where none is, the pool goes on at the tip that it knows rather than give its place up.
fn check_surroundings(config: &Config) -> Answered {
    ledger::check_opens(&config.data_dir)?;
    if let ChainConfig::Node(chain) = &config.chain {
        let telemetry = telemetry(config);
        let of_nodes: Vec<_> = telemetry.nodes.iter().map(|(_, node)| node.clone()).collect();
        let mut runtime = ControlRuntime::start()?;
        if let Some(met) = runtime.wait_for(node::connect(chain, &of_nodes, CHECK_PATIENCE)) {
            met?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
        // What cannot be logged, on a full disk say, is lost: to say so on stderr would be a panic of a shard.
        .log_internal_errors(false)
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

async fn meet_nodes(chain: &NodeChain, telemetry: &Telemetry) -> Result<MetNodes, NodeError> {
    let of_nodes: Vec<_> = telemetry.nodes.iter().map(|(_, node)| node.clone()).collect();
    let nodes = node::connect(chain, &of_nodes, node::START_PATIENCE).await?;
    let mut follower = Follower::new(chain, nodes.clone());
    let tip = follower.first().await;
    tracing::info!(height = tip.height, difficulty = tip.difficulty, "the chain is known");
    Ok(MetNodes { nodes, follower, tip })
}

fn ledger_options(config: &Config, difficulty: u64) -> LedgerOptions {
    LedgerOptions {
        chain: config.chain.name(),
        first_prime_id: config.first_prime_id.get(),
        disk_floor_bytes: config.disk_floor_bytes,
        resume_for_s: config.resume_for_s,
        gateways_max: config.limits.gateways_per_shard.saturating_mul(config.shards),
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
    keys: Arc<KeyRing>,
    policy: Arc<Policy>,
    prime_ids: PrimeIds,
    published: Published,
    templates: Option<TemplateChecks>,
) -> Result<Settings, getrandom::Error> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    Ok(Settings {
        keys,
        chain,
        script: config.script.clone(),
        tag: config.tag.clone(),
        min_diff: config.min_diff,
        steering: config.steering,
        motd: config.motd.clone(),
        shards: config.shards,
        cores: config.cores.clone(),
        resume_for_s: config.resume_for_s,
        limits: config.limits,
        guards: config.guards.clone(),
        bans: Vec::new(),
        prime_ids,
        published,
        split_use: config.split_use,
        policy,
        secret,
        large_answers: shard::LargeAnswers::default(),
        templates,
        standing: Arc::default(),
        greetings: Default::default(),
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

/// A disk that hangs must not keep the process: what was acknowledged is on it already, and the ledger opens as after a crash.
fn end_in_time(succession: Option<Arc<Succession>>) {
    std::thread::spawn(move || {
        (0..STOP_WITHIN_S).for_each(|_| std::thread::sleep(Duration::from_secs(1)));
        tracing::error!("not stopped after {STOP_WITHIN_S} s; ending as it is");
        if let Some(error) = succession.and_then(|succession| succession.begin()) {
            tracing::error!(%error, "cannot begin again");
        }
        std::process::exit(1);
    });
}
