//! JSON-RPC to one bitcoind: the calls that a pool needs, and errors that a person can act on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonrpc::bitreq_http_async::{self, BitreqHttpTransport};
use jsonrpc::client_async::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use thiserror::Error;

use crate::config::NodeLogin;

/// How long one call may take: bitcoind checks a block within it, and one that hangs is not waited for.
pub(super) const CALL_PATIENCE: Duration = Duration::from_secs(15);

/// Said by a bitcoind that is starting.
const IN_WARMUP: i32 = -28;

/// bitcoind's word for a hash it does not have.
const NOT_FOUND: i32 = -5;

/// Heights that a node may name lie below: those from here on are times where a lock time can be either, and reckoning with one
/// cannot overflow.
const HEIGHTS_BELOW: u32 = 500_000_000;

/// The status of an answer to a login that is not the node's.
const UNAUTHORIZED: i32 = 401;

/// The status of an answer to a call that `rpcwhitelist` does not let this login make, or that comes from where `rpcallowip` lets
/// nobody in.
const FORBIDDEN: i32 = 403;

/// One bitcoind.
pub(super) struct Rpc {
    address: SocketAddr,
    login: NodeLogin,
    client: Mutex<Option<Arc<Client>>>,
}

/// Why a call has no answer.
#[derive(Debug, Error)]
pub enum RpcError {
    #[error("{path}: {error}; bitcoind writes it when it starts, and this process must be able to read it")]
    Login { path: String, error: std::io::Error },
    #[error("does not answer ({0}); start it, or correct `rpc`")]
    Unreachable(String),
    #[error("refuses the login; `cookie_file` or `user` and `password_file` must be those of this node")]
    Refused,
    #[error("forbids the call; its `rpcwhitelist` and `rpcallowip` must allow what the pool asks")]
    Forbidden,
    #[error("is starting: {0}")]
    WarmingUp(String),
    /// An error of bitcoind's own.
    #[error("says {code}: {message}")]
    Said { code: i32, message: String },
    #[error("answers what is no bitcoind's: {0}")]
    Nonsense(String),
}

impl RpcError {
    /// What a node said with a code of its own.
    pub(super) fn said(code: i32, message: String) -> Self {
        match code {
            IN_WARMUP => Self::WarmingUp(message),
            code => Self::Said { code, message },
        }
    }

    /// Whether the node is there and says that it has no such block or transaction.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Said { code: NOT_FOUND, .. })
    }
}

impl Rpc {
    pub fn new(address: SocketAddr, login: NodeLogin) -> Self {
        Self {
            address,
            login,
            client: Mutex::new(None),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// User and password as they are now.
    ///
    /// # Errors
    /// [`RpcError::Login`].
    pub(super) fn login(&self) -> Result<(String, String), RpcError> {
        self.login.read()
    }

    /// # Errors
    /// See [`RpcError`].
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, RpcError> {
        let params = to_raw_value(params).expect("values are JSON");
        match self.call_once(method, &params).await {
            // Restarted since: its cookie is another.
            Err(RpcError::Refused) => {
                self.client().take();
                self.call_once(method, &params).await
            }
            answer => answer,
        }
    }

    /// One call with each of these parameters, in one request. None for a call that the node answers with an error.
    ///
    /// # Errors
    /// The node answers none of them; see [`RpcError`].
    pub async fn call_each<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &[Value],
    ) -> Result<Vec<Option<T>>, RpcError> {
        let params: Vec<_> = params
            .iter()
            .map(|params| to_raw_value(params).expect("values are JSON"))
            .collect();
        match self.call_each_once(method, &params).await {
            Err(RpcError::Refused) => {
                self.client().take();
                self.call_each_once(method, &params).await
            }
            answers => answers,
        }
    }

    async fn call_each_once<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &[Box<RawValue>],
    ) -> Result<Vec<Option<T>>, RpcError> {
        let client = self.logged_in()?;
        let requests: Vec<_> = params
            .iter()
            .map(|params| client.build_request(method, Some(params)))
            .collect();
        let answers = client.send_batch(&requests).await;
        let answers = answers.map_err(|error| RpcError::from(&error))?;
        Ok(answers
            .into_iter()
            .map(|answer| answer.and_then(|answer| answer.result().ok()))
            .collect())
    }

    async fn call_once<T: DeserializeOwned>(&self, method: &str, params: &RawValue) -> Result<T, RpcError> {
        let client = self.logged_in()?;
        let answer = client.call::<Value>(method, Some(params)).await;
        let value = answer.map_err(|error| RpcError::from(&error))?;
        serde_json::from_value(value).map_err(|error| RpcError::Nonsense(format!("{method}: {error}")))
    }

    fn logged_in(&self) -> Result<Arc<Client>, RpcError> {
        let mut kept = self.client();
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let (user, password) = self.login.read()?;
        let transport = BitreqHttpTransport::builder()
            .timeout(CALL_PATIENCE)
            .url(&format!("http://{}", self.address))
            .map_err(|error| RpcError::Unreachable(error.to_string()))?
            .basic_auth(user, Some(password))
            .build();
        let client = Arc::new(Client::with_transport(transport));
        *kept = Some(client.clone());
        Ok(client)
    }

    fn client(&self) -> std::sync::MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl NodeLogin {
    /// User and password as the files have them now.
    fn read(&self) -> Result<(String, String), RpcError> {
        let (path, user) = match self {
            Self::Cookie(path) => (path, None),
            Self::Password { user, file } => (file, Some(user)),
        };
        let text = std::fs::read_to_string(path).map_err(|error| RpcError::Login {
            path: path.display().to_string(),
            error,
        })?;
        let text = text.trim_end_matches(['\r', '\n']);
        match user {
            Some(user) => Ok((user.clone(), text.to_owned())),
            None => {
                let (user, password) = text.split_once(':').ok_or_else(|| RpcError::Login {
                    path: path.display().to_string(),
                    error: std::io::Error::other("it is no cookie, which is `user:password`"),
                })?;
                Ok((user.to_owned(), password.to_owned()))
            }
        }
    }
}

impl From<&jsonrpc::Error> for RpcError {
    fn from(error: &jsonrpc::Error) -> Self {
        match error {
            jsonrpc::Error::Rpc(said) => Self::said(said.code, said.message.clone()),
            jsonrpc::Error::Transport(error) => match error.downcast_ref::<bitreq_http_async::Error>() {
                Some(bitreq_http_async::Error::Http(answer)) if answer.status_code == UNAUTHORIZED => Self::Refused,
                Some(bitreq_http_async::Error::Http(answer)) if answer.status_code == FORBIDDEN => Self::Forbidden,
                _ => Self::Unreachable(error.to_string()),
            },
            other => Self::Nonsense(other.to_string()),
        }
    }
}

/// Of `getblockchaininfo`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BlockchainInfo {
    pub chain: String,
    #[serde(deserialize_with = "height")]
    pub blocks: u32,
    pub headers: u32,
    #[serde(rename = "initialblockdownload")]
    pub initial_block_download: bool,
    #[serde(rename = "bestblockhash")]
    pub best_block: Shown,
}

/// Of `getblockheader`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Header {
    pub hash: Shown,
    /// -1 for a block that is not in the node's best chain.
    pub confirmations: i64,
    #[serde(deserialize_with = "height")]
    pub height: u32,
    pub bits: Bits,
    /// As its miner says, s since 1970.
    pub time: u32,
    #[serde(rename = "mediantime")]
    pub median_time: u32,
    #[serde(rename = "chainwork")]
    pub chain_work: ChainWork,
    /// 0 where the node has no more of the block than its header.
    #[serde(rename = "nTx")]
    pub tx_count: u32,
    /// None for the first block.
    #[serde(rename = "previousblockhash")]
    pub previous: Option<Shown>,
}

/// Of `getchaintips`: a block that the node knows, and none on it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ChainTip {
    #[serde(deserialize_with = "height")]
    pub height: u32,
    /// `active` of its own tip, `invalid` of what it will never have.
    pub status: String,
}

/// Of `getblocktemplate`: what nothing else says in one call of every version.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Template {
    #[serde(rename = "previousblockhash")]
    pub previous: Shown,
    pub bits: Bits,
    #[serde(rename = "mintime")]
    pub min_time: u32,
}

/// Of `getblocktemplate`: what a node would mine.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Offer {
    #[serde(rename = "previousblockhash")]
    pub previous: Shown,
    /// Satoshi.
    #[serde(rename = "coinbasevalue")]
    pub value: u64,
    pub transactions: Vec<Offered>,
}

/// Of a template's transactions.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Offered {
    /// Raw, in hex.
    pub data: String,
}

/// A hash as hashed, which RPC writes the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shown(pub [u8; 32]);

/// A compact target, eight hex digits in RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits(pub u32);

/// All work of a chain, most significant byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChainWork(pub [u8; 32]);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Shown> for Value {
    fn from(hash: Shown) -> Self {
        hash.to_string().into()
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut bytes: [u8; 32] = hex(&String::deserialize(from)?)?;
        bytes.reverse();
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(u32::from_be_bytes(hex(&String::deserialize(from)?)?)))
    }
}

impl<'de> Deserialize<'de> for ChainWork {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(hex(&String::deserialize(from)?)?))
    }
}

/// One that no chain reaches is nonsense, as any other answer of the wrong kind.
fn height<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let height = u32::deserialize(from)?;
    match height < HEIGHTS_BELOW {
        true => Ok(height),
        false => Err(serde::de::Error::custom(format!("{height} is no block's height"))),
    }
}

fn hex<const N: usize, E: serde::de::Error>(text: &str) -> Result<[u8; N], E> {
    bitcoin::hex::FromHex::from_hex(text).map_err(|_| E::custom(format!("`{text}` is not {N} bytes in hex")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_bitcoind_writes_it() {
        let header: Header = serde_json::from_str(
            r#"{"hash":"00000000000000000000000000000000000000000000000000000000000000ff","confirmations":-1,"height":7,
                "version":1,"bits":"1d00ffff","mediantime":5,"time":9,"nTx":1,
                "chainwork":"0000000000000000000000000000000000000000000000000000000000000102"}"#,
        )
        .expect("a header");
        assert_eq!(header.hash.0[0], 0xff);
        assert_eq!(header.hash.to_string(), format!("{}ff", "00".repeat(31)));
        assert_eq!((header.bits, header.confirmations), (Bits(0x1d00_ffff), -1));
        assert!(header.previous.is_none() && header.chain_work.0[31] == 2);
        assert!(serde_json::from_str::<Bits>("\"1d00fff\"").is_err());
    }

    #[test]
    fn a_height_that_no_chain_reaches_is_nonsense() {
        let info = |blocks: u32| {
            let info = serde_json::json!({
                "chain": "main", "blocks": blocks, "headers": 7, "initialblockdownload": false,
                "bestblockhash": "00".repeat(32),
            });
            serde_json::from_value::<BlockchainInfo>(info)
        };
        let header = |height: u32| {
            let header = serde_json::json!({
                "hash": "00".repeat(32), "confirmations": 1, "height": height, "bits": "1d00ffff", "mediantime": 5,
                "time": 9, "nTx": 1, "chainwork": "00".repeat(32),
            });
            serde_json::from_value::<Header>(header)
        };
        for height in [0, 900_000, HEIGHTS_BELOW - 1] {
            assert_eq!(header(height).expect("a height").height, height);
            assert_eq!(info(height).expect("a height").blocks, height);
        }
        for height in [HEIGHTS_BELOW, u32::MAX] {
            let error = header(height).expect_err("none").to_string();
            assert!(error.contains("no block's height"), "{error}");
            info(height).expect_err("none");
        }
    }

    #[test]
    fn a_login_is_what_its_file_has_without_the_newline() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cookie");
        std::fs::write(&file, "__cookie__:secret:with colons\n").expect("a file");
        let cookie = NodeLogin::Cookie(file.clone()).read().expect("a cookie");
        assert_eq!(cookie, ("__cookie__".to_owned(), "secret:with colons".to_owned()));
        let password = NodeLogin::Password {
            user: "pool".into(),
            file: file.clone(),
        };
        assert_eq!(password.read().expect("a password").1, "__cookie__:secret:with colons");
        std::fs::write(&file, "no cookie").expect("a file");
        assert!(NodeLogin::Cookie(file).read().is_err());
        let missing = NodeLogin::Cookie(folder.path().join("none"))
            .read()
            .expect_err("no file");
        assert!(missing.to_string().contains("bitcoind writes it"), "{missing}");
    }
}
