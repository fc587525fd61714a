//! Whether the ledger holds what was acknowledged.

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
    #[error("{program} ledger stats failed: {stderr}")]
    Failed { program: PathBuf, stderr: String },
    #[error("{program} ledger stats --json printed no count of shares: {error}")]
    Unreadable { program: PathBuf, error: serde_json::Error },
}

/// How the ledger is asked.
#[derive(Debug, Clone)]
pub struct Ledger {
    program: PathBuf,
    data_dir: PathBuf,
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
    pub ok: bool,
}

#[derive(Deserialize)]
struct Stats {
    shares: u64,
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
        let program = self.program.clone();
        let output = Command::new(&program)
            .args(["ledger", "stats", "--json", "--data-dir"])
            .arg(&self.data_dir)
            .output()
            .map_err(|error| CheckError::Start {
                program: program.clone(),
                error,
            })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(CheckError::Failed { program, stderr });
        }
        let stats: Stats =
            serde_json::from_slice(&output.stdout).map_err(|error| CheckError::Unreadable { program, error })?;
        Ok(stats.shares)
    }
}

impl Comparison {
    pub fn new(before: u64, after: u64, tally: &Tally) -> Self {
        let acknowledged = tally.accepted;
        let uncertain = tally.lost + tally.lost_early + tally.unread_early + tally.missing;
        let grown = after.checked_sub(before);
        Self {
            before,
            after,
            acknowledged,
            uncertain,
            ok: grown.is_some_and(|grown| (acknowledged..=acknowledged + uncertain).contains(&grown)),
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
        let ok = |before, after, tally: &Tally| Comparison::new(before, after, tally).ok;
        assert!(ok(5, 105, &tally));
        assert!(!ok(5, 104, &tally));
        assert!(!ok(5, 106, &tally));
        assert!(!ok(5, 4, &tally));
        tally.lost = 3;
        assert!(ok(5, 108, &tally));
        assert!(!ok(5, 109, &tally));
    }
}
