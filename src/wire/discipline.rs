//! Signature discipline: each message is tried under each key of everybody, and only the right one opens or signs it. What
//! is refused has the reason of its own kind.

use super::*;

/// Everybody's keys. The gateway has the pool's former key, as one does that has not changed over yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Gateway,
    GatewaySession,
    PoolNewest,
    PoolFormer,
    PoolSession,
    Stranger,
}

impl Who {
    const ALL: [Self; 6] = [
        Self::Gateway,
        Self::GatewaySession,
        Self::PoolNewest,
        Self::PoolFormer,
        Self::PoolSession,
        Self::Stranger,
    ];

    fn keys(self) -> SecretKeys {
        SecretKeys::from_seeds(&[self as u8 + 1; 64])
    }

    fn public(self) -> PublicKeys {
        self.keys().public()
    }
}

const NK: u32 = 0x0bad_cafe;

fn hello() -> Hello {
    Hello {
        long_term: Who::Gateway.public(),
        session: Who::GatewaySession.public(),
        agent: Agent::new("v0.4.1-beta/test"),
        nk: NK,
        padding: vec![1],
    }
}

fn channel() -> ChannelKey {
    ChannelKey::agree(&Who::PoolSession.keys(), &Who::GatewaySession.public().x25519).expect("a sound key")
}

/// Channel keys that somebody could take for the session's: of all pairs but the right one.
fn other_channels() -> Vec<ChannelKey> {
    let pairs = Who::ALL
        .iter()
        .flat_map(|ours| Who::ALL.map(|theirs| (*ours, theirs)))
        .filter(|pair| {
            let right = (Who::PoolSession, Who::GatewaySession);
            *pair != right && *pair != (right.1, right.0)
        });
    pairs
        .map(|(ours, theirs)| ChannelKey::agree(&ours.keys(), &theirs.public().x25519).expect("a sound key"))
        .collect()
}

/// As a pool with two keys hears HELLO: with which of them, or why not.
fn hear_hello(payload: &[u8]) -> Result<Who, HandshakeError> {
    let mut refused = HandshakeError::Unsealable;
    for own in [Who::PoolNewest, Who::PoolFormer] {
        match Hello::unseal(payload, &own.keys()) {
            Ok(plain) => {
                Hello::decode(&plain)?.verify(&plain)?;
                return Ok(own);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[test]
fn hello_is_sealed_to_a_key_of_the_pool_and_signed_by_the_gateways_long_term_key() {
    for signer in Who::ALL {
        let plain = hello().encode(&signer.keys());
        for sealed_to in Who::ALL {
            let heard = hear_hello(&Hello::seal(&plain, &sealed_to.public().x25519));
            let expected = match (sealed_to, signer) {
                (Who::PoolNewest | Who::PoolFormer, Who::Gateway) => Ok(sealed_to),
                (Who::PoolNewest | Who::PoolFormer, _) => Err(HandshakeError::Signature),
                _ => Err(HandshakeError::Unsealable),
            };
            assert_eq!(heard, expected, "sealed to {sealed_to:?}, signed by {signer:?}");
        }
    }
}

#[test]
fn a_response_is_sealed_to_the_gateways_session_and_signed_by_the_key_that_hello_was_sealed_to() {
    for signer in Who::ALL {
        let plain = Response::encode(&hello(), &Who::PoolSession.public(), b"motd", &signer.keys());
        for sealed_to in Who::ALL {
            let payload = Response::seal(&plain, &sealed_to.public().x25519);
            let own = Who::GatewaySession.keys();
            let opened = Response::open(&payload, &own, &hello(), &Who::PoolFormer.public()).map(|_| ());
            let expected = match (sealed_to, signer) {
                (Who::GatewaySession, Who::PoolFormer) => Ok(()),
                (Who::GatewaySession, _) => Err(HandshakeError::Signature),
                _ => Err(HandshakeError::Unsealable),
            };
            assert_eq!(opened, expected, "sealed to {sealed_to:?}, signed by {signer:?}");
        }
    }
    // A good response to somebody else's HELLO, or to another of this gateway's.
    for other in Who::ALL {
        for sent in [
            Hello {
                long_term: other.public(),
                ..hello()
            },
            Hello {
                session: other.public(),
                ..hello()
            },
        ] {
            let plain = Response::encode(&sent, &Who::PoolSession.public(), b"motd", &Who::PoolFormer.keys());
            let payload = Response::seal(&plain, &Who::GatewaySession.public().x25519);
            let own = Who::GatewaySession.keys();
            let opened = Response::open(&payload, &own, &hello(), &Who::PoolFormer.public()).map(|_| ());
            let expected = if sent == hello() {
                Ok(())
            } else {
                Err(HandshakeError::Echo)
            };
            assert_eq!(opened, expected, "{other:?}");
        }
    }
}

/// What a gateway makes of the first frame behind the response.
fn hear_from_pool(write: impl FnOnce(&mut Outbound, &mut Vec<u8>)) -> Result<(), HandshakeError> {
    let mut wire = Vec::new();
    write(&mut Outbound::pool(&hello()), &mut wire);
    let mut inbound = GatewayInbound::new(NK, &Who::GatewaySession.public().ed25519);
    let (header, len) = inbound.frame(&wire).expect("a header").expect("a whole header");
    assert_eq!(len, wire.len());
    let opened = inbound.open(header, &mut wire, &channel(), &Who::PoolSession.public());
    opened.map(|_| ())
}

#[test]
fn config_is_signed_by_the_pools_session_key_and_nothing_else_is_signed() {
    for signer in Who::ALL {
        let heard = hear_from_pool(|out, wire| out.mining_signed(&channel(), &signer.keys(), &Config::EXAMPLE, wire));
        let expected = match signer {
            Who::PoolSession => Ok(()),
            _ => Err(HandshakeError::Signature),
        };
        assert_eq!(heard, expected, "{signer:?}");
        // A signature makes nothing better that needs none; a wrong one is told from a needless one.
        let heard =
            hear_from_pool(|out, wire| out.mining_signed(&channel(), &signer.keys(), &FromPool::NewBlock, wire));
        let expected = match signer {
            Who::PoolSession => Err(HandshakeError::Oversigned),
            _ => Err(HandshakeError::Signature),
        };
        assert_eq!(heard, expected, "{signer:?}");
    }
    let unsigned = hear_from_pool(|out, wire| out.mining(&channel(), &Config::EXAMPLE, wire));
    assert_eq!(unsigned, Err(HandshakeError::Unsigned));
    assert_eq!(hear_from_pool(|out, wire| out.info(&channel(), "line", wire)), Ok(()));
    assert_eq!(
        hear_from_pool(|out, wire| out.mining(&channel(), &FromPool::NewBlock, wire)),
        Ok(())
    );
    assert_eq!(hear_from_pool(Outbound::ping), Ok(()));
}

#[test]
fn what_a_pool_says_is_under_the_channel_of_the_two_sessions_in_its_own_direction() {
    for key in other_channels() {
        let session = Who::PoolSession.keys();
        for heard in [
            hear_from_pool(|out, wire| out.mining_signed(&key, &session, &Config::EXAMPLE, wire)),
            hear_from_pool(|out, wire| out.mining(&key, &FromPool::NewBlock, wire)),
            hear_from_pool(|out, wire| out.info(&key, "line", wire)),
        ] {
            assert_eq!(heard, Err(HandshakeError::BadMac));
        }
    }
    // Its own words thrown back at a gateway, header and all, are under the nonces of the other direction.
    let mut payload = vec![0; MAC_LEN + 1];
    channel().seal(
        &Nonce::gateway_to_pool(NK, &Who::GatewaySession.public().ed25519),
        &mut payload,
    );
    let header = Header {
        command: command::MINING,
        len: u32::try_from(payload.len()).expect("short"),
        signed: false,
        sealed: false,
        channel: true,
    };
    assert_eq!(
        hear_from_pool(|out, wire| out.raw(header, &payload, wire)),
        Err(HandshakeError::BadMac)
    );
}

/// What a pool makes of a gateway's first frame behind HELLO, or of one behind a good frame.
fn hear_from_gateway(key: &ChannelKey, after_a_good_one: bool) -> Result<&'static str, InboundError> {
    let mut inbound = Inbound::new(&hello(), Skipped::default());
    let mut outbound = Outbound::gateway(NK, &Who::GatewaySession.public().ed25519);
    let mut say = |key: &ChannelKey| {
        let mut wire = Vec::new();
        outbound.mining(key, &FromPool::NewBlock, &mut wire);
        assert_eq!(inbound.frame_len(&wire, MINING_MAX), Ok(Some(wire.len())));
        inbound.open(&mut wire, &channel(), &[]).map(|opened| match opened {
            Opened::Plain { .. } => "heard",
            Opened::Skipped => "skipped",
        })
    };
    if after_a_good_one {
        assert_eq!(say(&channel()), Ok("heard"));
    }
    say(key)
}

#[test]
fn what_a_gateway_says_is_under_the_channel_of_the_two_sessions() {
    for after_a_good_one in [false, true] {
        assert_eq!(hear_from_gateway(&channel(), after_a_good_one), Ok("heard"));
    }
    for key in other_channels() {
        // It may be meant for a session before; behind the first good frame nothing is.
        assert_eq!(hear_from_gateway(&key, false), Ok("skipped"));
        assert_eq!(hear_from_gateway(&key, true), Err(InboundError::BadMac));
    }
}

#[test]
fn a_gateway_signs_and_seals_nothing_but_hello() {
    let inbound = Inbound::new(&hello(), Skipped::default());
    for (signed, sealed, channel) in [
        (true, false, true),
        (false, true, true),
        (true, true, true),
        (false, false, false),
        (true, true, false),
    ] {
        for command in [command::HELLO, command::RESPONSE, command::MINING, command::INFO] {
            let header = Header {
                command,
                len: 40,
                signed,
                sealed,
                channel,
            };
            let mut wire = Vec::new();
            let mut outbound = Outbound::gateway(NK, &Who::GatewaySession.public().ed25519);
            outbound.raw(header, &[0; 40], &mut wire);
            let refused = inbound.frame_len(&wire, MINING_MAX);
            assert_eq!(refused, Err(InboundError::UnexpectedCommand(command)), "{header:?}");
        }
    }
}
