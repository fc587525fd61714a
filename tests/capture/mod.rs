//! Captured sessions of real gateways (`tests/vectors`): one JSON object a line, first of each session the pool's
//! seeds, then each frame with its bytes on the wire and its plaintext, signature included.

#![allow(dead_code)] // Each test file uses the part it needs.

use std::path::{Path, PathBuf};

use millrace::wire::{
    BeforeHello, ChannelKey, Encode, FromGateway, FromPool, FromPoolFrame, GatewayInbound, HEADER_LEN, Header, Hello,
    Inbound, LARGE_MAX, Lead, Opened, Outbound, Response, SIGNATURE_LEN, SecretKeys, Skipped, command,
};
use serde_json::Value;

/// One capture: a file of sessions, and what must be rebuilt from its shares.
pub struct Capture {
    pub name: String,
    pub sessions: Vec<Session>,
    pub expected: Vec<Value>,
}

pub struct Session {
    pub pool: SecretKeys,
    pub pool_session: SecretKeys,
    pub frames: Vec<Frame>,
}

pub struct Frame {
    /// Counted from 1, as `expected.json` counts.
    pub line: usize,
    pub command: u8,
    pub from_gateway: bool,
    /// Under the channel key of the session before.
    pub early: bool,
    pub wire: Vec<u8>,
    pub plain: Vec<u8>,
}

/// Every capture in `tests/vectors`, or in the folder that `MILLRACE_VECTORS` names.
pub fn all() -> Vec<Capture> {
    std::env::var_os("MILLRACE_VECTORS").map_or_else(stored, |folder| in_folder(&PathBuf::from(folder)))
}

/// Every capture in `tests/vectors`.
pub fn stored() -> Vec<Capture> {
    in_folder(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"))
}

fn in_folder(folder: &Path) -> Vec<Capture> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder of captures")
        .filter_map(|entry| {
            let name = entry.expect("a readable folder").file_name().into_string().ok()?;
            name.strip_suffix(".jsonl").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no captures in {}", folder.display());
    let read = |file: String| std::fs::read_to_string(folder.join(file)).expect("a readable capture");
    names
        .into_iter()
        .map(|name| Capture {
            sessions: sessions(&read(format!("{name}.jsonl"))),
            expected: serde_json::from_str(&read(format!("{name}.expected.json"))).expect("a list of shares"),
            name,
        })
        .collect()
}

fn sessions(text: &str) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let value: Value = serde_json::from_str(line).expect("one JSON object a line");
        let seeds = |field: &str| {
            let seeds = unhex(value[field].as_str().expect("seeds"));
            SecretKeys::from_seeds(seeds.as_slice().try_into().expect("64 bytes"))
        };
        if value["dir"] == "keys" {
            sessions.push(Session {
                pool: seeds("pool_lt_seed"),
                pool_session: seeds("pool_session_seed"),
                frames: Vec::new(),
            });
            continue;
        }
        sessions.last_mut().expect("keys come first").frames.push(Frame {
            line: index + 1,
            command: value["cmd"]
                .as_u64()
                .and_then(|cmd| u8::try_from(cmd).ok())
                .expect("a command"),
            from_gateway: value["dir"] == "gateway->pool",
            early: value["key"] == "previous session",
            wire: unhex(value["wire"].as_str().expect("bytes")),
            plain: unhex(value["plain"].as_str().expect("bytes")),
        });
    }
    sessions
}

/// The frames of a session as both sides see them; every one is opened, decoded, and made again.
pub fn replay(session: &Session, former: &mut Vec<ChannelKey>) {
    let mut frames = session.frames.iter();
    let hello_frame = frames.next().expect("a session begins with HELLO");
    let mut before = BeforeHello::new();
    assert_eq!(
        before.next(&hello_frame.wire).expect("a HELLO"),
        Lead::Hello(hello_frame.wire.len())
    );
    let plain = Hello::unseal(&hello_frame.wire[HEADER_LEN..], &session.pool).expect("sealed to the pool");
    assert_eq!(plain, hello_frame.plain);
    let hello = Hello::decode(&plain).expect("a HELLO");
    hello.verify(&plain).expect("signed by the gateway");
    // The gateway's long-term secret is not in a capture, so all but its signature is made again.
    let again = hello.encode(&session.pool);
    let signed = plain.len() - SIGNATURE_LEN;
    assert_eq!((&again[..signed], again.len()), (&plain[..signed], plain.len()));

    let key = ChannelKey::agree(&session.pool_session, &hello.session.x25519).expect("a sound key");
    let mut inbound = Inbound::new(&hello, Skipped::default());
    let mut outbound = Outbound::pool(&hello);
    let mut at_gateway = GatewayInbound::new(hello.nk, &hello.session.ed25519);
    let mut from_gateway = Outbound::gateway(hello.nk, &hello.session.ed25519);
    let pool_session = session.pool_session.public();

    for frame in frames {
        let line = frame.line;
        let mut wire = frame.wire.clone();
        let mut again = Vec::new();
        if frame.from_gateway {
            let len = inbound
                .frame_len(&wire, LARGE_MAX)
                .expect("a header")
                .expect("a whole header");
            assert_eq!(len, wire.len(), "line {line}");
            let opened = inbound.open(&mut wire, &key, former).expect("a key that fits");
            let Opened::Plain { plain, early, .. } = opened else {
                panic!("line {line} was not opened");
            };
            assert_eq!((plain, early), (&frame.plain[..], frame.early), "line {line}");
            let message = FromGateway::decode(plain).expect("a message of a gateway");
            assert_eq!(encoded(&message), frame.plain, "line {line}");
            let under = if frame.early { &former[0] } else { &key };
            from_gateway.mining(under, &message, &mut again);
        } else {
            let (header, len) = at_gateway.frame(&wire).expect("a header").expect("a whole header");
            assert_eq!(len, wire.len(), "line {line}");
            if header.command == command::RESPONSE {
                // Its sealing has a key of its own each time, so only the plaintext can be made again.
                at_gateway_response(session, &hello, frame);
                let sealed = frame.wire[HEADER_LEN..].to_vec();
                outbound.raw(header, &sealed, &mut again);
                skip_header(&mut at_gateway, header, &frame.wire);
            } else {
                let opened = at_gateway
                    .open(header, &mut wire, &key, &pool_session)
                    .expect("a frame of the pool");
                match opened {
                    FromPoolFrame::Ping => outbound.ping(&mut again),
                    FromPoolFrame::Info(text) => {
                        outbound.info(&key, std::str::from_utf8(text).expect("a line"), &mut again);
                    }
                    FromPoolFrame::Message(message) => {
                        let plain = &frame.plain[..frame.plain.len() - if header.signed { SIGNATURE_LEN } else { 0 }];
                        assert_eq!(encoded(&message), plain, "line {line}");
                        if header.signed {
                            assert!(
                                matches!(message, FromPool::Config(_)),
                                "line {line}: CONFIG alone is signed"
                            );
                            outbound.mining_signed(&key, &session.pool_session, &message, &mut again);
                        } else {
                            outbound.mining(&key, &message, &mut again);
                        }
                    }
                    FromPoolFrame::Response(_) => unreachable!("handled above"),
                }
            }
        }
        assert_eq!(again, frame.wire, "line {line}");
    }
    former.insert(0, key);
    former.truncate(2);
}

/// The gateway's session secret is not in a capture, so the response is read from its plaintext.
fn at_gateway_response(session: &Session, hello: &Hello, frame: &Frame) {
    assert!(session.pool.public().has_signed(&frame.plain));
    let response = Response::decode(&frame.plain).expect("a response");
    assert_eq!((response.long_term, response.session), (hello.long_term, hello.session));
    assert_eq!(response.pool_session, session.pool_session.public());
    let again = Response::encode(hello, &response.pool_session, &response.motd, &session.pool);
    assert_eq!(again, frame.plain);
}

/// Moves the gateway's header key past a frame that cannot be opened here.
fn skip_header(at_gateway: &mut GatewayInbound, header: Header, wire: &[u8]) {
    let mut ping = wire[..HEADER_LEN].to_vec();
    let stand_in = Header {
        command: command::PING,
        len: 0,
        channel: false,
        signed: false,
        sealed: false,
    };
    let nobody = SecretKeys::from_seeds(&[7; 64]).public();
    at_gateway
        .open(stand_in, &mut ping, &ChannelKey::from_bytes([0; 32]), &nobody)
        .expect("a PING opens without a key");
    assert!(header.sealed);
}

pub fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}
