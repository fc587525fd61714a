use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn keys(seed: u8) -> SecretKeys {
    SecretKeys::from_seeds(&[seed; 64])
}

fn hello(agent: &[u8], nk: u32, padding: Vec<u8>) -> Hello {
    Hello {
        long_term: keys(1).public(),
        session: keys(2).public(),
        agent: Agent(agent.into()),
        nk,
        padding,
    }
}

/// All the steps of a pool.
fn open(payload: &[u8], pool: &SecretKeys) -> Result<Hello, HandshakeError> {
    let plain = Hello::unseal(payload, pool)?;
    let hello = Hello::decode(&plain)?;
    hello.verify(&plain)?;
    Ok(hello)
}

fn malformed(field: &'static str, fault: Fault) -> HandshakeError {
    HandshakeError::Malformed(DecodeError::new(field, fault))
}

proptest! {
    // Some curve operations each.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn hello_is_heard_by_the_pool_it_is_for(
        agent in vec(1..=u8::MAX, 0..=AGENT_MAX),
        nk: u32,
        padding in vec(any::<u8>(), 0..=PADDING_MAX),
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let hello = hello(&agent, nk, padding);
        let plain = hello.encode(&keys(1));
        let mut payload = Hello::seal(&plain, &keys(9).public().x25519);
        prop_assert!(payload.len() <= HELLO_MAX);
        prop_assert_eq!(open(&payload, &keys(9)), Ok(hello.clone()));
        prop_assert_eq!(open(&payload, &keys(8)), Err(HandshakeError::Unsealable));
        let at = at.index(payload.len());
        payload[at] ^= 1 << bit;
        // X25519 itself ignores the top bit of a key, but the nonce is made of all of it.
        prop_assert_eq!(open(&payload, &keys(9)), Err(HandshakeError::Unsealable));
    }

    #[test]
    fn a_response_is_heard_by_the_gateway_it_is_for(motd in vec(1..=u8::MAX, 0..=MOTD_MAX)) {
        let sent = hello(b"v", 7, vec![1]);
        let plain = Response::encode(&sent, &keys(3).public(), &motd, &keys(9));
        let payload = Response::seal(&plain, &sent.session.x25519);
        let expected = Response {
            long_term: sent.long_term,
            session: sent.session,
            pool_session: keys(3).public(),
            motd,
        };
        let pool = keys(9).public();
        prop_assert_eq!(Response::open(&payload, &keys(2), &sent, &pool), Ok(expected));
        prop_assert_eq!(Response::open(&payload, &keys(4), &sent, &pool), Err(HandshakeError::Unsealable));
        let stranger = keys(8).public();
        prop_assert_eq!(Response::open(&payload, &keys(2), &sent, &stranger), Err(HandshakeError::Signature));
        let other = Hello { long_term: keys(5).public(), ..sent };
        prop_assert_eq!(Response::open(&payload, &keys(2), &other, &pool), Err(HandshakeError::Echo));
    }
}

proptest! {
    #[test]
    fn any_plaintext_is_an_error_or_a_hello(plain in vec(prop_oneof![Just(0_u8), Just(0xfe), any::<u8>()], 0..700)) {
        if let Ok(hello) = Hello::decode(&plain) {
            let again = hello.encode(&keys(1));
            let signed = plain.len() - SIGNATURE_LEN;
            prop_assert_eq!(&again[..signed], &plain[..signed]);
            prop_assert_eq!(again.len(), plain.len());
        }
        if let Ok(response) = Response::decode(&plain) {
            prop_assert!(response.motd.len() <= MOTD_MAX);
        }
    }

    #[test]
    fn any_payload_is_unsealable(payload in vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(Hello::unseal(&payload, &keys(9)), Err(HandshakeError::Unsealable));
    }
}

#[test]
fn the_signature_must_be_of_the_long_term_key() {
    let hello = hello(b"v", 7, vec![1]);
    let good = hello.encode(&keys(1));
    assert_eq!(hello.verify(&good), Ok(()));
    let by_session = hello.encode(&keys(2));
    assert_eq!(hello.verify(&by_session), Err(HandshakeError::Signature));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(hello.verify(&bad), Err(HandshakeError::Signature), "byte {at}");
    }
}

#[test]
fn hello_ends_at_its_limits() {
    let decode = |agent: usize, padding: usize| {
        let mut plain = vec![1; 4 * 32];
        plain.extend(std::iter::repeat_n(b'v', agent));
        plain.extend_from_slice(&[0, 0xfe, 1, 2, 3, 4]);
        plain.extend(std::iter::repeat_n(0xbd, padding + SIGNATURE_LEN));
        Hello::decode(&plain).map(|hello| (hello.agent.as_bytes().len(), hello.nk, hello.padding.len()))
    };
    assert_eq!(
        decode(AGENT_MAX, PADDING_MAX),
        Ok((AGENT_MAX, 0x0403_0201, PADDING_MAX))
    );
    assert_eq!(decode(AGENT_MAX + 1, 1), Err(malformed("hello.agent", Fault::TooLong)));
    assert_eq!(
        decode(1, PADDING_MAX + 1),
        Err(malformed("hello.padding", Fault::TooLong))
    );
}

#[test]
fn hello_that_is_cut_off_says_where() {
    let plain = hello(b"v0.4.1-beta/abc", 7, vec![1]).encode(&keys(1));
    let cut = |len: usize| Hello::decode(&plain[..len + SIGNATURE_LEN]);
    assert_eq!(cut(63), Err(malformed("hello.long_term", Fault::Truncated)));
    assert_eq!(cut(127), Err(malformed("hello.session", Fault::Truncated)));
    assert_eq!(cut(140), Err(malformed("hello.agent", Fault::Unterminated)));
    assert_eq!(cut(144), Err(malformed("hello.end", Fault::Truncated)));
    assert_eq!(cut(146), Err(malformed("hello.nk", Fault::Truncated)));
    assert!(cut(149).is_ok());
    assert_eq!(
        Hello::decode(&plain[..63]),
        Err(malformed("signature", Fault::Truncated))
    );
}

#[test]
fn a_motd_that_no_gateway_takes_is_not_sent() {
    let sent = hello(b"v", 7, vec![1]);
    for motd in [&[b'x'; MOTD_MAX + 1][..], b"a\0b"] {
        let encode = || Response::encode(&sent, &keys(3).public(), motd, &keys(9));
        assert!(std::panic::catch_unwind(encode).is_err());
    }
    let plain = Response::encode(&sent, &keys(3).public(), b"hello", &keys(9));
    let trailing = [&plain[..198], &[0], &plain[198..]].concat();
    assert_eq!(
        Response::decode(&trailing),
        Err(malformed("response.end", Fault::Trailing))
    );
}

#[test]
fn an_agent_is_cut_and_shown_in_printable_letters() {
    assert_eq!(Agent::new(&"x".repeat(1_000)).as_bytes().len(), AGENT_MAX);
    assert_eq!(Agent::new("abc\0def").as_bytes(), b"abc");
    assert_eq!(
        Agent(b"v1\x1b[31m\n\xff".as_slice().into()).to_string(),
        r"v1\x1b[31m\n\xff"
    );
}
