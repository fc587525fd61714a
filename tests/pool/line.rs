//! A blocking connection to the pool, and bytes to send on it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use millrace::wire::{GatewayInbound, Header};
use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// A TCP connection on which every wait ends.
pub struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
    /// All that was written, to be replayed.
    pub sent: Vec<u8>,
}

impl Line {
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the pool accepts connections"))
    }

    /// From an address of the loopback network, with a port of its own.
    pub fn open_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .expect("a loopback address");
        socket.connect(&address.into()).expect("the pool accepts connections");
        Self::over(socket.into())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            unread: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn write(&mut self, bytes: &[u8]) {
        assert!(self.write_unless_closed(bytes), "the pool has closed the connection");
    }

    /// False where the pool has closed the connection.
    pub fn write_unless_closed(&mut self, bytes: &[u8]) -> bool {
        self.sent.extend_from_slice(bytes);
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if is_end(error.kind()) => false,
            Err(error) => panic!("cannot write: {error}"),
        }
    }

    /// No more bytes will come from here.
    pub fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Reads to the end of the connection.
    pub fn wait_for_close(&mut self) {
        while self.fill() {}
    }

    /// Reads some bytes; false at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16_384];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if is_end(error.kind()) => false,
            Err(error) => panic!("nothing comes from the pool: {error}"),
        }
    }

    /// The next whole frame, as `inbound` reads its header; none at the end of the connection.
    pub(super) fn frame(&mut self, inbound: &GatewayInbound) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some((header, len)) = inbound.frame(&self.unread).expect("a header under the next key")
                && len <= self.unread.len()
            {
                let rest = self.unread.split_off(len);
                return Some((header, std::mem::replace(&mut self.unread, rest)));
            }
            if !self.fill() {
                return None;
            }
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

/// Bytes that are no text, no frame, and the same in each run.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
