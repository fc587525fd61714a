//! Who may mine, while the pool runs: the rules of its configuration, and those that were given to it since, which outlive it
//! in the file `policy` of the data folder.
//!
//! ```text
//! millrace policy 1
//! deny-address 203.0.113.0/24      a rule a line
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use thiserror::Error;

use super::store;
use crate::work::{Policy, RULES_MAX, Rule, RuleError};

const FILE: &str = "policy";
const HEAD: &str = "millrace policy 1";

/// Bytes of the file: as many rules as there may be, each as long as it may be.
const FILE_MAX: u64 = RULES_MAX as u64 * 512;

/// What the control plane knows of the policy.
#[derive(Debug)]
pub struct PolicyDesk {
    path: PathBuf,
    configured: Vec<Rule>,
    given: Mutex<Vec<Rule>>,
}

/// Why rules cannot be read, or changed. As text it says what to do.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("cannot {what} {path}: {error}")]
    Io {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("{0} does not begin with `{HEAD}`: another program wrote it, or a newer millrace; move it away")]
    Head(PathBuf),
    #[error("{path}: {error}; correct the line, or remove it")]
    File { path: PathBuf, error: RuleError },
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error("`{0}` is a rule already")]
    There(Rule),
    #[error("`{0}` stands in the configuration; remove it there, and start the pool again")]
    Configured(Rule),
    #[error("there is no rule `{0}`")]
    Missing(Rule),
}

/// A rule for people and their programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownRule {
    pub rule: String,
    /// `configuration` or `given`.
    pub from: &'static str,
}

impl PolicyDesk {
    /// # Errors
    /// The file is there and cannot be used: a pool that forgot whom it denies would be the worse surprise.
    pub fn open(data_dir: &Path, configured: Vec<Rule>) -> Result<Self, PolicyError> {
        let path = data_dir.join(FILE);
        let given = read(&path)?;
        Policy::new(configured.iter().chain(&given))?;
        Ok(Self {
            path,
            configured,
            given: Mutex::new(given),
        })
    }

    /// What is in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        let policy = Policy::new(self.configured.iter().chain(&*self.given()));
        Arc::new(policy.expect("counted when they were taken"))
    }

    #[must_use]
    pub fn shown(&self) -> Vec<ShownRule> {
        let shown = |from| {
            move |rule: &Rule| ShownRule {
                rule: rule.to_string(),
                from,
            }
        };
        let configured = self.configured.iter().map(shown("configuration"));
        configured.chain(self.given().iter().map(shown("given"))).collect()
    }

    /// On return the rule is on disk.
    ///
    /// # Errors
    /// It is there already, or one too many, or the file cannot be written: then nothing has changed.
    pub fn add(&self, rule: Rule) -> Result<(), PolicyError> {
        let mut given = self.given();
        if given.contains(&rule) || self.configured.contains(&rule) {
            return Err(PolicyError::There(rule));
        }
        let rules: Vec<Rule> = given.iter().cloned().chain([rule]).collect();
        Policy::new(self.configured.iter().chain(&rules))?;
        self.write(&rules)?;
        *given = rules;
        Ok(())
    }

    /// The same for a rule that goes.
    ///
    /// # Errors
    /// There is none such, or it stands in the configuration, or the file cannot be written.
    pub fn remove(&self, rule: &Rule) -> Result<(), PolicyError> {
        let mut given = self.given();
        if !given.contains(rule) {
            return Err(match self.configured.contains(rule) {
                true => PolicyError::Configured(rule.clone()),
                false => PolicyError::Missing(rule.clone()),
            });
        }
        let rules: Vec<Rule> = given.iter().filter(|kept| *kept != rule).cloned().collect();
        self.write(&rules)?;
        *given = rules;
        Ok(())
    }

    /// Whole and synced, or not at all.
    fn write(&self, rules: &[Rule]) -> Result<(), PolicyError> {
        let mut text = format!("{HEAD}\n");
        rules.iter().for_each(|rule| text += &format!("{rule}\n"));
        store::replace(&self.path, &text).map_err(failed("write", &self.path))
    }

    fn given(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Vec<Rule>, PolicyError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut text = String::new();
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(failed("read", path))?;
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(PolicyError::Head(path.to_owned()));
    }
    let rule = |line: &str| {
        line.parse().map_err(|error| PolicyError::File {
            path: path.to_owned(),
            error,
        })
    };
    lines.map(rule).collect()
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PolicyError {
    let path = path.to_owned();
    move |error| PolicyError::Io { what, path, error }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().expect(text)
    }

    #[test]
    fn rules_that_are_given_outlive_the_desk_and_those_of_the_configuration_stay_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let configured = vec![rule("deny-agent bad")];
        let desk = PolicyDesk::open(folder.path(), configured.clone()).expect("no file yet");
        desk.add(rule("deny-address 203.0.113.0/24")).expect("room");
        desk.add(rule("least-version 0.4.0")).expect("room");
        assert!(matches!(
            desk.add(rule("least-version 0.4.0")),
            Err(PolicyError::There(_))
        ));
        assert!(matches!(desk.add(rule("deny-agent bad")), Err(PolicyError::There(_))));
        desk.remove(&rule("least-version 0.4.0")).expect("it is there");
        assert!(matches!(
            desk.remove(&rule("least-version 0.4.0")),
            Err(PolicyError::Missing(_))
        ));
        assert!(matches!(
            desk.remove(&rule("deny-agent bad")),
            Err(PolicyError::Configured(_))
        ));

        let again = PolicyDesk::open(folder.path(), configured).expect("its own file");
        let shown: Vec<_> = again
            .shown()
            .into_iter()
            .map(|shown| (shown.rule, shown.from))
            .collect();
        let expected = [
            ("deny-agent bad", "configuration"),
            ("deny-address 203.0.113.0/24", "given"),
        ];
        assert_eq!(shown, expected.map(|(rule, from)| (rule.to_owned(), from)));
        assert!(again.policy().admit_address([203, 0, 113, 1].into()).is_err());
        assert!(again.policy().admit_agent("bad one").is_err());
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_not_guessed_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        fs::write(&path, "millrace policy 2\n").expect("a file");
        assert!(matches!(
            PolicyDesk::open(folder.path(), Vec::new()),
            Err(PolicyError::Head(_))
        ));
        fs::write(&path, format!("{HEAD}\ndeny-address nowhere\n")).expect("a file");
        let error = PolicyDesk::open(folder.path(), Vec::new())
            .expect_err("no rule")
            .to_string();
        assert!(
            error.contains("nowhere") && error.contains("correct the line"),
            "{error}"
        );
    }
}
