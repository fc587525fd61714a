//! `submitblock`, written as it goes: every millisecond counts here, and a block is 8 MB of hex, which the JSON-RPC crate
//! would copy four times for each node. It also says when the last byte has left.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::rpc::{CALL_PATIENCE, Rpc, RpcError};
use crate::work::RawBlock;

/// Bytes of an answer: a word, and what HTTP puts before it.
const ANSWER_MAX: u64 = 64 << 10;

const BEFORE: &[u8] = br#"{"jsonrpc":"1.0","id":"block","method":"submitblock","params":[""#;
const BEHIND: &[u8] = br#""]}"#;

/// A block as a request, for any number of nodes.
#[derive(Clone)]
pub(super) struct Submission {
    body: Arc<Vec<u8>>,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<String>,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: i32,
    message: String,
}

impl Submission {
    /// Takes some ms for 4 MB: each page of the request is touched for the first time.
    pub fn new(block: &RawBlock) -> Self {
        Self {
            body: Arc::new(block.in_hex(BEFORE, BEHIND)),
        }
    }
}

impl Rpc {
    /// Gives the node a block: its word for it, none where it is the tip now. `written` hears that the last byte has left.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn submit(&self, block: &Submission, written: impl FnOnce()) -> Result<Option<String>, RpcError> {
        let answer = timeout(CALL_PATIENCE, self.exchange(block, written)).await;
        let answer = answer.map_err(|_| RpcError::Unreachable("it does not answer in time".into()))??;
        read(&answer)
    }

    async fn exchange(&self, block: &Submission, written: impl FnOnce()) -> Result<Vec<u8>, RpcError> {
        // Read anew each time: a node that was restarted has another cookie.
        let (user, password) = self.login()?;
        let login = STANDARD.encode(format!("{user}:{password}"));
        let address = self.address();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {login}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            block.body.len()
        );
        let unreachable = |error: std::io::Error| RpcError::Unreachable(error.to_string());
        // Not a connection that is kept: to connect takes a round trip of what is otherwise megabytes, and none that the node
        // has closed meanwhile must be found out.
        let mut stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.write_all(head.as_bytes()).await.map_err(unreachable)?;
        stream.write_all(&block.body).await.map_err(unreachable)?;
        written();
        let mut answer = Vec::new();
        let read = stream.take(ANSWER_MAX).read_to_end(&mut answer).await;
        // Some nodes reset a connection that they have answered.
        match read {
            Err(error) if answer.is_empty() => Err(unreachable(error)),
            _ => Ok(answer),
        }
    }
}

/// Reads a whole HTTP answer.
fn read(answer: &[u8]) -> Result<Option<String>, RpcError> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if matches!(status, "401" | "403") {
        return Err(RpcError::Refused);
    }
    let answer: Answer = serde_json::from_str(body)
        .map_err(|error| RpcError::Nonsense(format!("submitblock, HTTP status `{status}`: {error}")))?;
    match answer.error {
        Some(Said { code, message }) => Err(RpcError::said(code, message)),
        None => Ok(answer.result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_written_in_hex() {
        let block = RawBlock::from(vec![0x00, 0x9f, 0xa0, 0xff]);
        let body = Submission::new(&block).body;
        let call: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(call["params"], serde_json::json!(["009fa0ff"]));
        assert_eq!(call["method"], "submitblock");
    }

    #[test]
    fn answers_are_read() {
        let answer = |status: &str, body: &str| read(format!("HTTP/1.1 {status}\r\nA: b\r\n\r\n{body}").as_bytes());
        assert!(matches!(
            answer("200 OK", r#"{"result":null,"error":null,"id":"block"}"#),
            Ok(None)
        ));
        let word = answer("200 OK", r#"{"result":"duplicate","error":null,"id":"block"}"#);
        assert_eq!(word.expect("an answer").as_deref(), Some("duplicate"));
        let said = r#"{"result":null,"error":{"code":-22,"message":"Block decode failed"},"id":"block"}"#;
        let said = answer("500 Internal Server Error", said);
        assert!(matches!(said, Err(RpcError::Said { code: -22, .. })), "{said:?}");
        let starting = r#"{"result":null,"error":{"code":-28,"message":"Loading"},"id":"block"}"#;
        assert!(matches!(answer("500 ", starting), Err(RpcError::WarmingUp(_))));
        assert!(matches!(answer("401 Unauthorized", ""), Err(RpcError::Refused)));
        for nonsense in ["", "<html>", "[1]"] {
            assert!(matches!(answer("503 Busy", nonsense), Err(RpcError::Nonsense(_))));
        }
        assert!(read(b"").is_err());
    }
}
