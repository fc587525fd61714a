//! `millrace ledger` on a pool's data, beside the running pool or after it.

use std::process::{Command, Output};

use serde_json::Value;

use super::{Pool, binary};

impl Pool {
    /// Runs `millrace ledger ARGS --data-dir DATA`.
    pub fn ledger(&self, args: &[&str]) -> Output {
        Command::new(binary())
            .arg("ledger")
            .args(args)
            .arg("--data-dir")
            .arg(self.data())
            .output()
            .expect("the binary runs")
    }

    /// Runs `millrace control --data-dir DATA ARGS`.
    pub fn control(&self, args: &[&str]) -> Output {
        Command::new(binary())
            .args(["control", "--data-dir"])
            .arg(self.data())
            .args(args)
            .output()
            .expect("the binary runs")
    }

    /// `millrace ledger ARGS`, which must succeed: what it prints.
    pub fn ledger_text(&self, args: &[&str]) -> String {
        let output = self.ledger(args);
        let text = String::from_utf8(output.stdout).expect("text");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "ledger {args:?} ends with {}:\n{text}{errors}",
            output.status
        );
        text
    }

    /// `millrace ledger stats --json`.
    pub fn stats(&self) -> Value {
        serde_json::from_str(&self.ledger_text(&["stats", "--json"])).expect("one JSON object")
    }

    /// One count of it.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        stats[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no count {name} in {stats}"))
    }

    /// Bytes of the largest file that the ledger appends its writes to.
    pub fn largest_ledger_log(&self) -> u64 {
        let files = std::fs::read_dir(self.data().join("ledger")).expect("the pool's ledger");
        let logs = files
            .filter_map(|file| file.ok())
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        let bytes = logs.filter_map(|file| Some(file.metadata().ok()?.len()));
        bytes.max().expect("there is one")
    }

    /// What the ledger knows its shares by, in order.
    pub fn stored_hashes(&self) -> Vec<u64> {
        let text = self.ledger_text(&["export", "--format", "jsonl"]);
        let hash = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("one JSON object a line");
            let hex = row["hash64"]
                .as_str()
                .unwrap_or_else(|| panic!("no hash in {row}"))
                .to_owned();
            u64::from_str_radix(&hex, 16).expect("hex")
        };
        text.lines().map(hash).collect()
    }

    /// Shares on disk.
    pub fn stored(&self) -> u64 {
        self.stat("shares")
    }

    /// Every share on disk as a JSON object, in order.
    pub fn exported(&self) -> Vec<Value> {
        self.ledger_text(&["export", "--format", "jsonl"])
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
            .collect()
    }

    /// What the shares on disk are known by, in order.
    pub fn exported_hashes(&self) -> Vec<u64> {
        let hash = |share: Value| {
            let digits = share["hash64"]
                .as_str()
                .unwrap_or_else(|| panic!("no hash in {share}"))
                .to_owned();
            u64::from_str_radix(&digits, 16).expect("16 hex digits")
        };
        self.exported().into_iter().map(hash).collect()
    }

    /// `millrace ledger verify` finds nothing wrong.
    pub fn assert_verifies(&self) {
        self.ledger_text(&["verify"]);
    }
}
