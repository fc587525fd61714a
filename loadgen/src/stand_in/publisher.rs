//! ZMQ as bitcoind publishes it: `hashblock`, the hash as people read it, and a number that counts up.

use std::sync::mpsc as replies;
use std::thread;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

const TOPIC: &str = "hashblock";

/// Tells subscribers of blocks, on a thread of its own.
pub struct Publisher(UnboundedSender<[u8; 32]>);

impl Publisher {
    /// Binds the socket. Where it listens comes back, as subscribers want it.
    ///
    /// # Errors
    /// It cannot listen there.
    pub fn start(endpoint: &str) -> Result<(Self, String), String> {
        let (tell, mut told) = unbounded_channel::<[u8; 32]>();
        let (say, bound) = replies::channel();
        let endpoint = endpoint.to_owned();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async move {
                let mut socket = PubSocket::new();
                let bound = socket.bind(&endpoint).await;
                let failed = bound.is_err();
                let _ = say.send(
                    bound
                        .map(|at| at.to_string())
                        .map_err(|error| format!("{endpoint}: {error}")),
                );
                if failed {
                    return;
                }
                let mut number = 0_u32;
                while let Some(mut hash) = told.recv().await {
                    hash.reverse();
                    let mut message = ZmqMessage::from(TOPIC);
                    message.push_back(hash.to_vec().into());
                    message.push_back(number.to_le_bytes().to_vec().into());
                    number = number.wrapping_add(1);
                    // A subscriber that is gone or slow is its own problem.
                    let _ = socket.send(message).await;
                }
            });
        });
        let endpoint = bound.recv().map_err(|error| error.to_string())??;
        Ok((Self(tell), endpoint))
    }

    pub fn tell(&self, hash: [u8; 32]) {
        // The thread lives as long as the process.
        let _ = self.0.send(hash);
    }
}
