//! `millrace ledger`: reads, and writes nothing to the data folder; what must be written is said to the running pool.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use millrace::ledger::{self, Format, LedgerReader, Table, report};
use millrace::work::PayeeAddress;
use serde_json::json;

use super::{Answered, DataDir};

#[derive(Debug, Args)]
pub struct Ledger {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Walk every row and say what is wrong; the exit status is 1 where something is
    Verify(Report),
    /// Count what is there
    Stats(Report),
    /// Write a table as CSV or JSON lines
    Export(Export),
    /// What everybody is due, and the sums that must agree
    Balances(Report),
    /// Every candidate, and what became of it; `unbooked` and `unannounced` ones wait for the operator
    Blocks(Report),
    /// One payee, and everything that changed its balance
    Payee(Payee),
    /// Book what was paid to a payee by hand, in the running pool
    Settle(Settle),
    /// Recompute a block from the log alone; the exit status is 1 where anything differs
    Audit(Audit),
}

#[derive(Debug, Args)]
struct Payee {
    address: PayeeAddress,
    /// With its work by hour and worker, of shares that are no longer kept
    #[arg(long)]
    hours: bool,
    #[command(flatten)]
    report: Report,
}

#[derive(Debug, Args)]
struct Settle {
    /// An address
    payee: PayeeAddress,
    /// Satoshi
    #[arg(long, value_name = "SAT")]
    amount: u64,
    /// The transaction that pays, as people write it
    #[arg(long, value_name = "HEX")]
    txid: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Debug, Args)]
struct Audit {
    /// Its hash, as people write it
    block: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    data_dir: DataDir,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    data_dir: DataDir,
    #[arg(long, value_enum, default_value = "csv")]
    format: FormatName,
    #[arg(long, value_enum, default_value = "shares")]
    table: TableName,
    /// The first share, by sequence; none older than are kept
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: u64,
    /// Where to; stdout by default
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    Csv,
    Jsonl,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TableName {
    Shares,
    Payees,
    Workers,
    Sessions,
    Candidates,
    /// Work by hour, payee and worker of shares that are no longer kept
    Hours,
}

pub fn run(args: &Ledger) -> Answered {
    // A reader holds every table file open: one that it closed could be gone when it wants it again.
    super::raise_descriptor_limit();
    match &args.what {
        What::Verify(report) => verify(report),
        What::Stats(report) => stats(report),
        What::Export(args) => export(args),
        What::Balances(report) => balances(report),
        What::Blocks(report) => blocks(report),
        What::Payee(args) => payee(args),
        What::Settle(args) => settle(args),
        What::Audit(args) => audit(args),
    }
}

fn verify(report: &Report) -> Answered {
    let findings = ledger::verify(&LedgerReader::open(&report.data_dir.path)?)?;
    if report.json {
        print_json(&findings)?;
    } else {
        for problem in &findings.problems {
            println!("{problem}");
        }
        let untold = findings.problem_count - findings.problems.len() as u64;
        if untold > 0 {
            println!("and {untold} more");
        }
        println!(
            "{}: {} shares from {} on, {} hours, {} payees, {} workers, {} sessions, {} candidates, {} events",
            if findings.is_sound() { "sound" } else { "NOT SOUND" },
            findings.shares,
            findings.kept_from,
            findings.hours,
            findings.payees,
            findings.workers,
            findings.sessions,
            findings.candidates,
            findings.events
        );
    }
    Ok(if findings.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn stats(report: &Report) -> Answered {
    let stats = ledger::stats(&LedgerReader::open(&report.data_dir.path)?)?;
    if report.json {
        print_json(&stats)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in [
        ("chain", stats.chain),
        ("shares", stats.shares.to_string()),
        ("kept from", stats.kept_from.to_string()),
        ("work", stats.work.to_string()),
        ("payees", stats.payees.to_string()),
        ("workers", stats.workers.to_string()),
        ("sessions", stats.sessions.to_string()),
        ("candidates", stats.candidates.to_string()),
        ("table bytes", stats.table_bytes.to_string()),
    ] {
        println!("{name:<12} {value:>20}");
    }
    Ok(ExitCode::SUCCESS)
}

fn export(args: &Export) -> Answered {
    let reader = LedgerReader::open(&args.data_dir.path)?;
    let table = match args.table {
        TableName::Shares => Table::Shares,
        TableName::Payees => Table::Payees,
        TableName::Workers => Table::Workers,
        TableName::Sessions => Table::Sessions,
        TableName::Candidates => Table::Candidates,
        TableName::Hours => Table::Hours,
    };
    let format = match args.format {
        FormatName::Csv => Format::Csv,
        FormatName::Jsonl => Format::Jsonl,
    };
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(BufWriter::new(
            File::create_new(path).map_err(|error| format!("{}: {error}", path.display()))?,
        )),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let rows = ledger::export(&reader, table, format, args.from, &mut out)?;
    out.flush()?;
    let kept_from = reader.kept()?.from;
    if args.from < kept_from && matches!(table, Table::Shares) {
        eprintln!("shares before {kept_from} are no longer kept: `--table hours` has their work");
    }
    eprintln!("{rows} rows");
    Ok(ExitCode::SUCCESS)
}

fn balances(args: &Report) -> Answered {
    let balances = report::balances(&LedgerReader::open(&args.data_dir.path)?)?;
    if args.json {
        print_json(&balances)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:>16} {:>16} {:>16} {:>16}  payee",
        "balance", "promised", "paid", "by hand"
    );
    for row in &balances.payees {
        println!(
            "{:>16} {:>16} {:>16} {:>16}  {}",
            row.balance, row.promised, row.paid, row.by_hand, row.address
        );
    }
    println!(
        "carry {} = to the pool {} - fees {} - by hand {}; {} events; window of {} shares, work {}{}",
        balances.carry,
        balances.to_pool,
        balances.fees,
        balances.by_hand,
        balances.events,
        balances.window_shares,
        balances.window_work,
        if balances.window_short {
            format!(" (SHORT: shares are kept from {} on)", balances.kept_from)
        } else {
            String::new()
        }
    );
    Ok(ExitCode::SUCCESS)
}

fn blocks(args: &Report) -> Answered {
    let blocks = report::blocks(&LedgerReader::open(&args.data_dir.path)?)?;
    if args.json {
        print_json(&blocks)?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for block in &blocks {
        println!(
            "{} height {} {:<11} value {} to the pool {} fee {} payouts {} verdict {}",
            block.hash,
            block.height,
            block.state,
            number(block.value),
            number(block.to_pool),
            number(block.fee),
            number(block.payouts.map(|payouts| payouts as u64)),
            number(block.verdict.map(u64::from))
        );
        for submission in &block.submissions {
            // Most words are the outcome's own name, or none.
            let words = Some(submission.words.as_str()).filter(|words| *words != submission.outcome);
            let said = format!("{} {}", submission.outcome, words.unwrap_or_default());
            println!(
                "    node {} time_ms {} {}",
                submission.node,
                submission.time_ms,
                said.trim_end()
            );
        }
    }
    println!("{} blocks", blocks.len());
    Ok(ExitCode::SUCCESS)
}

fn payee(args: &Payee) -> Answered {
    let reader = LedgerReader::open(&args.report.data_dir.path)?;
    let payee = report::payee(&reader, args.address.script())?;
    let mut payee = payee.ok_or_else(|| format!("the ledger has no payee `{}`", args.address))?;
    if let Some(rolled_up) = payee.rolled_up.as_mut().filter(|_| !args.hours) {
        rolled_up.hours.clear();
    }
    if args.report.json {
        print_json(&payee)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = &payee.row;
    println!(
        "balance {} promised {} paid {} by hand {} work in the window {}",
        row.balance, row.promised, row.paid, row.by_hand, row.window_work
    );
    if let Some(rolled_up) = &payee.rolled_up {
        println!(
            "of shares that are no longer kept: {} with work {}",
            rolled_up.shares, rolled_up.work
        );
        for hour in &rolled_up.hours {
            println!(
                "hour {} {:>12} shares {:>20} work  {}",
                hour.hour_s,
                hour.shares,
                hour.work,
                hour.worker.as_deref().unwrap_or("(other workers)")
            );
        }
    }
    for change in &payee.history {
        println!(
            "event {:>6} {:+} = {} {} {}",
            change.event,
            change.change,
            change.balance,
            change.what,
            change.block.as_deref().unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn settle(args: &Settle) -> Answered {
    let request = json!({ "cmd": "settle", "payee": args.payee.to_string(), "amount": args.amount, "txid": args.txid });
    super::control::say(&args.report.data_dir, &request)
}

fn audit(args: &Audit) -> Answered {
    let hash = report::read_hash(&args.block)?;
    let audit = ledger::audit(&LedgerReader::open(&args.report.data_dir.path)?, &hash)?;
    if args.report.json {
        print_json(&audit)?;
    } else {
        for difference in &audit.differences {
            println!("{difference}");
        }
        for departure in &audit.departures {
            println!("by hand: {departure}");
        }
        if audit.by_hand {
            println!(
                "the operator booked it by hand: {}",
                match audit.split_outputs {
                    0 => "no split of its value and parent is known, so its coinbase is held to none",
                    _ => "its coinbase need not keep to the split that its job was told",
                }
            );
        }
        println!(
            "{}: {} ({}); shares {} to {} with work {}{}; value {} = paid {} in {} of {} outputs + pool {}, fee {}",
            if audit.differences.is_empty() {
                "holds"
            } else {
                "DOES NOT HOLD"
            },
            audit.block,
            audit.state,
            audit.window_from,
            audit.window_end,
            audit.window_work,
            if audit.window_short {
                " (all that were still kept; the terms ask for more)"
            } else {
                ""
            },
            audit.value,
            audit.paid,
            audit.paid_outputs,
            audit.split_outputs,
            audit.to_pool,
            audit.fee
        );
        match audit.dictated_outputs {
            Some(outputs) => println!("dictated: {outputs} outputs, compared with the log's"),
            None if audit.split_outputs > 0 => {
                println!("what was dictated was not kept with this block: the split is the log's")
            }
            None => {}
        }
        if !audit.left_out.is_empty() {
            let due: u64 = audit.left_out.iter().map(|output| output.value).sum();
            println!(
                "left out of the coinbase, and still due: {due} sat in {} outputs",
                audit.left_out.len()
            );
        }
    }
    Ok(if audit.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}
