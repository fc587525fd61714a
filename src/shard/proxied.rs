//! Connections through a proxy: the header in front of them says whose each is.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use glommio::net::TcpStream;

use super::Shard;
use super::reading::read_by;
use crate::telemetry::EndReason;
use crate::wire::{ProxyLead, ProxySource, proxy_header};

/// How long a proxy may take until its header is complete: it sends it in one piece, before anything else.
pub const PROXY_DEADLINE: Duration = Duration::from_secs(3);

/// Reads the header off the front of the connection: whose it is, or none where it is the proxy's own. `buffer` has room for
/// [`crate::wire::PROXY_MAX`] bytes; what was read behind the header stays in it, `filled` bytes.
///
/// # Errors
/// It is none, or was not complete in time.
pub(super) async fn whose(
    shard: &Shard,
    stream: &mut TcpStream,
    buffer: &mut [u8],
    filled: &mut usize,
    accepted: Instant,
    is_dry: &Cell<bool>,
) -> Result<Option<SocketAddr>, EndReason> {
    let deadline = accepted + PROXY_DEADLINE;
    let mut is_late = false;
    loop {
        match proxy_header(&buffer[..*filled]).map_err(|_| EndReason::ProxyHeader)? {
            ProxyLead::Need(_) if is_late => return Err(EndReason::ProxyHeader),
            ProxyLead::Need(_) => {}
            ProxyLead::Whole(source, len) => {
                buffer.copy_within(len..*filled, 0);
                *filled -= len;
                return Ok(match source {
                    ProxySource::Local => None,
                    ProxySource::Peer(peer) => Some(peer),
                });
            }
        }
        // What is needed is at most PROXY_MAX, so there is room.
        let read = read_by(deadline, stream, &mut buffer[*filled..], is_dry).await;
        let read = read.map_err(|_| EndReason::ReadError)?.ok_or(EndReason::ProxyHeader)?;
        if read == 0 {
            return Err(EndReason::PeerClosed);
        }
        shard.telemetry.bytes_in.add(read as u64);
        *filled += read;
        is_late = Instant::now() > deadline;
    }
}
