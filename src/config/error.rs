//! What is wrong with a configuration: where, which key, what, and the remedy.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// A configuration that a pool does not start with. As text it is one line that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigError {
    pub(super) place: Place,
    pub(super) key: Option<String>,
    pub(super) wrong: String,
    pub(super) remedy: String,
}

/// Where it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The line counts from 1; none where the file does not say it.
    File {
        path: PathBuf,
        line: Option<usize>,
    },
    Flag(&'static str),
    Defaults,
}

impl ConfigError {
    /// The full name of the key, such as `pool.tag`; none where no key is to blame.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The line of the file, from 1, where a line of it is to blame.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Place::File { line, .. } => line,
            Place::Flag(_) | Place::Defaults => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line } => {
                write!(f, "{}", path.display())?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
            }
            Place::Flag(flag) => f.write_str(flag)?,
            Place::Defaults => f.write_str("default")?,
        }
        self.key.as_ref().map_or(Ok(()), |key| write!(f, ": {key}"))?;
        write!(f, ": {}. {}.", self.wrong, self.remedy)
    }
}

/// What a check says about one key, before it is known where that was said.
#[derive(Debug)]
pub(super) struct Fault {
    pub key: &'static str,
    pub wrong: String,
    pub remedy: String,
}

impl Fault {
    pub fn new(key: &'static str, wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            key,
            wrong: wrong.into(),
            remedy: remedy.into(),
        }
    }
}
