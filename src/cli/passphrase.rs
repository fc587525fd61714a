//! Where the passphrase of the keys comes from: a file, a descriptor, systemd, or whoever sits at the terminal. Never from
//! the command line or the environment itself, which others can read.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use millrace::identity::{Asked, PASSPHRASE_MAX, Passphrase};
use zeroize::Zeroizing;

/// Names a descriptor that is open already, such as `3`, from which the passphrase is read.
const DESCRIPTOR: &str = "MILLRACE_PASSPHRASE_FD";

/// Where systemd puts credentials, and ours among them.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "millrace-passphrase";

#[derive(Debug, Args)]
pub struct PassphraseFrom {
    /// The first line of this file is the passphrase of the keys, where they have one. Without it: the descriptor that
    /// $MILLRACE_PASSPHRASE_FD names, systemd's credential `millrace-passphrase`, or the terminal
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseFrom {
    /// The passphrase that the keys are protected by.
    pub fn ask(&self) -> Asked {
        match self.without_terminal()? {
            Some(passphrase) => Ok(passphrase),
            None => prompt("passphrase of the pool's keys: "),
        }
    }

    /// One that is to protect them, typed twice where it is typed.
    pub fn ask_new(&self) -> Asked {
        match self.without_terminal()? {
            Some(passphrase) => Ok(passphrase),
            None => ask_twice(),
        }
    }

    fn without_terminal(&self) -> Result<Option<Passphrase>, Box<dyn Error + Send + Sync>> {
        if let Some(file) = &self.passphrase_file {
            return read(file).map(Some);
        }
        if let Some(number) = env::var_os(DESCRIPTOR) {
            let number = number.to_str().and_then(|text| text.parse::<u32>().ok());
            let number = number.ok_or(format!("${DESCRIPTOR} is no number of a descriptor"))?;
            return read(Path::new(&format!("/proc/self/fd/{number}"))).map(Some);
        }
        let credential = env::var_os(CREDENTIALS).map(|folder| Path::new(&folder).join(CREDENTIAL));
        match credential.filter(|path| path.exists()) {
            Some(path) => read(&path).map(Some),
            None => Ok(None),
        }
    }
}

/// A new one from the terminal.
pub fn ask_twice() -> Asked {
    let passphrase = prompt("new passphrase of the pool's keys: ")?;
    if !prompt("the same again: ")?.is(&passphrase) {
        return Err("the two are not the same".into());
    }
    Ok(passphrase)
}

/// The first line of a file, a pipe or a descriptor, without its end.
pub fn read(path: &Path) -> Asked {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let line = first_line(open_private(path)?, PASSPHRASE_MAX).map_err(named)?;
    Passphrase::new(line).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Opens what holds a secret.
///
/// # Errors
/// It cannot be opened, or it is a file that others than its owner may read.
pub fn open_private(path: &Path) -> Result<File, Box<dyn Error + Send + Sync>> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(named)?;
    let metadata = file.metadata().map_err(named)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        let path = path.display();
        return Err(
            format!("{path} has mode {mode:04o}: others may read the secret in it; run `chmod 600 {path}`").into(),
        );
    }
    Ok(file)
}

/// Up to `max` bytes and one more, so that a longer line is told from one that fits; in memory that is wiped.
pub fn first_line(mut from: impl Read, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(max + 1));
    let mut byte = Zeroizing::new([0]);
    while line.len() <= max {
        match from.read(&mut *byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn prompt(question: &str) -> Asked {
    if !io::stdin().is_terminal() {
        return Err(format!(
            "nobody can be asked, as there is no terminal; give --passphrase-file FILE, ${DESCRIPTOR}, or the credential \
             `{CREDENTIAL}` of systemd"
        )
        .into());
    }
    let typed = rpassword::prompt_password(question)?;
    Ok(Passphrase::new(Zeroizing::new(typed.into_bytes()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts_and_no_more_than_fits() {
        let line = |text: &[u8], max| first_line(text, max).expect("bytes in memory").to_vec();
        assert_eq!(line(b"word\nmore", 9), b"word");
        assert_eq!(line(b"word\r\n", 9), b"word");
        assert_eq!(line(b" spaces count ", 99), b" spaces count ");
        assert_eq!(line(b"", 9), b"");
        assert_eq!(line(b"0123456789", 4), b"01234");
    }
}
