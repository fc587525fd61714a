//! What each fuzz target does with its input.
//!
//! The binaries in `fuzz_targets` are these functions and nothing else; `tests/fuzz_corpus.rs` includes this file and
//! runs every stored input through them. A target panics where the protocol's code, or what it promises, is wrong.

mod early;
mod gateway;
mod guards;
mod script;
mod session;

use std::sync::LazyLock;

use millrace::wire::{
    Agent, Encode, FromGateway, FromPool, HELLO_MAX, HandshakeError, Header, HeaderKey, Hello, MOTD_MAX,
    OUTPUT_SCRIPT_MAX, OUTPUTS_MAX, PublicKeys, Response, SCRIPT_MAX, SIGNATURE_LEN, SecretKeys, TAG_MAX, USERNAME_MAX,
};

pub use self::early::early;
pub use self::gateway::from_pool_frames;
pub use self::guards::{guards, proxy};
pub use self::script::Script;
pub use self::session::{play, session};

/// A target by the name of its binary and its corpus.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 18] = [
    ("header", header),
    ("sealed", sealed),
    ("hello", hello),
    ("response", response),
    ("config", config),
    ("coinbaser_request", coinbaser_request),
    ("coinbaser", coinbaser),
    ("share", share),
    ("share_response", share_response),
    ("validation_ask", validation_ask),
    ("validation_answer", validation_answer),
    ("from_gateway", from_gateway),
    ("from_pool", from_pool),
    ("from_pool_frames", from_pool_frames),
    ("early", early),
    ("session", session),
    ("proxy", proxy),
    ("guards", guards),
];

/// The pool of the recorded sessions, so that what they sealed can be opened.
static POOL: LazyLock<SecretKeys> =
    LazyLock::new(|| SecretKeys::from_seeds(&std::array::from_fn(|at| u8::try_from(at).expect("64 bytes"))));

/// `nk u32 | masked header`.
pub fn header(data: &[u8]) {
    let Some((nk, rest)) = data.split_first_chunk() else {
        return;
    };
    let Some(masked) = rest.first_chunk() else {
        return;
    };
    let key = HeaderKey::gateway_to_pool(u32::from_le_bytes(*nk));
    if let Ok(header) = Header::decode(*masked, key) {
        assert_eq!(header.encode(key), *masked);
    }
    let mut next = key;
    next.advance();
    assert_ne!(next, key);
}

/// The payload of a HELLO or a response, under the key that it should be sealed to.
pub fn sealed(data: &[u8]) {
    let Ok(plain) = Hello::unseal(data, &POOL) else {
        return;
    };
    assert_eq!(plain.len() + 48, data.len());
    hello(&plain);
    if let Ok(hello) = Hello::decode(&plain) {
        let opened = Response::open(data, &POOL, &hello, &POOL.public());
        assert!(matches!(
            opened,
            Err(HandshakeError::Signature | HandshakeError::Malformed(_))
        ));
    }
}

/// The plaintext of HELLO, signature included.
pub fn hello(data: &[u8]) {
    let Ok(hello) = Hello::decode(data) else {
        return;
    };
    let signed = data.len() - SIGNATURE_LEN;
    let again = hello.encode(&POOL);
    assert_eq!((&again[..signed], again.len()), (&data[..signed], data.len()));
    assert!(data.len() + 48 <= HELLO_MAX);
    assert_eq!(hello.verify(data).is_ok(), hello.long_term.has_signed(data));
    let shown = hello.agent.to_string();
    assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown:?}");
}

/// The plaintext of a response, signature included.
pub fn response(data: &[u8]) {
    let Ok(response) = Response::decode(data) else {
        return;
    };
    assert!(response.motd.len() <= MOTD_MAX);
    let hello = Hello {
        long_term: response.long_term,
        session: response.session,
        agent: Agent::new(""),
        nk: 0,
        padding: Vec::new(),
    };
    let signed = data.len() - SIGNATURE_LEN;
    let again = Response::encode(&hello, &response.pool_session, &response.motd, &POOL);
    assert_eq!((&again[..signed], again.len()), (&data[..signed], data.len()));
    let text = response.pool_session.to_string();
    assert_eq!(text.parse::<PublicKeys>(), Ok(response.pool_session));
}

/// CONFIG behind its command byte.
pub fn config(data: &[u8]) {
    if let Some(FromPool::Config(config)) = hear_from_pool(&with_command(0x99, data)) {
        assert!((1..=SCRIPT_MAX).contains(&config.script.len()));
        assert!(config.tag.len() <= TAG_MAX && !config.tag.contains(&0));
        assert!(config.prime_id != 0 && config.min_diff != 0);
    }
}

/// A coinbaser request behind its command byte.
pub fn coinbaser_request(data: &[u8]) {
    hear_from_gateway(&with_command(0x10, data));
}

/// A coinbaser behind its command byte.
pub fn coinbaser(data: &[u8]) {
    if let Some(FromPool::Coinbaser(split)) = hear_from_pool(&with_command(0x11, data)) {
        let mut bytes = 0;
        for output in split.outputs.iter() {
            assert!((2..=OUTPUT_SCRIPT_MAX).contains(&output.script.len()));
            bytes += 8 + 1 + output.script.len();
        }
        assert!(split.outputs.iter().count() <= OUTPUTS_MAX);
        assert_eq!(bytes + 14, data.len() + 1);
    }
}

/// A share behind its command byte.
pub fn share(data: &[u8]) {
    if let Some(FromGateway::Share(share)) = hear_from_gateway(&with_command(0x27, data)) {
        assert!(share.username.len() <= USERNAME_MAX && !share.username.contains(&0));
    }
}

/// The answer to a share behind its command byte.
pub fn share_response(data: &[u8]) {
    hear_from_pool(&with_command(0x8f, data));
}

/// A question about a job behind its command byte.
pub fn validation_ask(data: &[u8]) {
    hear_from_pool(&with_command(0x50, data));
}

/// The answer to one behind its command byte.
pub fn validation_answer(data: &[u8]) {
    use millrace::wire::ValidationAnswer;
    let bytes = with_command(0x50, data);
    if let Some(FromGateway::Validation(answer)) = hear_from_gateway(&bytes) {
        assert_eq!(answer.job(), data[1]);
        if let ValidationAnswer::All { transactions, .. } | ValidationAnswer::ByIndex { transactions, .. } = answer {
            let raws = transactions.iter();
            let (count, bytes) = raws.fold((0, 0), |(count, bytes), raw| (count + 1, bytes + raw.len()));
            assert_eq!(count, transactions.len());
            assert!(bytes + 3 * count <= data.len());
        }
    }
}

/// Any plaintext of a gateway.
pub fn from_gateway(data: &[u8]) {
    assert_eq!(FromGateway::is_share(data), data.first() == Some(&0x27));
    hear_from_gateway(data);
}

/// Any plaintext of a pool.
pub fn from_pool(data: &[u8]) {
    hear_from_pool(data);
}

/// Decodes; what decodes must be made of all its bytes.
fn hear_from_gateway(plain: &[u8]) -> Option<FromGateway<'_>> {
    let message = FromGateway::decode(plain).ok()?;
    assert_eq!(encoded(&message), plain);
    Some(message)
}

fn hear_from_pool(plain: &[u8]) -> Option<FromPool<'_>> {
    let message = FromPool::decode(plain).ok()?;
    assert_eq!(encoded(&message), plain);
    Some(message)
}

fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

fn with_command(command: u8, rest: &[u8]) -> Vec<u8> {
    [&[command], rest].concat()
}
