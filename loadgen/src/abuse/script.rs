//! Bytes that need no session: made once.

use millrace::wire::{Agent, HELLO_MAX, Header, HeaderKey, Hello, PROXY_MAX, PublicKeys, SecretKeys, command};

use super::Attack;

/// What is dripped before there is a session; nothing, of connections that say nothing.
///
/// # Errors
/// The system gives no randomness.
pub fn slow(attack: Attack, pool: &PublicKeys) -> Result<Vec<u8>, String> {
    Ok(match attack {
        Attack::SlowProxy => proxy_header(),
        Attack::SlowEarly => frame(command::MINING, &[0x5a; 300]),
        Attack::SlowHello => frame(command::HELLO, &hello(pool, |_| {})?),
        _ => Vec::new(),
    })
}

/// A PROXY header, version 2: of a TCP connection over IPv4, with as much behind the addresses as it may have in all.
fn proxy_header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    let rest = PROXY_MAX - header.len() - 2;
    header.extend(u16::try_from(rest).expect("a short header").to_be_bytes());
    header.resize(PROXY_MAX, 0x5a);
    header
}

/// HELLOs that no pool takes, each of another kind: sealed to nobody, sealed and not signed.
///
/// # Errors
/// The system gives no randomness.
pub fn bad_hellos(pool: &PublicKeys) -> Result<[Vec<u8>; 2], String> {
    let unsigned = hello(pool, |plain| {
        if let Some(last) = plain.last_mut() {
            *last ^= 1;
        }
    })?;
    Ok([&[0xa5; 500][..], &unsigned].map(|payload| frame(command::HELLO, payload)))
}

/// A HELLO sealed to the pool, once `spoil` has had what is sealed.
fn hello(pool: &PublicKeys, spoil: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u8>, String> {
    let keys = || SecretKeys::generate().map_err(|error| error.to_string());
    let (long_term, session) = (keys()?, keys()?);
    let hello = Hello {
        long_term: long_term.public(),
        session: session.public(),
        agent: Agent::new("v0.4.1-beta/abuse"),
        nk: 0x0bad_cafe,
        padding: vec![0; 20],
    };
    let mut plain = hello.encode(&long_term);
    spoil(&mut plain);
    Ok(Hello::seal(&plain, &pool.x25519))
}

/// The first frame of a connection.
fn frame(command: u8, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= HELLO_MAX);
    let is_hello = command == command::HELLO;
    let header = Header {
        command,
        len: u32::try_from(payload.len()).expect("a short frame"),
        signed: is_hello,
        sealed: is_hello,
        channel: !is_hello,
    };
    [&header.encode(HeaderKey::FIRST), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace::wire::{ProxyLead, proxy_header as read};

    #[test]
    fn a_header_that_is_dripped_is_good_when_it_is_whole_and_not_before() {
        let header = proxy_header();
        assert!(matches!(read(&header), Ok(ProxyLead::Whole(_, PROXY_MAX))));
        for len in 0..PROXY_MAX {
            assert!(matches!(read(&header[..len]), Ok(ProxyLead::Need(need)) if need > len));
        }
    }
}
