//! A whole run: threads with their gateways, the progress line, the ledger before and after, the report.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::Network;
use millrace::wire::Reason;

use crate::check::{CheckError, Comparison, Ledger};
use crate::cli::{Args, Rate, Sources};
use crate::driver::{Driver, Outcome, Plan, SharedRun};
use crate::gateway::{Behaviour, Setup, World};
use crate::mix::Mix;
use crate::payee::{ANY_NETWORK, Payees};
use crate::progress::{Live, Progress};
use crate::report::{Report, Run};
use crate::restart::{Comeback, RestartShown, Restarts};
use crate::rng::Rng;
use crate::scrape::{self, Buckets, PoolFigures};
use crate::socket;
use crate::tally::Tally;
use crate::template::{Source, Spoilt, Templates};
use crate::upstream::{Following, Upstream};

/// Connections from one address to one port, with room for those that are being closed.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;

/// A storm leaves closed connections behind, whose ports rest for a minute.
const STORM_SOURCES: u32 = 64;

/// Seconds from one tip that is made up to the next.
const TIP_EVERY_S: f64 = 60.0;

/// Files beside the sockets.
const OTHER_FILES: u64 = 64;

/// The progress line is drawn this often.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// Runs it all.
///
/// # Errors
/// Why the run could not be made.
pub fn run(args: &Args) -> Result<Report, String> {
    let open_files = socket::raise_open_files();
    if open_files < u64::from(args.count()) + OTHER_FILES {
        return Err(format!(
            "this process may open {open_files} files, too few for {} gateways: raise the hard limit (ulimit -Hn)",
            args.count()
        ));
    }
    let ledger = args
        .data_dir
        .as_deref()
        .map(|data_dir| Ledger::new(data_dir, args.millrace.as_deref()));
    let before = ledger
        .as_ref()
        .map(Ledger::shares)
        .transpose()
        .map_err(|error| error.to_string())?;

    let following = follow(args)?;
    let shared = Arc::new(SharedRun {
        origin: Instant::now(),
        all_connected: Barrier::new(usize::from(args.threads) + 1),
        failed: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        start_ns: OnceLock::new(),
        live: Live::default(),
        restarts: match (args.pid, args.restart_every) {
            (Some(pid), Some(every_s)) => Restarts::new(pid, (every_s * 1e9) as u64),
            _ => Restarts::default(),
        },
    });
    if args.until_eof {
        end_with_stdin(shared.clone());
    }
    let seed = args.seed.unwrap_or_else(seed_from_clock);
    let threads: Vec<_> = (0..args.threads)
        .map(|number| {
            let (args, shared) = (args.clone(), shared.clone());
            let source = match &following {
                Some(following) => Source::Node(following.upstream().clone()),
                None => Source::MadeUp(Templates::new(seed, args.branches.0.clone())),
            };
            thread::spawn(move || run_thread(&args, number, seed, source, shared))
        })
        .collect();

    let mut progress = Progress::new(args.storm.is_some());
    let waiter = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.all_connected.wait();
            socket::used().0
        })
    };
    let (mut before_tip, mut signal_error) = (None, None);
    while threads.iter().any(|thread| !thread.is_finished()) {
        progress.show(&shared.live, u64::from(args.count()), shared.start_ns.get().copied());
        if before_tip.is_none() && is_just_before_tip(args, &shared) {
            before_tip = Some(args.metrics.and_then(|address| scrape::metrics(address).ok()));
        }
        if let Err(error) = ask_for_restart(args, &shared) {
            signal_error.get_or_insert(error);
        }
        thread::sleep(SHOW_EVERY);
    }
    progress.finish();
    let cpu_before = waiter.join().map_err(|_| "a thread panicked")?;
    let (cpu, rss_kib) = socket::used();

    let mut tally = Tally::default();
    let mut down = 0;
    let mut failures: Vec<_> = signal_error
        .map(|error| format!("cannot signal the pool: {error}"))
        .into_iter()
        .collect();
    for thread in threads {
        let outcome: Outcome = thread.join().map_err(|_| "a thread panicked")??;
        tally.merge(&outcome.tally);
        down += outcome.down;
        failures.extend(outcome.failure);
    }
    let compared = ledger.zip(before).map(|(ledger, before)| {
        let after = ledger.shares()?;
        let by_hash = args.by_hash.then(|| ledger.compare(&tally.acknowledged)).transpose()?;
        Ok::<_, CheckError>(Comparison::new(before, after, &tally, by_hash))
    });
    let (ledger, error) = match compared.transpose() {
        Ok(compared) => (compared, None),
        Err(error) => (None, Some(error.to_string())),
    };
    failures.extend(error);
    let read = |address| {
        let text = scrape::metrics(address).map_err(|error| error.to_string())?;
        Ok::<_, String>((PoolFigures::parse(&text)?, Buckets::parse(&text)))
    };
    let pool = args.metrics.and_then(|address| {
        read(address)
            .map_err(|error| failures.push(format!("the metrics at {address}: {error}")))
            .ok()
    });
    let (pool, after_tip) = pool.unzip();
    let before_tip = before_tip.flatten().map(|text| Buckets::parse(&text));
    if args.spoil.is_some_and(Spoilt::is_refused) && tally.refused[usize::from(Reason::BadCoinbase.code())] == 0 {
        failures.push("the pool refuses no work of gateways that spoil their templates".into());
    }
    let run = Run {
        mode: mode(args),
        latency_from: latency_from(args),
        gateways: args.count(),
        in_flight_max: args.in_flight,
        seconds: args.seconds,
        may_cut: args.may_cut || args.restart_every.is_some(),
        restarts: restarts_shown(&shared, &tally),
        down,
        failures,
        ledger,
        pool,
        buckets: before_tip.zip(after_tip),
        blocks: following.as_ref().map(|following| following.upstream().fate()),
        cpu_seconds: cpu - cpu_before,
        rss_kib,
    };
    Ok(Report::new(run, &tally))
}

/// The node that templates come from.
fn follow(args: &Args) -> Result<Option<Following>, String> {
    let (Some(node), Some(cookie)) = (args.node, &args.cookie) else {
        return Ok(None);
    };
    let every = Duration::from_secs_f64(args.job_every);
    Upstream::follow(node, cookie, !args.leave_blocks, every).map(Some)
}

/// Ends the mining when nobody can write to this process any more.
fn end_with_stdin(shared: Arc<SharedRun>) {
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        shared.is_over.store(true, Ordering::Relaxed);
    });
}

fn run_thread(args: &Args, number: u16, seed: u64, source: Source, shared: Arc<SharedRun>) -> Result<Outcome, String> {
    let (count, threads, number) = (args.count() as usize, usize::from(args.threads), usize::from(number));
    let first = count * number / threads;
    let gateways = count * (number + 1) / threads - first;
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    let behaviour = match (args.storm, args.hold) {
        (Some(_), _) => Behaviour::Storm,
        (None, true) => Behaviour::Hold,
        (None, false) => Behaviour::Mine,
    };
    let plan = Plan {
        pool: args.pool,
        sources: args.bind.or_else(|| default_sources(args)),
        first,
        gateways,
        rate: match args.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(rate * gateways as f64 / count as f64),
        },
        burst: if behaviour == Behaviour::Storm { 1 } else { args.burst },
        warm_up_ns: ns(args.warm_up),
        duration_ns: ns(args.seconds),
        cool_down_ns: ns(args.cool_down),
        tip_every_ns: match source.node() {
            Some(_) => args.tip_every.map(ns),
            None => Some(ns(args.tip_every.unwrap_or(TIP_EVERY_S))),
        },
        blocks: args.blocks,
        drop_every_ns: args.drop_every.map(ns),
        ask_within_ns: args.ask.map(ns),
    };
    let world = World {
        setup: Setup {
            pool: args.pubkey,
            asics: args.asics,
            payees: args.payees.map_or(Payees::OfGateway, |payees| Payees::Dealt {
                payees: payees as usize,
                miners: count * usize::from(args.asics),
            }),
            networks: match source.node() {
                Some(_) => &[Network::Regtest],
                None => ANY_NETWORK,
            },
            in_flight_max: args.in_flight as usize,
            job_every_ns: ns(args.job_every),
            behaviour,
            spoils: args.spoil,
            spoilers: args.spoilers.unwrap_or(args.count()) as usize,
            no_blocks: args.no_blocks,
            by_hash: args.by_hash,
        },
        now_ns: 0,
        unix_s: 0,
        tip: 1,
        all_ask: false,
        measuring: false,
        source,
        tally: Tally::default(),
        // One share a visit, and that one good.
        mix: Mix::new(if behaviour == Behaviour::Storm { 0.0 } else { args.bad }),
        rng: Rng::new(seed ^ (number as u64) << 48),
    };
    match Driver::new(plan, shared.clone(), world) {
        Ok(driver) => Ok(driver.run()),
        Err(error) => {
            shared.failed.store(true, Ordering::SeqCst);
            shared.all_connected.wait();
            Err(error.to_string())
        }
    }
}

/// Sends the signal where it is time.
fn ask_for_restart(args: &Args, shared: &SharedRun) -> std::io::Result<()> {
    let Some(start_ns) = shared.start_ns.get().copied() else {
        return Ok(());
    };
    let end_ns = start_ns + (args.mining_s() * 1e9) as u64;
    let now_ns = u64::try_from(shared.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    shared.restarts.ask_when_due(start_ns, end_ns, now_ns)
}

fn restarts_shown(shared: &SharedRun, tally: &Tally) -> Vec<RestartShown> {
    let start_ns = shared.start_ns.get().copied().unwrap_or(0);
    let none = Comeback::default();
    let shown = |(number, asked_ns): (usize, u64)| {
        let asked_s = asked_ns.saturating_sub(start_ns) as f64 / 1e9;
        RestartShown::new(asked_s, tally.comebacks.get(number).unwrap_or(&none))
    };
    shared.restarts.asked_ns().into_iter().enumerate().map(shown).collect()
}

/// The last look at the clock before all gateways ask.
fn is_just_before_tip(args: &Args, shared: &SharedRun) -> bool {
    let start_ns = shared.start_ns.get().map(|ns| Duration::from_nanos(*ns));
    let begins = start_ns.map(|start| start + Duration::from_secs_f64(args.mining_s()));
    args.ask.is_some() && begins.is_some_and(|begins| shared.origin.elapsed() + 2 * SHOW_EVERY >= begins)
}

/// One address has too few ports for very many connections, or for very many one after another.
fn default_sources(args: &Args) -> Option<Sources> {
    let is_local = matches!(args.pool.ip(), std::net::IpAddr::V4(ip) if ip.is_loopback());
    let needed = args.count().div_ceil(CONNECTIONS_PER_SOURCE);
    let count = if args.storm.is_some() {
        needed.max(STORM_SOURCES)
    } else {
        needed
    };
    (is_local && count > 1).then(|| Sources::loopback(count))
}

fn mode(args: &Args) -> String {
    let what = match (args.storm, args.hold) {
        (Some(_), _) => "storm of handshakes, one share each",
        (None, true) if args.ask.is_some() => "a few shares each, then a tip at which all ask for a split",
        (None, true) => "a few shares each, then connected without work",
        (None, false) => "mining",
    };
    let bad = if args.storm.is_none() && args.bad > 0.0 {
        format!(", {} % bad on purpose", args.bad)
    } else {
        String::new()
    };
    let what = if args.node.is_some() {
        format!("{what} on a node's templates")
    } else {
        what.to_owned()
    };
    match args.rate {
        Rate::Max if args.storm.is_some() || args.hold => what,
        Rate::Max => format!("{what}, closed loop with {} shares in flight{bad}", args.in_flight),
        Rate::PerSecond(rate) => format!("{what}, open loop at {rate}/s{bad}"),
    }
}

fn latency_from(args: &Args) -> &'static str {
    match args.rate {
        Rate::Max => "from sending (closed loop: the queue's length, no latency under a given load)",
        Rate::PerSecond(_) => "from when each was due, sent in time or not (no coordinated omission)",
    }
}

fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64
}
