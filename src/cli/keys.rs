//! `millrace keys`: makes, shows, adds, retires and protects the pool's long-term keys.
//!
//! All of it works on the file in the data folder, and then has the pool that runs there read it again.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use millrace::control::SOCKET_NAME;
use millrace::identity::{self, Editor, Identity, PublicEntry, PublicHalf, SEED_DIGITS};
use millrace::wire::{PublicKeys, SecretKeys};
use serde_json::{Value, json};

use super::passphrase::{first_line, open_private};
use super::{Answered, DataDir, PassphraseFrom, control, passphrase};

/// Hex digits of a key that name it at least, so that no slip retires another.
const NAME_MIN: usize = 8;

#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make keys where there are none
    New {
        /// Protect them with a passphrase
        #[arg(long)]
        protect: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print the public keys, newest first, as gateways have them in `pool_pubkey`, and who is on which
    Show {
        /// One JSON object, with what a gateway's configuration takes
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// Add a new key. Gateways on the older ones are served as before, and told of it
    Rotate(Common),
    /// Take a key away: gateways that still have it are refused when they next connect
    Retire {
        /// Its first hex digits, 8 at least
        key: String,
        /// Even while gateways are on it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Take over keys of another pool: 128 hex digits, the Ed25519 seed and then the X25519 secret. The newest key from then
    /// on
    Import {
        /// Where they are; `-` is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Serve gateways that have it beside the newest key, which stays
        #[arg(long)]
        former: bool,
        /// Protect the keys with a passphrase, where it is the first
        #[arg(long)]
        protect: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Protect the keys with another passphrase
    Passphrase {
        /// With none instead
        #[arg(long)]
        remove: bool,
        /// The first line of this file is the new one; without it the terminal is asked
        #[arg(long, value_name = "FILE", conflicts_with = "remove")]
        new_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

pub fn run(args: &Keys) -> Answered {
    match &args.what {
        What::New { protect, common } => {
            let made = common.create(None, *protect)?;
            println!("pool_pubkey {}", made.public());
        }
        What::Show { json, data_dir } => show(*json, data_dir)?,
        What::Rotate(common) => {
            let mut editor = common.edit()?;
            editor.add_newest(SecretKeys::generate()?)?;
            common.save(editor)?;
        }
        What::Retire { key, force, common } => retire(key, *force, common)?,
        What::Import {
            file,
            former,
            protect,
            common,
        } => import(file, *former, *protect, common)?,
        What::Passphrase {
            remove,
            new_passphrase_file,
            common,
        } => {
            let mut editor = common.edit()?;
            let passphrase = match (remove, new_passphrase_file) {
                (true, _) => None,
                (false, Some(file)) => Some(passphrase::read(file)),
                (false, None) => Some(passphrase::ask_twice()),
            };
            editor.protect(passphrase.transpose().map_err(|error| error.to_string())?.as_ref())?;
            // A running pool has the keys already, and reads the file with the new passphrase at its next start.
            editor.save()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(as_json: bool, data_dir: &DataDir) -> Result<(), Box<dyn Error>> {
    let half = identity::public_half(&data_dir.path)?;
    let counts = running(data_dir, false)?;
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", shown_as_json(&half, counts.as_deref()))?;
        return Ok(());
    }
    for (at, key) in half.keys.iter().enumerate() {
        let name = if at == 0 { "pool_pubkey" } else { "former_pubkey" };
        writeln!(out, "{name} {}", key.keys)?;
    }
    for count in counts.iter().flatten() {
        let name = count["pool_pubkey"].as_str().and_then(|key| key.get(..16));
        writeln!(
            out,
            "sessions {} on {} ({})",
            count["sessions"],
            name.unwrap_or_default(),
            count["state"].as_str().unwrap_or_default()
        )?;
    }
    Ok(())
}

/// For an operator's page: what gateways paste stands under `datum`, as in their configuration.
fn shown_as_json(half: &PublicHalf, counts: Option<&[Value]>) -> Value {
    let sessions = |key: &PublicKeys| {
        let name = key.to_string();
        let found = counts?.iter().find(|count| count["pool_pubkey"] == name.as_str());
        found.map(|count| count["sessions"].clone())
    };
    let key = |entry: &PublicEntry| {
        json!({
            "pool_pubkey": entry.keys.to_string(),
            "added_s": entry.added_s,
            "sessions": sessions(&entry.keys),
        })
    };
    json!({
        "datum": { "pool_pubkey": half.keys[0].keys.to_string() },
        "keys": half.keys.iter().map(key).collect::<Vec<_>>(),
        "passphrase": half.is_locked,
    })
}

fn retire(name: &str, force: bool, common: &Common) -> Result<(), Box<dyn Error>> {
    let mut editor = common.edit()?;
    let key = named(name, &editor.identity().public_half())?;
    editor.retire(&key)?;
    let on_it = running(&common.data_dir, false)?.and_then(|counts| {
        let found = counts
            .iter()
            .find(|count| count["pool_pubkey"] == key.to_string().as_str());
        found.and_then(|count| count["sessions"].as_u64())
    });
    if let Some(sessions @ 1..) = on_it
        && !force
    {
        return Err(format!(
            "{sessions} sessions are on this key, and would be refused when they next connect. Their gateways have been told \
             of the newest. Wait until they have changed (`millrace keys show`), or give --force"
        )
        .into());
    }
    common.save(editor)
}

fn named(name: &str, half: &PublicHalf) -> Result<PublicKeys, String> {
    let name = name.to_ascii_lowercase();
    if name.len() < NAME_MIN {
        return Err(format!(
            "name the key by its first {NAME_MIN} hex digits or more, as `millrace keys show` has them"
        ));
    }
    let mut found = half
        .keys
        .iter()
        .filter(|entry| entry.keys.to_string().starts_with(&name));
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key.keys),
        (None, _) => Err(format!(
            "no key begins with {name}; `millrace keys show` has those there are"
        )),
        (Some(_), Some(_)) => Err(format!("more than one key begins with {name}; give more digits")),
    }
}

fn import(file: &Path, former: bool, protect: bool, common: &Common) -> Result<(), Box<dyn Error>> {
    let digits = if file.as_os_str() == "-" {
        first_line(io::stdin().lock(), SEED_DIGITS)?
    } else {
        first_line(open_private(file).map_err(|error| error.to_string())?, SEED_DIGITS)?
    };
    let keys = identity::from_seed_digits(&digits)
        .ok_or("seeds are one line of 128 hex digits: Ed25519 seed, then X25519 secret")?;
    match identity::public_half(&common.data_dir.path) {
        Err(identity::IdentityError::Missing(_)) => {
            let made = common.create(Some(keys), protect)?;
            println!("pool_pubkey {}", made.public());
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) if protect => Err("there are keys already; `millrace keys passphrase` protects them".into()),
        Ok(_) => {
            let mut editor = common.edit()?;
            if former {
                editor.add_former(keys)?;
            } else {
                editor.add_newest(keys)?;
            }
            common.save(editor)
        }
    }
}

impl Common {
    fn create(&self, first: Option<SecretKeys>, protect: bool) -> Result<Identity, Box<dyn Error>> {
        // Whoever names a file with a passphrase wants one.
        let passphrase = if protect || self.passphrase.passphrase_file.is_some() {
            Some(self.passphrase.ask_new().map_err(|error| error.to_string())?)
        } else {
            None
        };
        Ok(Identity::create(&self.data_dir.path, first, passphrase.as_ref())?)
    }

    fn edit(&self) -> Result<Editor, Box<dyn Error>> {
        Ok(Editor::open(&self.data_dir.path, || self.passphrase.ask())?)
    }

    /// Writes the file, prints the newest key, and has a running pool read it.
    fn save(&self, editor: Editor) -> Result<(), Box<dyn Error>> {
        let saved = editor.save()?;
        println!("pool_pubkey {}", saved.public());
        match running(&self.data_dir, true) {
            Ok(Some(_)) => eprintln!("the running pool serves these keys from now on"),
            Ok(None) => eprintln!("no pool runs here; it serves these keys from its next start on"),
            Err(error) => {
                return Err(format!("the keys are on disk, but the running pool has not taken them: {error}").into());
            }
        }
        Ok(())
    }
}

/// The keys of the pool that runs on the data folder, with their sessions; none where none runs. `reload` has it read them
/// from disk first.
fn running(data_dir: &DataDir, reload: bool) -> Result<Option<Vec<Value>>, Box<dyn Error>> {
    let socket = data_dir.path.join(SOCKET_NAME);
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("{}: {error}", socket.display()).into()),
    }
    let answer = control::exchange(data_dir, &json!({ "cmd": "keys", "reload": reload }))?;
    let mut answer: Value = serde_json::from_str(&answer)?;
    match answer["keys"].take() {
        Value::Array(keys) => Ok(Some(keys)),
        _ => Err(answer["error"].as_str().unwrap_or("no answer").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(seeds: &[u8]) -> PublicHalf {
        let entry = |seed: &u8| PublicEntry {
            keys: SecretKeys::from_seeds(&[*seed; 64]).public(),
            added_s: 7,
        };
        PublicHalf {
            keys: seeds.iter().map(entry).collect(),
            is_locked: false,
        }
    }

    #[test]
    fn a_key_is_named_by_enough_digits_that_are_its_own() {
        let half = half(&[1, 2]);
        let second = half.keys[1].keys;
        let text = second.to_string();
        assert_eq!(named(&text[..NAME_MIN], &half), Ok(second));
        assert_eq!(named(&text.to_uppercase(), &half), Ok(second));
        assert!(named(&text[..NAME_MIN - 1], &half).is_err());
        assert!(named(&format!("{text}0"), &half).is_err());
        assert!(named("0000000000", &half).is_err());
    }

    #[test]
    fn what_gateways_paste_is_the_newest_key() {
        let half = half(&[1, 2]);
        let text = half.keys[1].keys.to_string();
        let counts = [json!({ "pool_pubkey": text, "sessions": 3 })];
        let shown = shown_as_json(&half, Some(&counts));
        assert_eq!(shown["datum"]["pool_pubkey"], half.keys[0].keys.to_string());
        assert_eq!(shown["keys"][1]["sessions"], 3);
        assert_eq!(shown["keys"][0]["sessions"], Value::Null);
        assert_eq!(shown["passphrase"], false);
    }
}
