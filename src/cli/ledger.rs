//! `millrace ledger`: reads, and writes nothing to the data folder.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use millrace::ledger::{self, Format, LedgerReader, Table};

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
    /// The first share, by sequence
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
}

pub fn run(args: &Ledger) -> Answered {
    // A reader holds every table file open: one that it closed could be gone when it wants it again.
    super::raise_descriptor_limit();
    match &args.what {
        What::Verify(report) => verify(report),
        What::Stats(report) => stats(report),
        What::Export(args) => export(args),
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
            "{}: {} shares, {} payees, {} workers, {} sessions, {} candidates",
            if findings.is_sound() { "sound" } else { "NOT SOUND" },
            findings.shares,
            findings.payees,
            findings.workers,
            findings.sessions,
            findings.candidates
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
    eprintln!("{rows} rows");
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}
