//! `regtest-node`: the command line only.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bitcoin::{Address, Network};
use clap::Parser;
use millrace_consensus::{Serve, serve};

/// A regtest node for tests, on Bitcoin Core's consensus engine.
#[derive(Debug, Parser)]
struct Args {
    /// Keeps blocks over restarts; a temporary folder where nothing is said.
    #[arg(long)]
    datadir: Option<PathBuf>,
    #[arg(long, default_value = "127.0.0.1:0")]
    rpc: SocketAddr,
    #[arg(long, default_value = "tcp://127.0.0.1:0")]
    zmq: String,
    /// Accepted beside the cookie.
    #[arg(long, requires = "rpcpassword")]
    rpcuser: Option<String>,
    #[arg(long, requires = "rpcuser")]
    rpcpassword: Option<String>,
    /// Mines up to here before it is ready. The public gateway needs 17 to 149.
    #[arg(long, default_value_t = 17)]
    start_height: u32,
    /// Whom these blocks pay; the node's own key where nobody is named.
    #[arg(long, value_parser = regtest_address)]
    mine_to: Option<Address>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("regtest-node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let temporary = match args.datadir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("regtest-node.").tempdir()?),
    };
    let datadir = match (args.datadir, &temporary) {
        (Some(datadir), _) => datadir,
        (None, Some(folder)) => folder.path().to_owned(),
        (None, None) => unreachable!("one of both is there"),
    };
    let what = Serve {
        datadir,
        rpc: args.rpc,
        zmq: args.zmq,
        login: args.rpcuser.zip(args.rpcpassword),
        start_height: args.start_height,
        mine_to: args.mine_to.map(|address| address.script_pubkey()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(what, |line| {
        let mut stdout = std::io::stdout();
        // Whoever started it may have gone; the node serves on.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }))?;
    Ok(())
}

fn regtest_address(text: &str) -> Result<Address, String> {
    let address: Address<_> = text.parse().map_err(|error| format!("{error}"))?;
    address
        .require_network(Network::Regtest)
        .map_err(|error| error.to_string())
}
