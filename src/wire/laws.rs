//! Laws that every message keeps; the tests beside each message call them.

use super::error::DecodeError;
use super::message::{Encode, FromGateway, FromPool};

pub fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

/// Whatever the bytes: an error, or a message that is made of all of them.
pub fn hear_from_gateway(bytes: &[u8]) {
    if let Ok(message) = FromGateway::decode(bytes) {
        assert_eq!(encoded(&message), bytes);
    }
}

/// The same on the gateway's side.
pub fn hear_from_pool(bytes: &[u8]) {
    if let Ok(message) = FromPool::decode(bytes) {
        assert_eq!(encoded(&message), bytes);
    }
}

/// What a gateway says is what a pool hears; and what is cut off is no other message.
pub fn gateway_is_heard(message: &FromGateway<'_>) {
    let bytes = encoded(message);
    assert_eq!(FromGateway::decode(&bytes).as_ref(), Ok(message));
    for cut in cuts(bytes.len()) {
        hear_from_gateway(&bytes[..cut]);
    }
}

/// What a pool says is what a gateway hears; none of these has padding, so nothing can be cut off unseen.
pub fn pool_is_heard(message: &FromPool<'_>) {
    let bytes = encoded(message);
    assert_eq!(FromPool::decode(&bytes).as_ref(), Ok(message));
    for cut in cuts(bytes.len()) {
        assert!(
            FromPool::decode(&bytes[..cut]).is_err(),
            "cut to {cut} of {}",
            bytes.len()
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(FromPool::decode(&longer).is_err());
}

/// The error of a gateway's message.
pub fn gateway_error(bytes: &[u8]) -> DecodeError {
    FromGateway::decode(bytes).expect_err("no message")
}

/// The error of a pool's message.
pub fn pool_error(bytes: &[u8]) -> DecodeError {
    FromPool::decode(bytes).expect_err("no message")
}

/// Where to cut: everywhere in a short message, and at some hundred places of a long one.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(1 + len / 100)
}
