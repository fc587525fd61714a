//! Listening sockets that were open before this process began: from systemd, or from the process whose place it takes.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use millrace::shard::{self, BACKLOG};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Socket, Type};

/// How one process of the pool tells the next: `PID:listeners:connections`, descriptors with commas between. The id is
/// that of the reader, so what a child inherits by accident means nothing to it.
pub(super) const HANDED_OVER: &str = "MILLRACE_HANDED_OVER";

/// Stands last in it where systemd has the sockets too.
pub(super) const FROM_SYSTEMD: &str = "systemd";

/// The first descriptor that systemd passes (sd_listen_fds(3)).
const LISTEN_FDS_START: RawFd = 3;

/// As many as shards there can be.
const SOCKETS_MAX: usize = 256;

/// What this process has of the sockets that were open before it.
#[derive(Default)]
pub(super) struct Inherited {
    pub listeners: Vec<Socket>,
    /// Accepted by the process before, and not read from.
    pub connections: Vec<OwnedFd>,
    /// systemd has them too, so that they outlive this process in any case.
    pub from_systemd: bool,
}

impl Inherited {
    /// Call once, before the process opens anything.
    ///
    /// # Errors
    /// What was passed is no listening TCP socket.
    pub fn take() -> Result<Self, String> {
        let pid = std::process::id().to_string();
        let (listeners, connections, from_systemd) = match of_predecessor(&pid)? {
            Some(handed_over) => handed_over,
            None => (of_systemd(&pid)?, Vec::new(), true),
        };
        let adopted = listeners.into_iter().map(|fd| adopt(fd).and_then(listening));
        Ok(Self {
            listeners: adopted
                .collect::<io::Result<Vec<_>>>()
                .map_err(|error| format!("the sockets that this process was started with: {error}"))?,
            connections: connections
                .into_iter()
                .map(adopt)
                .collect::<io::Result<_>>()
                .map_err(|error| format!("the connections that this process was started with: {error}"))?,
            from_systemd,
        })
    }

    /// The sockets to listen on, and where: those that are open already, or new ones. systemd's address counts, whatever
    /// the configuration says; of the process before only what still is where the configuration wants it.
    ///
    /// # Errors
    /// The address is taken, not ours, or needs a right that the process lacks.
    pub fn or_bind(&mut self, address: SocketAddr, shards: usize) -> io::Result<(SocketAddr, Vec<Socket>)> {
        let fits = |open: &SocketAddr| {
            let same_port = address.port() == 0 || open.port() == address.port();
            self.from_systemd || open.ip() == address.ip() && same_port
        };
        let first = self.listeners.first().and_then(|socket| address_of(socket).ok());
        match first {
            Some(open) if fits(&open) => {
                if open != address {
                    tracing::info!(%open, listen = %address, "listening where the sockets are that were passed");
                }
                Ok((open, std::mem::take(&mut self.listeners)))
            }
            found => {
                if let Some(open) = found {
                    tracing::warn!(%open, listen = %address, "listening elsewhere from now on; who waited there is turned away");
                    self.listeners.clear();
                    self.connections.clear();
                }
                shard::bind(address, shards)
            }
        }
    }
}

/// Sockets to listen on, connections that were accepted and not served, and whether the former are systemd's.
type HandedOver = (Vec<RawFd>, Vec<RawFd>, bool);

fn of_predecessor(pid: &str) -> Result<Option<HandedOver>, String> {
    let Ok(text) = env::var(HANDED_OVER) else {
        return Ok(None);
    };
    let mut parts = text.split(':');
    if parts.next() != Some(pid) {
        return Ok(None);
    }
    let numbers = |part: Option<&str>| {
        let numbers = part.unwrap_or_default().split(',').filter(|number| !number.is_empty());
        let numbers: Result<Vec<RawFd>, _> = numbers.map(str::parse).collect();
        numbers.map_err(|_| format!("{HANDED_OVER}={text}: no descriptors"))
    };
    let (listeners, connections) = (numbers(parts.next())?, numbers(parts.next())?);
    Ok(Some((listeners, connections, parts.next() == Some(FROM_SYSTEMD))))
}

fn of_systemd(pid: &str) -> Result<Vec<RawFd>, String> {
    if env::var("LISTEN_PID").ok().as_deref() != Some(pid) {
        return Ok(Vec::new());
    }
    let text = env::var("LISTEN_FDS").unwrap_or_default();
    let count = text.parse::<RawFd>().ok();
    let count = count.filter(|count| usize::try_from(*count).is_ok_and(|count| count <= SOCKETS_MAX));
    let count = count.ok_or(format!("LISTEN_FDS={text}: 0 to {SOCKETS_MAX} sockets"))?;
    Ok((LISTEN_FDS_START..LISTEN_FDS_START + count).collect())
}

/// Takes a descriptor that was passed.
fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < LISTEN_FDS_START {
        return Err(io::Error::other(format!("descriptor {fd} is not one that is passed")));
    }
    // SAFETY: only looked at here, and the call fails where it is not open.
    let open = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl_getfd(open)?;
    // SAFETY: it is open, and since `take` runs before this process opens anything it was passed to it, with its number
    // in the environment for this process alone; so nothing else here owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // No child is to have it.
    fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    Ok(owned)
}

fn listening(fd: OwnedFd) -> io::Result<Socket> {
    let socket = Socket::from(fd);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::other("not a listening TCP socket"));
    }
    address_of(&socket)?;
    // The same backlog, whoever made it.
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(false)?;
    Ok(socket)
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("not a TCP socket"))
}
