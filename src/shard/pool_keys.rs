//! The pool's long-term keys on a shard: which one a HELLO is for, and telling gateways that there is a newer one.

use std::sync::Arc;

use super::Shard;
use super::dialogue::Dialogue;
use super::handshake::{end_of_handshake, step};
use super::session::Output;
use crate::identity::{KeyRing, PoolKey};
use crate::telemetry::EndReason;
use crate::wire::{Hello, PublicKeys};

/// What a gateway was last told of the pool's keys; once is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    newest: [u8; 32],
    own_is_retired: bool,
}

/// Opens a HELLO with the key that it is sealed to, the newest tried first, and says which that is. What is sealed to none
/// costs one X25519 for each, of which there are [`crate::identity::KEYS_MAX`] at most, retired ones among them; others have
/// their turn between two.
///
/// # Errors
/// Why the connection ends.
pub(super) async fn unseal(shard: &Shard, payload: &[u8]) -> Result<(Hello, Vec<u8>, Arc<PoolKey>), EndReason> {
    let ring = shard.keys.borrow().clone();
    for key in ring.iter() {
        let opened = Hello::unseal(payload, key.secret());
        step().await;
        if let Ok(plain) = opened {
            let hello = Hello::decode(&plain).map_err(end_of_handshake)?;
            return Ok((hello, plain, key.clone()));
        }
    }
    for retired in ring.retired() {
        let opened = Hello::unseal_retired(payload, retired);
        step().await;
        if let Ok(plain) = opened {
            // Its gateway has still to be given another key; that is no fault of its address.
            return Err(Hello::decode(&plain).map_or_else(end_of_handshake, |_| EndReason::HelloRetired));
        }
    }
    Err(EndReason::HelloUnsealable)
}

impl Shard {
    /// Opens HELLOs with these keys from now on, and has gateways told of what concerns them.
    pub(super) fn take_keys(&self, ring: Arc<KeyRing>) {
        *self.keys.borrow_mut() = ring;
        self.slots.borrow().iter().for_each(|session| session.keys_changed());
    }
}

impl Dialogue {
    /// Tells the gateway's log of a newer key of the pool than it has, once for each.
    pub(super) fn say_newer_key(&mut self, out: &mut Output) {
        let ring = self.shard.keys.borrow().clone();
        let own = self.pool_key.public();
        if let Some((told, line)) = news(&ring, &own).filter(|(told, _)| self.told_of_key != Some(*told)) {
            self.outbound.info(&self.key, &line, &mut out.bytes);
            self.told_of_key = Some(told);
        }
    }
}

/// What a gateway that has the key `own` is to know.
fn news(ring: &KeyRing, own: &PublicKeys) -> Option<(Told, String)> {
    let newest = ring.newest().tally().public();
    if newest == *own {
        return None;
    }
    let own_is_retired = ring.find(own).is_none();
    let told = Told {
        newest: newest.ed25519,
        own_is_retired,
    };
    let until = if own_is_retired {
        "the old one is retired: the next connection with it is refused"
    } else {
        "the old one works until the pool retires it"
    };
    let line = format!("the pool has a new key: set datum.pool_pubkey to {newest} and restart the gateway; {until}");
    Some((told, line))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::identity::{Editor, Identity};
    use crate::wire::{INFO_MAX, SecretKeys};

    #[test]
    fn a_gateway_hears_of_the_newest_key_and_of_the_end_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let first = Identity::create(folder.path(), None, None).expect("keys");
        let own = first.public();
        let ring = KeyRing::new(&first, 1);
        assert_eq!(news(&ring, &own), None);

        let mut editor = Editor::open(folder.path(), || Err("none".into())).expect("nobody else");
        editor.add_newest(SecretKeys::from_seeds(&[1; 64])).expect("room");
        let second = editor.identity().public();
        let ring = ring.renewed(editor.identity(), Instant::now());
        assert_eq!(news(&ring, &second), None);
        let (told, line) = news(&ring, &own).expect("there is a newer one");
        assert!(
            !told.own_is_retired && line.contains(&format!("datum.pool_pubkey to {second} ")),
            "{line}"
        );
        assert!(line.len() < INFO_MAX && line.is_ascii());

        editor.retire(&own).expect("not the last");
        let (retired, line) = news(&ring.renewed(editor.identity(), Instant::now()), &own).expect("it is gone");
        assert!(
            retired != told && line.contains("is retired") && line.contains(&second.to_string()),
            "{line}"
        );
    }
}
