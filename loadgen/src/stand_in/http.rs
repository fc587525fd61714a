//! JSON-RPC over HTTP as far as pools and gateways speak it: a call, or a list of them, a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::Answer;
use crate::clock;

/// Bytes of a request: a block of 4 MB in hex, and some.
const BODY_MAX: usize = 16 << 20;

/// Bytes of a request's head.
const HEAD_MAX: u64 = 16 << 10;

#[derive(Debug, Deserialize)]
pub struct Call {
    pub method: String,
    #[serde(default)]
    pub params: Value,
    id: Value,
    /// When the whole request had come in, by [`clock::monotonic_ns`].
    #[serde(skip)]
    pub complete_ns: u64,
}

/// A thread a connection.
pub fn serve(
    listener: &TcpListener,
    login: &str,
    answer: &Arc<impl Fn(&Call) -> Answer + Send + Sync + 'static>,
) -> Result<std::convert::Infallible, String> {
    let login: Arc<str> = format!("Basic {}", STANDARD.encode(login)).into();
    loop {
        let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
        let (login, answer) = (login.clone(), answer.clone());
        // Who speaks badly is left alone.
        thread::spawn(move || drop(converse(stream, &login, &*answer)));
    }
}

fn converse(stream: TcpStream, login: &str, answer: &impl Fn(&Call) -> Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let (mut length, mut is_ours) = (0, false);
    let mut head = (&mut reader).take(HEAD_MAX);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim();
        let Some((name, value)) = line.split_once(':') else {
            if line.is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "authorization" => is_ours = value.trim() == login,
            _ => {}
        }
    }
    if length > BODY_MAX {
        return Ok(());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let complete_ns = clock::monotonic_ns();
    let mut stream = reader.into_inner();
    if !is_ours {
        return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let answered = |mut call: Call| {
        call.complete_ns = complete_ns;
        let id = call.id.to_string();
        match answer(&call) {
            Ok(result) => (true, format!("{{\"result\":{result},\"error\":null,\"id\":{id}}}")),
            Err((code, words)) => {
                let error = serde_json::json!({"code": code, "message": words});
                (false, format!("{{\"result\":null,\"error\":{error},\"id\":{id}}}"))
            }
        }
    };
    let (is_good, body) = match body.first() {
        Some(b'[') => {
            let calls: Vec<Call> = serde_json::from_slice(&body)?;
            let answers: Vec<_> = calls.into_iter().map(|call| answered(call).1).collect();
            (true, format!("[{}]", answers.join(",")))
        }
        _ => answered(serde_json::from_slice(&body)?),
    };
    let status = if is_good { "200 OK" } else { "500 Internal Server Error" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body.as_bytes())
}
