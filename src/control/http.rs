//! Metrics over HTTP: `GET /metrics`, and `GET /healthz` for who only wants to know whether the pool is well.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::metrics::{CONTENT_TYPE, Metrics};
use super::pool::Pool;
use crate::ledger::HealthState;

/// Connections at a time; what comes past it waits in the backlog. A scraper needs one.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may move no byte; above the minute that scrapers usually rest, so that they keep theirs.
const IDLE: Duration = Duration::from_secs(120);

/// Serves for as long as the runtime does.
pub(super) async fn serve(listener: std::net::TcpListener, pool: Arc<Pool>) {
    let served = match Bounded::new(listener) {
        Ok(listener) => axum::serve(listener, routes(pool)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the metrics cannot be served");
    }
}

struct Pages {
    metrics: Metrics,
    pool: Arc<Pool>,
}

fn routes(pool: Arc<Pool>) -> Router {
    let pages = Pages {
        metrics: Metrics::new(&pool),
        pool,
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .fallback(nothing_here)
        .with_state(Arc::new(pages))
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    match pages.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    match pages.pool.health() {
        HealthState::Good => "good\n".into_response(),
        HealthState::DiskLow { free, floor } => {
            let why = format!("the disk has {free} bytes left, below its floor of {floor}\n");
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
        HealthState::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn nothing_here() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "nothing here; there are /metrics and /healthz\n")
}

/// A listener that holds no more than [`CONNECTIONS_MAX`] connections, none of them idle for longer than [`IDLE`].
struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Bounded {
    fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self
            .room
            .clone()
            .acquire_owned()
            .await
            .expect("nobody closes the semaphore");
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let connection = Connection {
            stream,
            idle: Box::pin(sleep(IDLE)),
            _place: place,
        };
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    /// Runs out when no byte has moved for too long.
    idle: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Passes on what the socket did; where it did nothing, fails once that has lasted too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return done;
        }
        self.idle
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, done)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
