//! The node behind HTTP and ZMQ.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use bitcoin::ScriptBuf;
use bitcoin::hex::DisplayHex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::node::{Event, NodeError, Regtest};
use crate::rpc::{self, Desk, Faults, Request, RpcError};
use crate::zmq;

/// Bytes of a request, as bitcoind bounds it: a block in hex digits is 8 MB.
const BODY_MAX: usize = 32 << 20;

/// How long a wrong password waits, as with bitcoind.
const WRONG_PASSWORD: Duration = Duration::from_millis(250);

/// A long poll looks after the mempool only when it has waited so long, and then so often.
const LONG_POLL_PATIENCE: Duration = Duration::from_secs(60);
const LONG_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// What to serve.
#[derive(Debug, Clone)]
pub struct Serve {
    pub datadir: PathBuf,
    /// Port 0 takes a free one.
    pub rpc: SocketAddr,
    /// `tcp://…`, port 0 too.
    pub zmq: String,
    /// User and password beside the cookie.
    pub login: Option<(String, String)>,
    pub start_height: u32,
    /// Whom the blocks up to there pay; the node's own key where nobody is named.
    pub mine_to: Option<ScriptBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen for RPC on {0}: {1}")]
    Rpc(SocketAddr, io::Error),
    #[error("cannot publish ZMQ on {0}: {1}")]
    Zmq(String, zeromq::ZmqError),
    #[error("cannot write the cookie {0}: {1}")]
    Cookie(PathBuf, io::Error),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("cannot serve RPC: {0}")]
    Http(io::Error),
}

/// Serves until a signal or the call `stop`. `say` gets a line for each thing as soon as it is true.
///
/// # Errors
/// Something cannot be had; the message names it.
pub async fn serve(what: Serve, say: impl Fn(&str)) -> Result<(), ServeError> {
    let cookie = Cookie::write(&what.datadir)?;
    say(&format!("cookie {}", cookie.path.display()));
    let (socket, zmq) = zmq::bind(&what.zmq)
        .await
        .map_err(|error| ServeError::Zmq(what.zmq.clone(), error))?;
    say(&format!("zmq {zmq}"));
    let listener = TcpListener::bind(what.rpc)
        .await
        .map_err(|error| ServeError::Rpc(what.rpc, error))?;
    let address = listener
        .local_addr()
        .map_err(|error| ServeError::Rpc(what.rpc, error))?;
    say(&format!("rpc {address}"));

    let (events, to_publish) = mpsc::channel(zmq::EVENTS_MAX);
    let publishing = tokio::spawn(zmq::publish(socket, to_publish));
    let tips = watch::Sender::new(String::new());
    let silent = Arc::new(AtomicBool::new(false));
    let node = tokio::task::block_in_place(|| {
        let (tips, silent) = (tips.clone(), Arc::clone(&silent));
        let mut node = Regtest::open(&what.datadir, move |event| {
            match &event {
                Event::Tip(block) => drop(tips.send_replace(block.block_hash().to_string())),
                Event::Back(hash) => drop(tips.send_replace(hash.to_string())),
                _ => {}
            }
            if !silent.load(Ordering::Relaxed) {
                let _ = events.try_send(event);
            }
        })?;
        let script = what.mine_to.clone().unwrap_or_else(|| node.own_script());
        node.grow_to(what.start_height, &script)?;
        Ok::<_, NodeError>(node)
    })?;
    let tip = node.index().tip_hash().to_string();
    say(&format!("ready {} {tip}", node.index().height()));
    tips.send_replace(tip);

    let (stop, mut stopped) = watch::channel(false);
    let shop = Arc::new(Shop {
        logins: std::iter::once(cookie.login.clone())
            .chain(what.login.map(|(user, password)| format!("{user}:{password}")))
            .collect(),
        desk: Mutex::new(Desk {
            node,
            faults: Faults::default(),
            zmq,
            started: Instant::now(),
        }),
        tips,
        silent,
        stop,
    });
    let app = axum::Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::clone(&shop));
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(ServeError::Signals)?;
    let serving = async { axum::serve(listener, app).await };
    tokio::select! {
        served = serving => served.map_err(ServeError::Http)?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        // The answer to `stop` is on its way.
        _ = stopped.changed() => tokio::time::sleep(Duration::from_millis(100)).await,
    }
    publishing.abort();
    Ok(())
}

/// All that a request needs.
struct Shop {
    /// `user:password`
    logins: Vec<String>,
    desk: Mutex<Desk>,
    /// The hash of the tip.
    tips: watch::Sender<String>,
    silent: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
}

impl Shop {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // A call that panicked leaves a node that a test should see fail by its answers, not by its silence.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
            .and_then(|login| base64::engine::general_purpose::STANDARD.decode(login.trim()).ok());
        given.is_some_and(|given| self.logins.iter().any(|login| login.as_bytes() == given))
    }

    async fn call(self: Arc<Self>, request: Request) -> (u16, Value) {
        if request.method == "getblocktemplate" {
            self.wait_for_news(&request.params).await;
        }
        let shop = Arc::clone(&self);
        let called = tokio::task::spawn_blocking(move || {
            let mut desk = shop.desk();
            let result = desk.call(&request.method, &request.params);
            shop.silent.store(desk.faults.silent, Ordering::Relaxed);
            if request.method == "stop" && result.is_ok() {
                shop.stop.send_replace(true);
            }
            (request.answer(result), desk.faults.delay_ms)
        });
        match called.await {
            Ok((answer, delay_ms)) => {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                answer
            }
            Err(_) => rpc::refusal(
                &Value::Null,
                &RpcError::new(RpcError::MISC, "the node panicked in this call"),
            ),
        }
    }

    /// A long poll: until there is another tip than the one in `longpollid`, or, after a minute, another mempool.
    async fn wait_for_news(&self, params: &Value) {
        let id = params
            .get(0)
            .and_then(|request| request.get("longpollid"))
            .and_then(Value::as_str);
        let Some(id) = id else { return };
        let mut tips = self.tips.subscribe();
        let mut patience = LONG_POLL_PATIENCE;
        loop {
            if !id.starts_with(&*tips.borrow_and_update()) {
                return;
            }
            tokio::select! {
                changed = tips.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(patience) => {
                    if self.desk().longpollid() != id {
                        return;
                    }
                    patience = LONG_POLL_INTERVAL;
                }
            }
        }
    }
}

async fn answer(State(shop): State<Arc<Shop>>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    if method != Method::POST {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            "JSONRPC server handles only POST requests",
        )
            .into_response();
    }
    if !shop.lets_in(&headers) {
        tokio::time::sleep(WRONG_PASSWORD).await;
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let (status, value) = match serde_json::from_slice(&body) {
        Err(_) => rpc::refusal(&Value::Null, &RpcError::new(RpcError::PARSE, "Parse error")),
        Ok(Value::Array(requests)) if !requests.is_empty() => {
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                answers.push(one(&shop, request).await.1);
            }
            (200, Value::Array(answers))
        }
        Ok(request) => one(&shop, request).await,
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{value}\n"),
    )
        .into_response()
}

async fn one(shop: &Arc<Shop>, request: Value) -> (u16, Value) {
    match Request::parse(request) {
        Ok(request) => Arc::clone(shop).call(request).await,
        Err(refused) => rpc::refusal(&refused.0, &refused.1),
    }
}

/// The file with a password, gone with the node.
struct Cookie {
    path: PathBuf,
    login: String,
}

impl Cookie {
    fn write(datadir: &Path) -> Result<Self, ServeError> {
        use std::os::unix::fs::OpenOptionsExt;
        let folder = datadir.join("regtest");
        let path = folder.join(".cookie");
        let failed = |error| ServeError::Cookie(path.clone(), error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut password = [0; 32];
        getrandom::fill(&mut password).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let login = format!("__cookie__:{}", password.to_lower_hex_string());
        // Whole from the moment that it has its name, as with bitcoind.
        let making = folder.join(".cookie.tmp");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&making)
            .map_err(failed)?;
        io::Write::write_all(&mut file, login.as_bytes()).map_err(failed)?;
        std::fs::rename(&making, &path).map_err(failed)?;
        Ok(Self { path, login })
    }
}

impl Drop for Cookie {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
