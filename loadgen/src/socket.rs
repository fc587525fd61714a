//! Sockets as many connections from one machine need them.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mio::net::TcpStream;

/// Starts to connect without waiting, from `source` where one is given.
///
/// # Errors
/// What the system says; a refusal mostly comes later, on the socket.
pub fn connect(pool: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect(pool)?,
        Some(source) => connect_from(pool, source)?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has the connection end with a reset, so that its port is free at once.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Only a saving of ports: without it closing works too.
    set(stream, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// Has the system take little of what this side does not read. Where it may take nothing at all it drops what comes whole, and with
/// it the word that what this side has sent has arrived.
pub fn take_little(stream: &TcpStream) {
    let bytes: libc::c_int = 16 * 1_024;
    set(stream, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes);
}

/// Nothing is there to be read, or no room to write, or the connection itself is not there yet.
pub fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}

/// Sets an option; where the system does not take it, all stays as it was. `T` is what the option is made of.
fn set<T>(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: &T) {
    // SAFETY: the value lives through the call, which reads no more than its length of it.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        );
    }
}

/// Lets this process open as many files as it may; says how many.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit that lives through both calls, which read or write nothing else.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        }
    }
    limit.rlim_cur
}

/// CPU time of this process, user and system, in s; and the most memory it held, in KiB.
pub fn used() -> (f64, u64) {
    // SAFETY: an rusage of zeros is a valid value, and getrusage writes within it alone.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (
        seconds(usage.ru_utime) + seconds(usage.ru_stime),
        u64::try_from(usage.ru_maxrss).unwrap_or(0),
    )
}

fn connect_from(pool: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let family = if pool.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointers, and the descriptor it makes is owned by nobody else.
    let socket = unsafe {
        let fd = libc::socket(family, kind, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // The port is found at connecting, so that all ports can serve once for each destination. Only a saving of ports:
    // without it binding works too.
    let yes: libc::c_int = 1;
    set(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &yes);
    with_address(SocketAddr::new(source, 0), |address, len| {
        // SAFETY: `address` points to `len` bytes of a socket address that lives through the call.
        unsafe { libc::bind(socket.as_raw_fd(), address, len) }
    })?;
    let connected = with_address(pool, |address, len| {
        // SAFETY: `address` points to `len` bytes of a socket address that lives through the call.
        unsafe { libc::connect(socket.as_raw_fd(), address, len) }
    });
    match connected {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Calls with the address as the system wants it.
fn with_address(
    address: SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> libc::c_int,
) -> io::Result<()> {
    let result = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*v4.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
