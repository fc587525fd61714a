//! `millrace guard`: whom the running pool has banned, and how that is ended.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::control::{exchange, say};
use super::{Answered, DataDir};

#[derive(Debug, Args)]
pub struct Guard {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Addresses that are banned, for how long, and why
    Show {
        /// As the pool answers: one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Lift the ban of an address, and forget what it did
    Lift {
        /// As `show` has it, or `all`
        address: String,
    },
}

pub fn run(args: &Guard) -> Answered {
    match &args.what {
        What::Show { json: true } => say(&args.data_dir, &json!({ "cmd": "guards" })),
        What::Show { json: false } => {
            let answer = exchange(&args.data_dir, &json!({ "cmd": "guards" }))?;
            let answer: Value = serde_json::from_str(&answer)?;
            if answer["ok"] != true {
                return Err(answer["error"].as_str().unwrap_or("refused").into());
            }
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            println!("{:<44} {:<16} {:>9} strikes", "address", "why", "seconds");
            for ban in answer["bans"].as_array().into_iter().flatten() {
                let (address, why) = (text(&ban["address"]), text(&ban["why"]));
                println!("{address:<44} {why:<16} {:>9} {}", ban["seconds_left"], ban["strikes"]);
            }
            println!("{} banned, {} addresses known", answer["banned"], answer["addresses"]);
            Ok(ExitCode::SUCCESS)
        }
        What::Lift { address } => say(&args.data_dir, &json!({ "cmd": "lift", "address": address })),
    }
}
