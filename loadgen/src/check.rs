//! Whether the ledger holds what was acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tally::Tally;

/// Why the ledger's count is not known.
#[derive(Debug, Error)]
pub enum CheckError {
    #[error("{program}: {error}. Name the millrace binary with --millrace")]
    Start { program: PathBuf, error: std::io::Error },
    #[error("{program} ledger failed: {stderr}")]
    Failed { program: PathBuf, stderr: String },
    #[error("{program} ledger stats --json printed no count of shares: {error}")]
    Unreadable { program: PathBuf, error: serde_json::Error },
    #[error("{program} ledger export printed a share that is none: {line}")]
    NoShare { program: PathBuf, line: String },
}

/// How the ledger is asked.
#[derive(Debug, Clone)]
pub struct Ledger {
    program: PathBuf,
    data_dir: PathBuf,
}

/// What one share after the other says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ByHash {
    /// Acknowledged, and not in the ledger.
    pub gone: u64,
    /// More than once in the ledger, whoever sent them.
    pub twice: u64,
}

/// What the two counts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Shares in the ledger before the run and after it.
    pub before: u64,
    pub after: u64,
    pub acknowledged: u64,
    /// Unanswered, most of them since their connection ended: the ledger may hold them or not.
    pub uncertain: u64,
    /// Where they were compared one by one.
    pub by_hash: Option<ByHash>,
    pub ok: bool,
}

#[derive(Deserialize)]
struct Stats {
    shares: u64,
}

#[derive(Deserialize)]
struct Exported {
    hash64: String,
}

impl Ledger {
    /// `program`: the millrace binary; by default the one beside this program.
    pub fn new(data_dir: &Path, program: Option<&Path>) -> Self {
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.parent()?.join("millrace"))
        };
        Self {
            program: program
                .map(Path::to_path_buf)
                .or_else(beside)
                .unwrap_or_else(|| "millrace".into()),
            data_dir: data_dir.into(),
        }
    }

    /// Shares in the ledger.
    ///
    /// # Errors
    /// The binary is not there, fails, or prints something else.
    pub fn shares(&self) -> Result<u64, CheckError> {
        let printed = self.print(&["stats", "--json"])?;
        let stats: Stats = serde_json::from_slice(&printed).map_err(|error| CheckError::Unreadable {
            program: self.program.clone(),
            error,
        })?;
        Ok(stats.shares)
    }

    /// Holds what was acknowledged against every share in the ledger.
    ///
    /// # Errors
    /// As [`Self::shares`].
    pub fn compare(&self, acknowledged: &[u64]) -> Result<ByHash, CheckError> {
        let printed = self.print(&["export", "--format", "jsonl"])?;
        let mut stored: HashMap<u64, u64> = HashMap::new();
        for line in printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let share = serde_json::from_slice(line).ok();
            let hash64 = share.and_then(|share: Exported| u64::from_str_radix(&share.hash64, 16).ok());
            let hash64 = hash64.ok_or_else(|| CheckError::NoShare {
                program: self.program.clone(),
                line: String::from_utf8_lossy(line).into_owned(),
            })?;
            *stored.entry(hash64).or_default() += 1;
        }
        Ok(ByHash {
            gone: acknowledged
                .iter()
                .filter(|hash64| !stored.contains_key(hash64))
                .count() as u64,
            twice: stored.values().filter(|count| **count > 1).count() as u64,
        })
    }

    fn print(&self, what: &[&str]) -> Result<Vec<u8>, CheckError> {
        let program = self.program.clone();
        let output = Command::new(&program)
            .arg("ledger")
            .args(what)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .output()
            .map_err(|error| CheckError::Start {
                program: program.clone(),
                error,
            })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(CheckError::Failed { program, stderr })
    }
}

impl Comparison {
    pub fn new(before: u64, after: u64, tally: &Tally, by_hash: Option<ByHash>) -> Self {
        let acknowledged = tally.accepted;
        let uncertain = tally.lost + tally.lost_early + tally.unread_early + tally.missing;
        let grown = after.checked_sub(before);
        let is_each_there = by_hash.is_none_or(|each| each.gone == 0 && each.twice == 0);
        Self {
            before,
            after,
            acknowledged,
            uncertain,
            by_hash,
            ok: is_each_there && grown.is_some_and(|grown| (acknowledged..=acknowledged + uncertain).contains(&grown)),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            before,
            after,
            acknowledged,
            ..
        } = self;
        write!(
            f,
            "the ledger grew from {before} to {after} shares, acknowledged were {acknowledged}"
        )?;
        match self.by_hash {
            Some(ByHash { gone, twice }) => write!(f, ", {gone} of which it does not hold; {twice} it holds twice"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_share_more_or_less_is_found() {
        let mut tally = Tally {
            accepted: 100,
            ..Tally::default()
        };
        let ok = |before, after, tally: &Tally| Comparison::new(before, after, tally, None).ok;
        assert!(ok(5, 105, &tally));
        assert!(!ok(5, 104, &tally));
        assert!(!ok(5, 106, &tally));
        assert!(!ok(5, 4, &tally));
        tally.lost = 3;
        assert!(ok(5, 108, &tally));
        assert!(!ok(5, 109, &tally));
        // The sum is right, and one is gone while one that was lost is there.
        for (gone, twice) in [(1, 0), (0, 1)] {
            let by_hash = Some(ByHash { gone, twice });
            assert!(!Comparison::new(5, 106, &tally, by_hash).ok);
        }
    }
}
