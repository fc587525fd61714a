//! `millrace keys`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use millrace::identity::Identity;

use super::{Answered, DataDir};

#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make keys where there are none
    New(DataDir),
    /// Print the public keys, as gateways have them in `pool_pubkey`
    Show(DataDir),
}

pub fn run(args: &Keys) -> Answered {
    let identity = match &args.what {
        What::New(data_dir) => Identity::create(&data_dir.path)?,
        What::Show(data_dir) => Identity::load(&data_dir.path)?,
    };
    println!("pool_pubkey {}", identity.public());
    Ok(ExitCode::SUCCESS)
}
