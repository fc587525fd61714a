//! `millrace policy`: who may mine, told to the running pool.

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Answered, DataDir, control};

#[derive(Debug, Args)]
pub struct Policy {
    #[command(flatten)]
    data_dir: DataDir,
    /// The answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The rules in force, and where each is from
    Show,
    /// Add a rule, for now and for every later start
    Add(Rule),
    /// Remove a rule that was added so
    Remove(Rule),
}

#[derive(Debug, Args)]
struct Rule {
    #[arg(value_parser = ["deny-agent", "least-version", "deny-address", "deny-payee", "allow-payee"])]
    kind: String,
    /// A prefix of user agents, a version such as 0.4.1, an address or range of them, or a payee's address
    value: String,
}

pub fn run(args: &Policy) -> Answered {
    let rule = |rule: &Rule| format!("{} {}", rule.kind, rule.value);
    let request = match &args.what {
        What::Show => json!({ "cmd": "policy" }),
        What::Add(added) => json!({ "cmd": "policy", "add": rule(added) }),
        What::Remove(removed) => json!({ "cmd": "policy", "remove": rule(removed) }),
    };
    if args.json {
        return control::say(&args.data_dir, &request);
    }
    let answer: Value = serde_json::from_str(&control::exchange(&args.data_dir, &request)?)?;
    if let Some(error) = answer["error"].as_str() {
        return Err(Box::<dyn Error>::from(error));
    }
    let rules = answer["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rules.is_empty() {
        println!("no rules: everybody may mine");
    }
    for shown in rules {
        let text = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
        println!("{:<13} {}", text("from"), text("rule"));
    }
    // Who takes the last one off the list of a private pool has opened it.
    if !rules.is_empty() && !rules.iter().any(|shown| is_of_list(&shown["rule"])) {
        println!("every payee is taken that no rule denies: there is no `allow-payee`");
    }
    Ok(ExitCode::SUCCESS)
}

fn is_of_list(rule: &Value) -> bool {
    rule.as_str().is_some_and(|rule| rule.starts_with("allow-payee "))
}
