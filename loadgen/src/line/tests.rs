//! A gateway believes its pool and nobody else: each message under each wrong key ends the connection with its reason.

use super::*;
use millrace::wire::{BeforeHello, Config, FromPool, Lead, Response};

const NAMES: [&str; 5] = ["gateway", "pool", "pool's other key", "pool's session", "stranger"];

/// A gateway that has said HELLO, and a pool that may answer with any keys.
struct Rig {
    line: Line,
    pool: SecretKeys,
    hello: Hello,
    session: SecretKeys,
    keys: [SecretKeys; 5],
    outbound: Outbound,
}

fn keys() -> SecretKeys {
    SecretKeys::generate().expect("the system has randomness")
}

fn copied(keys: &SecretKeys) -> SecretKeys {
    SecretKeys::from_seeds(&keys.seeds())
}

impl Rig {
    fn new() -> Self {
        let (gateway, pool, session) = (keys(), keys(), keys());
        let (mut line, mut wire) = (Line::new(), Vec::new());
        line.greet(&gateway, &pool.public(), 0, &mut Rng::new(1), &mut wire);
        let Ok(Lead::Hello(len)) = BeforeHello::new().next(&wire) else {
            panic!("HELLO comes first");
        };
        // The other key of the same pool does not open it.
        let other = keys();
        assert_eq!(
            Hello::unseal(&wire[HEADER_LEN..len], &other),
            Err(HandshakeError::Unsealable)
        );
        let plain = Hello::unseal(&wire[HEADER_LEN..len], &pool).expect("sealed to the pool");
        let hello = Hello::decode(&plain).expect("a HELLO");
        assert_eq!(hello.verify(&plain), Ok(()));
        Self {
            outbound: Outbound::pool(&hello),
            keys: [gateway, copied(&pool), other, copied(&session), keys()],
            line,
            pool,
            hello,
            session,
        }
    }

    fn respond(&mut self, signer: usize, sealed_to: &[u8; 32]) -> Result<(), Broken> {
        let plain = Response::encode(&self.hello, &self.session.public(), b"motd", &self.keys[signer]);
        let mut wire = Vec::new();
        self.outbound.response(&Response::seal(&plain, sealed_to), &mut wire);
        self.hear(&mut wire)
    }

    /// With a good response said.
    fn open() -> (Self, ChannelKey) {
        let mut rig = Self::new();
        let sealed_to = rig.hello.session.x25519;
        assert_eq!(rig.respond(1, &sealed_to), Ok(()));
        let key = ChannelKey::agree(&rig.session, &sealed_to).expect("a sound key");
        (rig, key)
    }

    fn hear(&mut self, wire: &mut [u8]) -> Result<(), Broken> {
        let (header, _) = self.line.frame(wire)?.expect("a whole frame");
        let heard = self.line.open(header, wire, &self.pool.public()).map(|_| ());
        // Whom it does not believe it does not go on with.
        assert_eq!(self.line.is_open(), heard.is_ok());
        heard
    }
}

fn refused<T>(error: HandshakeError) -> Result<T, Broken> {
    Err(Broken::Handshake(error))
}

#[test]
fn a_response_of_anybody_but_the_pool_to_this_session() {
    for (signer, name) in NAMES.iter().enumerate() {
        let mut rig = Rig::new();
        let sealed_to = rig.hello.session.x25519;
        let heard = rig.respond(signer, &sealed_to);
        let expected = if *name == "pool" {
            Ok(())
        } else {
            refused(HandshakeError::Signature)
        };
        assert_eq!(heard, expected, "signed by {name}");

        let mut rig = Rig::new();
        let sealed_to = rig.keys[signer].public().x25519;
        assert_eq!(
            rig.respond(1, &sealed_to),
            refused(HandshakeError::Unsealable),
            "sealed to {name}"
        );
    }
    let mut rig = Rig::new();
    rig.hello.long_term = keys().public();
    let sealed_to = rig.hello.session.x25519;
    assert_eq!(rig.respond(1, &sealed_to), refused(HandshakeError::Echo));
}

#[test]
fn config_of_anybody_but_the_pools_session() {
    for (signer, name) in NAMES.iter().enumerate() {
        let (mut rig, key) = Rig::open();
        let mut wire = Vec::new();
        let signer = copied(&rig.keys[signer]);
        rig.outbound.mining_signed(&key, &signer, &Config::EXAMPLE, &mut wire);
        let expected = if *name == "pool's session" {
            Ok(())
        } else {
            refused(HandshakeError::Signature)
        };
        assert_eq!(rig.hear(&mut wire), expected, "signed by {name}");
    }
    let (mut rig, key) = Rig::open();
    let mut wire = Vec::new();
    rig.outbound.mining(&key, &Config::EXAMPLE, &mut wire);
    assert_eq!(rig.hear(&mut wire), refused(HandshakeError::Unsigned));
}

#[test]
fn messages_under_any_other_channel() {
    for name in 0..NAMES.len() {
        let say: [fn(&mut Outbound, &ChannelKey, &mut Vec<u8>); 2] = [
            |outbound, key, wire| outbound.mining(key, &FromPool::NewBlock, wire),
            |outbound, key, wire| outbound.info(key, "a line", wire),
        ];
        for say in say {
            let (mut rig, _) = Rig::open();
            let wrong = ChannelKey::agree(&keys(), &rig.keys[name].public().x25519).expect("a sound key");
            let mut wire = Vec::new();
            say(&mut rig.outbound, &wrong, &mut wire);
            assert_eq!(rig.hear(&mut wire), refused(HandshakeError::BadMac));
            let (mut rig, key) = Rig::open();
            let mut wire = Vec::new();
            say(&mut rig.outbound, &key, &mut wire);
            assert_eq!(rig.hear(&mut wire), Ok(()));
        }
    }
}
