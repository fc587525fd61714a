//! A socket with what could not be read or written whole.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::socket;

/// Unsent bytes above which a gateway sends nothing more for now.
const UNSENT_MAX: usize = 128 * 1_024;

pub struct Connection {
    stream: TcpStream,
    established: bool,
    /// The start of a frame.
    unread: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

/// Why a read ended the connection.
#[derive(Debug)]
pub enum Ended<E> {
    Socket(io::Error),
    /// What was read was not to be.
    Content(E),
}

impl Connection {
    /// Starts to connect; events come under `token`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(pool: SocketAddr, source: Option<IpAddr>, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = socket::connect(pool, source)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            established: false,
            unread: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// After an event: whether the connection has just come to be.
    ///
    /// # Errors
    /// It failed.
    pub fn newly_established(&mut self) -> io::Result<bool> {
        if self.established {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.established = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the pool takes what is sent.
    pub fn is_clogged(&self) -> bool {
        self.unsent.len() > UNSENT_MAX
    }

    /// Writes `out` and leaves it empty; what the socket does not take is kept.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.unsent.is_empty() {
            let written = write_some(&mut self.stream, out)?;
            self.unsent.extend_from_slice(&out[written..]);
        } else {
            self.unsent.extend_from_slice(out);
        }
        out.clear();
        Ok(())
    }

    /// Writes what was kept.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let written = write_some(&mut self.stream, &self.unsent)?;
        self.unsent.drain(..written);
        if self.unsent.is_empty() {
            self.unsent.shrink_to(0);
        }
        Ok(())
    }

    /// Reads all there is. `take` says how many bytes it has used from the front, and gets the others again.
    ///
    /// # Errors
    /// The connection is at its end or broken, or `take` says so.
    pub fn read<E>(
        &mut self,
        buf: &mut [u8],
        mut take: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), Ended<E>> {
        loop {
            let kept = self.unread.len();
            buf[..kept].copy_from_slice(&self.unread);
            let read = match self.stream.read(&mut buf[kept..]) {
                Ok(0) => return Err(Ended::Socket(ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ended::Socket(error)),
            };
            let end = kept + read;
            let used = take(&mut buf[..end]).map_err(Ended::Content)?;
            self.unread.clear();
            self.unread.extend_from_slice(&buf[used..end]);
            if self.unread.is_empty() {
                self.unread.shrink_to(0);
            }
            // A short read of a stream has emptied it; the next bytes make an event of their own.
            if end < buf.len() {
                return Ok(());
            }
        }
    }
}

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
