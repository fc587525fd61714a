//! The process that takes this one's place, at `SIGUSR2`.
//!
//! It is this process: once everything is on disk and closed, it executes the binary that is at its path by then, and
//! passes the listening sockets on. So its id stays, which supervisors and scripts know it by, there is never a moment with
//! two processes or with none, and the ledger's lock cannot be held by the one while the other wants it. What a fork would
//! save, the time of a start, cannot be had anyway: the ledger opens only once it was closed.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::inherited::{FROM_SYSTEMD, HANDED_OVER};

/// How long the new binary may take to say that it would start.
const CHECK_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// What the process was started as.
#[derive(Clone)]
pub(super) struct Successor {
    program: PathBuf,
    args: Vec<OsString>,
    /// Descriptors that it was started with, beside the standard ones and the sockets that it serves. Arguments and environment
    /// may name them, as `MILLRACE_PASSPHRASE_FD` does, and mean the same to the next process.
    given: Vec<RawFd>,
    /// Where it might run before it left cores to its shards.
    cores: Option<CpuSet>,
}

impl Successor {
    /// Call it before the process opens anything and changes where it may run, and after it took over what sockets it was passed.
    ///
    /// # Errors
    /// The system does not say what runs here, or what is open.
    pub fn of_this_process() -> io::Result<Self> {
        let mut args = env::args_os();
        let called = args.next().map(PathBuf::from).unwrap_or_default();
        // The path it was called by rather than the file that this was: a link may name another one by then.
        let program = if called.components().count() > 1 {
            std::path::absolute(called)?
        } else {
            env::current_exe()?
        };
        Ok(Self {
            program,
            args: args.collect(),
            given: given()?,
            cores: sched_getaffinity(None).ok(),
        })
    }

    /// Whether what is at the path now would start with these arguments.
    ///
    /// # Errors
    /// Why not, as it says itself.
    pub fn check(&self) -> Result<(), String> {
        let at = |error: io::Error| format!("{}: {error}", self.program.display());
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .arg("--check")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(at)?;
        let deadline = Instant::now() + CHECK_WITHIN;
        while child.try_wait().map_err(at)?.is_none() {
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "{} --check does not end within {CHECK_WITHIN:?}",
                    self.program.display()
                ));
            }
            thread::sleep(CHECK_EVERY);
        }
        let output = child.wait_with_output().map_err(at)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default().trim();
        Err(format!("{} --check: {}, {last}", self.program.display(), output.status))
    }

    /// Becomes it. All that this process has open and does not pass on is closed.
    ///
    /// Gives back why it could not.
    pub fn become_it<L: AsRawFd, C: AsRawFd>(
        &self,
        listeners: &[L],
        connections: &[C],
        from_systemd: bool,
    ) -> io::Error {
        let kept = listeners.iter().map(AsRawFd::as_raw_fd);
        let kept = kept.chain(connections.iter().map(AsRawFd::as_raw_fd));
        let kept: Vec<RawFd> = kept.chain(self.given.iter().copied()).collect();
        if let Err(error) = pass_on(&kept) {
            return error;
        }
        if let Some(cores) = &self.cores
            && let Err(error) = sched_setaffinity(None, cores)
        {
            tracing::warn!(%error, "the next process may run where this one may, and nowhere else");
        }
        // SAFETY: `signal` with `SIG_IGN` installs no function of ours, and touches no memory. An impatient second SIGUSR2
        // must not end the process before it catches them: what is ignored stays so.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        let handed_over = format!(
            "{}:{}:{}:{}",
            std::process::id(),
            numbers(listeners.iter().map(AsRawFd::as_raw_fd)),
            numbers(connections.iter().map(AsRawFd::as_raw_fd)),
            if from_systemd { FROM_SYSTEMD } else { "" }
        );
        Command::new(&self.program)
            .args(&self.args)
            .env(HANDED_OVER, handed_over)
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .exec()
    }
}

/// What execution leaves open, of all that is.
fn given() -> io::Result<Vec<RawFd>> {
    let is_given = |fd: &RawFd| {
        // SAFETY: only its flag is read here, and the call fails where it is not open any more.
        let open = unsafe { BorrowedFd::borrow_raw(*fd) };
        fcntl_getfd(open).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
    };
    Ok(open_descriptors()?.into_iter().filter(is_given).collect())
}

/// Marks every descriptor as one that execution closes, but for the standard ones and those `kept`. Not everything was
/// opened so: glommio accepts without it.
fn pass_on(kept: &[RawFd]) -> io::Result<()> {
    for fd in open_descriptors()? {
        let flags = if kept.contains(&fd) {
            FdFlags::empty()
        } else {
            FdFlags::CLOEXEC
        };
        // SAFETY: only its flag is set here, and the call fails where it is not open any more.
        let open = unsafe { BorrowedFd::borrow_raw(fd) };
        // What was listed and is closed by now needs no mark.
        let _ = fcntl_setfd(open, flags);
    }
    Ok(())
}

/// All that the process has open, but for the standard descriptors.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut open = Vec::new();
    for entry in Path::new("/proc/self/fd").read_dir()? {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    open.retain(|fd| *fd > 2);
    Ok(open)
}

fn numbers(fds: impl Iterator<Item = RawFd>) -> String {
    fds.map(|fd| fd.to_string()).collect::<Vec<_>>().join(",")
}
