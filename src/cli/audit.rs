//! `millrace audit`: proofs of blocks for others, and checking such proofs with nothing but the pool's public key.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use millrace::identity::Identity;
use millrace::ledger::bundle::{self, Privacy, Verified};
use millrace::ledger::{LedgerReader, report};
use millrace::wire::PublicKeys;
use millrace::work::PayeeAddress;

use super::{Answered, DataDir, PassphraseFrom};

#[derive(Debug, Args)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write all that a block's split and booking depend on into one file, signed by the pool
    Export(Export),
    /// Check such a file; the exit status is 1 where it does not hold
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Export {
    /// The block's hash, as people write it
    block: String,
    /// Where to; nothing is written over
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How payees are named in this one file; by default as `ledger.bundle_privacy` of the pool's configuration has it
    #[arg(long, value_enum)]
    privacy: Option<PrivacyName>,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

#[derive(Debug, Args)]
struct Verify {
    file: PathBuf,
    /// The pool's public key, as gateways have it in `pool_pubkey`: its newest when the file was made
    #[arg(long, value_name = "HEX")]
    pubkey: String,
    /// Whose part to print
    #[arg(long, value_name = "ADDR")]
    address: Option<PayeeAddress>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PrivacyName {
    /// By their scripts
    Clear,
    /// By salted hashes, which only somebody who knows an address can find
    Hashed,
}

pub fn run(args: &Audit) -> Answered {
    match &args.what {
        What::Export(args) => export(args),
        What::Verify(args) => verify(args),
    }
}

fn export(args: &Export) -> Answered {
    super::raise_descriptor_limit();
    let hash = report::read_hash(&args.block)?;
    let identity = Identity::load(&args.data_dir.path, || args.passphrase.ask())?;
    let keys = identity.newest();
    let reader = LedgerReader::open(&args.data_dir.path)?;
    let privacy = match args.privacy {
        Some(PrivacyName::Clear) => Privacy::Clear,
        Some(PrivacyName::Hashed) => Privacy::Hashed,
        None => reader.bundle_privacy()?,
    };
    if args.out.exists() {
        return Err(format!(
            "{} is there already: name another file, or remove it",
            args.out.display()
        )
        .into());
    }
    // Under its name once it is whole: what an export that was killed has left stands in nobody's way.
    let mut half = args.out.clone().into_os_string();
    half.push(".tmp");
    let half = PathBuf::from(half);
    let file = File::create(&half).map_err(failed(&half))?;
    let written = bundle::export(&reader, &hash, privacy, keys, BufWriter::new(file));
    let file = match written {
        Ok(out) => out.into_inner()?,
        Err(error) => {
            let _ = fs::remove_file(&half);
            return Err(error.into());
        }
    };
    file.sync_all().map_err(failed(&half))?;
    drop(file);
    fs::rename(&half, &args.out).map_err(failed(&args.out))?;
    // What does not hold is better known here first.
    let file = File::open(&args.out).map_err(failed(&args.out))?;
    println!("{}", summary(&bundle::verify(file, &keys.public(), None)?));
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &Verify) -> Answered {
    let pool: PublicKeys = args
        .pubkey
        .parse()
        .map_err(|_| "the public key has 128 hex digits, as `millrace keys show` prints them")?;
    let file = File::open(&args.file).map_err(failed(&args.file))?;
    let verified = bundle::verify(file, &pool, args.address.as_ref().map(PayeeAddress::script))?;
    if args.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &verified)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", summary(&verified));
    if verified.by_hand {
        println!("the operator booked it by hand: its coinbase is held to no split");
    }
    match (&args.address, verified.own) {
        (Some(address), Some(own)) => println!(
            "{address}: {} shares with work {}; earned {}, paid {}, balance before {}",
            own.shares, own.work, own.earned, own.paid, own.balance
        ),
        (Some(address), None) => println!("{address}: no part in this block: neither work in its window nor a balance"),
        (None, _) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(verified: &Verified) -> String {
    format!(
        "holds: {} on {}; shares {} to {} with work {}{} of {} payees; value {} = paid {} in {} of {} outputs + pool {}, fee {}{}\n\
         terms: {} at difficulty {} ({}), fee {} millionths, nothing below {} sat",
        verified.block,
        verified.chain,
        verified.window_from,
        verified.window_end,
        verified.window_work,
        if verified.window_short {
            " (all that were still kept; the terms ask for more)"
        } else {
            ""
        },
        verified.payees,
        verified.value,
        verified.paid,
        verified.paid_outputs,
        verified.split_outputs,
        verified.to_pool,
        verified.fee,
        match verified.is_dictated {
            true => "; the split is what was dictated",
            false if verified.split_outputs > 0 => "; what was dictated was not kept",
            false => "",
        },
        verified.terms.scheme,
        verified.terms.difficulty,
        match verified.terms.is_of_header() {
            true => "as its header has it".to_owned(),
            false => format!(
                "its header has {}: so it may be on a test chain with a floor, or behind a retarget",
                verified.terms.header_difficulty
            ),
        },
        verified.terms.fee_ppm,
        verified.terms.minimum
    )
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
