//! What is said to a gateway that the policy does not admit: the handshake, a line for its log, and the end.
//!
//! All that a gateway prints of what a pool says stands behind the handshake, so that is what a reason costs: as much as any
//! newcomer, and no session, no `prime_id` and no entry of the ledger. How often an address may have it, whatever it is denied
//! for, is a guard's ([`crate::guard::Guards::tell`]).

use std::io;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

use super::session::LEAVE_MS;
use crate::telemetry::EndReason;
use crate::wire::{ChannelKey, Hello, Outbound};

/// Bytes read at once of what nobody will hear.
const VOID_BYTES: usize = 1_024;

/// Says the sealed response and why the gateway may not stay, and waits for it to close, for a while.
pub(super) async fn say(mut stream: TcpStream, hello: &Hello, key: &ChannelKey, response: &[u8], reason: EndReason) {
    let mut outbound = Outbound::pool(hello);
    let mut said = Vec::new();
    outbound.response(response, &mut said);
    if let Some(line) = reason.line_for_gateway() {
        outbound.info(key, line, &mut said);
    }
    let late = async {
        glommio::timer::sleep(Duration::from_millis(LEAVE_MS)).await;
        Ok(())
    };
    // Who is gone hears nothing.
    let _ = or(take_leave(&mut stream, &said), late).await;
}

/// Closing first, with bytes unread, would reset the connection and could take the line with it.
async fn take_leave(stream: &mut TcpStream, said: &[u8]) -> io::Result<()> {
    stream.write_all(said).await?;
    stream.close().await?;
    let mut void = [0; VOID_BYTES];
    while stream.read(&mut void).await? > 0 {
        glommio::yield_if_needed().await;
    }
    Ok(())
}
