//! What the pool says to a supervisor that listens, as systemd does with `Type=notify` (sd_notify(3)).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// It serves.
pub(super) fn ready() {
    say("READY=1");
}

/// It stops.
pub(super) fn stopping() {
    say("STOPPING=1");
}

/// Another process takes its place under the same id, and will say when it serves.
pub(super) fn reloading() {
    let now_us = millrace::ledger::monotonic_ns() / 1_000;
    say(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
}

/// Nobody may listen, and nothing depends on it.
fn say(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let said = || -> io::Result<()> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
        Ok(())
    };
    if let Err(error) = said() {
        tracing::warn!(%error, "cannot tell the supervisor {state}");
    }
}
