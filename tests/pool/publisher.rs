//! A ZMQ publisher, as bitcoind has one for each topic. It goes with its value, and another may take its place.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use super::PATIENCE;

pub struct Publisher {
    /// None once it is to end.
    tell: Option<UnboundedSender<ZmqMessage>>,
    /// As subscribers want it.
    pub endpoint: String,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// At a free port.
    pub fn start() -> Self {
        Self::at("tcp://127.0.0.1:0")
    }

    pub fn at(endpoint: &str) -> Self {
        let (tell, mut told) = unbounded_channel();
        let (say, bound) = mpsc::channel();
        let endpoint = endpoint.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut socket = PubSocket::new();
                // A port that was let go of may be some connection's for a moment.
                let began = Instant::now();
                let at = loop {
                    match socket.bind(&endpoint).await {
                        Ok(at) => break at,
                        Err(error) => assert!(began.elapsed() < PATIENCE, "{endpoint}: {error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                };
                say.send(at.to_string()).expect("the test waits for it");
                while let Some(message) = told.recv().await {
                    socket.send(message).await.expect("it is published");
                }
            });
        });
        Self {
            endpoint: bound.recv().expect("it listens"),
            tell: Some(tell),
            thread: Some(thread),
        }
    }

    /// To whoever is there.
    pub fn tell(&self, topic: &str, body: Vec<u8>) {
        let mut message = ZmqMessage::from(topic);
        message.push_back(body.into());
        let tell = self.tell.as_ref().expect("until it ends");
        tell.send(message).expect("the thread lives as long");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.tell.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
