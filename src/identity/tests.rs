use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::*;
use crate::wire::Hello;

use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().expect("a folder for the test")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it is there");
    entries
        .map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"))
        .collect()
}

#[test]
fn what_was_made_is_loaded_and_for_the_owner_alone() {
    let folder = folder();
    let data = folder.path().join("pool/data");
    let made = Identity::create(&data, None, None).expect("keys");
    let loaded = Identity::load(&data, unasked).expect("keys");
    assert_eq!(made.public(), loaded.public());
    assert_eq!(*made.newest().seeds(), *loaded.newest().seeds());
    assert_eq!(mode(&data.join(FILE)), 0o600);
    assert_eq!(mode(&data), 0o700);
    assert_eq!(names(&data), [FILE]);
}

#[test]
fn keys_are_never_written_over() {
    let folder = folder();
    let first = Identity::create(folder.path(), None, None).expect("keys");
    let error = Identity::create(folder.path(), None, None).expect_err("there are keys");
    assert!(matches!(error, IdentityError::Exists(_)), "{error}");
    assert_eq!(
        Identity::load(folder.path(), unasked).expect("keys").public(),
        first.public()
    );
    assert_eq!(names(folder.path()), [FILE]);
    // A link that leads nowhere is a name that is taken, too.
    fs::remove_file(folder.path().join(FILE)).expect("it is there");
    symlink("nowhere", folder.path().join(FILE)).expect("a link");
    assert!(matches!(
        Identity::create(folder.path(), None, None),
        Err(IdentityError::Exists(_))
    ));
}

#[test]
fn missing_keys_are_made_once_where_that_is_asked_for() {
    let folder = folder();
    let error = Identity::load(folder.path(), unasked).expect_err("no keys yet");
    assert!(matches!(error, IdentityError::Missing(_)), "{error}");
    assert!(error.to_string().contains("millrace keys new"), "{error}");
    let made = Identity::load_or_create(folder.path(), unasked, false).expect("keys");
    let loaded = Identity::load_or_create(folder.path(), unasked, false).expect("keys");
    assert_eq!(made.public(), loaded.public());

    let protected = TempDir::new().expect("a folder for the test");
    let ask = || asked(b"word");
    let made = Identity::load_or_create(protected.path(), ask, true).expect("keys");
    assert!(made.public_half().is_locked);
    let loaded = Identity::load_or_create(protected.path(), ask, true).expect("keys");
    assert_eq!(made.public(), loaded.public());
}

#[test]
fn two_pools_have_two_identities() {
    let (one, other) = (folder(), folder());
    let one = Identity::create(one.path(), None, None).expect("keys");
    let other = Identity::create(other.path(), None, None).expect("keys");
    assert_ne!(one.public(), other.public());
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let folder = folder();
    let path = folder.path().join(FILE);
    Identity::create(folder.path(), None, None).expect("keys");
    for open in [0o640, 0o604, 0o660, 0o620, 0o601] {
        set_mode(&path, open);
        let error = Identity::load(folder.path(), unasked).expect_err("too open");
        assert!(
            matches!(error, IdentityError::TooOpen { mode, .. } if mode == open),
            "{error}"
        );
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    set_mode(&path, 0o400);
    Identity::load(folder.path(), unasked).expect("the owner alone may read it");
}

#[test]
fn any_damage_is_noticed() {
    let seeds = Zeroizing::new([0xa5; 64]);
    let public = SecretKeys::from_seeds(&seeds).public();
    let keys = vec![PublicEntry {
        keys: public,
        added_s: 7,
    }];
    let plain = Stored {
        keys: keys.clone(),
        secrets: Secrets::Plain(text::joined([seeds.clone()].into_iter())),
    };
    let locked = Stored::locked(keys, &cheap_lock(b"a passphrase"), &*seeds).expect("randomness");
    for good in [plain.render(), locked.render(), version_1()] {
        let good = good.as_bytes();
        Stored::parse(good, Path::new(FILE)).expect("good");
        let refused = |content: &[u8], what: &dyn std::fmt::Display| {
            let error = Stored::parse(content, Path::new(FILE)).expect_err(&format!("damaged: {what}"));
            let known = matches!(error, IdentityError::Damaged { .. } | IdentityError::Version { .. });
            assert!(known, "{what}: {error}");
        };
        for at in 0..good.len() {
            refused(&good[..at], &format_args!("cut at {at}"));
            // One bit, and the case of a hex digit.
            for flip in [0x01, 0x20] {
                let mut bad = good.to_vec();
                bad[at] ^= flip;
                refused(&bad, &format_args!("byte {at} flipped by {flip:#x}"));
            }
        }
        refused(&[good, b"\n"].concat(), &"longer");
    }
}

#[test]
fn a_damaged_file_is_refused_whatever_its_length() {
    let folder = folder();
    let path = folder.path().join(FILE);
    Identity::create(folder.path(), None, None).expect("keys");
    let good = fs::read(&path).expect("readable");
    for bad in [
        &[][..],
        &good[..good.len() - 1],
        &[&good[..], b"\n"].concat(),
        &good.repeat(1_000),
    ] {
        fs::write(&path, bad).expect("writable");
        let error = Identity::load(folder.path(), unasked).expect_err("damaged");
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
    }
    fs::write(&path, &good).expect("writable");
    Identity::load(folder.path(), unasked).expect("whole again");
}

#[test]
fn another_version_is_refused_by_its_name() {
    let folder = folder();
    let path = folder.path().join(FILE);
    Identity::create(folder.path(), None, None).expect("keys");
    let text = fs::read_to_string(&path).expect("readable");
    fs::write(&path, text.replacen("identity 2", "identity 3", 1)).expect("writable");
    let error = Identity::load(folder.path(), unasked).expect_err("a later version");
    assert!(
        matches!(&error, IdentityError::Version { found, .. } if found == "3"),
        "{error}"
    );
}

#[test]
fn a_folder_in_its_place_is_refused() {
    let folder = folder();
    fs::create_dir(folder.path().join(FILE)).expect("a folder");
    let error = Identity::load(folder.path(), unasked).expect_err("no file");
    assert!(
        matches!(
            error,
            IdentityError::Damaged {
                why: "it is not a file",
                ..
            }
        ),
        "{error}"
    );
}

/// The text of the first version, as older programs wrote it.
fn version_1() -> Zeroizing<String> {
    use sha2::Digest;
    let mut text = format!(
        "millrace identity 1\ned25519_seed {}\nx25519_secret {}\n",
        "11".repeat(32),
        "ee".repeat(32)
    );
    let checksum = sha2::Sha256::digest(text.as_bytes());
    text.push_str("checksum ");
    checksum[..16]
        .iter()
        .for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text.push('\n');
    Zeroizing::new(text)
}

#[test]
fn a_file_of_the_first_version_is_read_and_written_as_the_second() {
    let folder = folder();
    let path = folder.path().join(FILE);
    fs::write(&path, version_1().as_bytes()).expect("writable");
    set_mode(&path, 0o600);
    let mut seeds = [0x11; 64];
    seeds[32..].fill(0xee);
    let loaded = Identity::load(folder.path(), unasked).expect("keys");
    assert_eq!(*loaded.newest().seeds(), seeds);
    let mut editor = Editor::open(folder.path(), unasked).expect("nobody else");
    editor.add_newest(SecretKeys::from_seeds(&[5; 64])).expect("room");
    editor.save().expect("writable");
    let text = fs::read_to_string(&path).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "millrace identity 2");
    assert!(lines[1].starts_with(&format!("key {} ", SecretKeys::from_seeds(&[5; 64]).public())));
    assert_eq!(lines[2], format!("key {} 0", loaded.public()));
    assert_eq!(lines[3], "plain");
    let secrets = ["05".repeat(64), "11".repeat(32), "ee".repeat(32)].concat();
    assert_eq!(lines[4], format!("secrets {secrets}"));
    assert!(lines[5].starts_with("checksum ") && lines.len() == 6);
    assert!(text.len() <= text::FILE_MAX);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(folder.path()), [FILE]);
}

#[test]
fn keys_are_added_up_to_a_bound_and_retired_down_to_the_last() {
    let folder = folder();
    let first = Identity::create(folder.path(), None, None).expect("keys").public();
    let mut editor = Editor::open(folder.path(), unasked).expect("nobody else");
    let busy = Editor::open(folder.path(), unasked).expect_err("one at a time");
    assert!(matches!(busy, IdentityError::Busy(_)), "{busy}");
    let key = |seed: u8| SecretKeys::from_seeds(&[seed; 64]);
    editor.add_newest(key(1)).expect("room");
    editor.add_former(key(2)).expect("room");
    assert!(matches!(editor.add_newest(key(2)), Err(IdentityError::KnownKey(_))));
    editor.add_newest(key(3)).expect("room");
    assert!(matches!(editor.add_newest(key(4)), Err(IdentityError::TooManyKeys(_))));
    let before = Identity::load(folder.path(), unasked).expect("keys");
    assert_eq!(before.public_half().keys.len(), 1, "nothing is written yet");
    let saved = editor.save().expect("writable");
    let order = [key(3).public(), key(1).public(), first, key(2).public()];
    let listed = |half: PublicHalf| half.keys.iter().map(|entry| entry.keys).collect::<Vec<_>>();
    assert_eq!(listed(saved.public_half()), order);
    assert_eq!(listed(public_half(folder.path()).expect("readable")), order);
    // Four keys with a passphrase are the longest file.
    let mut editor = Editor::open(folder.path(), unasked).expect("nobody else");
    editor.identity.lock = Some(cheap_lock(b"word"));
    editor.save().expect("writable");
    let loaded = Identity::load(folder.path(), || asked(b"word")).expect("keys");
    assert_eq!(listed(loaded.public_half()), order);

    let mut editor = Editor::open(folder.path(), || asked(b"word")).expect("nobody else");
    assert!(matches!(
        editor.retire(&key(9).public()),
        Err(IdentityError::UnknownKey(_))
    ));
    for gone in [first, key(3).public(), key(2).public()] {
        editor.retire(&gone).expect("not the last");
    }
    assert!(matches!(
        editor.retire(&key(1).public()),
        Err(IdentityError::LastKey(_))
    ));
    assert_eq!(editor.save().expect("writable").public(), key(1).public());
    assert_eq!(names(folder.path()), [FILE]);
}

fn cheap_lock(passphrase: &[u8]) -> Lock {
    let cost = Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    Lock::derive(&asked(passphrase).expect("a passphrase"), cost, [3; 16])
}

fn asked(passphrase: &[u8]) -> Asked {
    Ok(Passphrase::new(Zeroizing::new(passphrase.to_vec()))?)
}

/// Where no passphrase is needed none is asked for.
fn unasked() -> Asked {
    Err("nobody should ask".into())
}

#[test]
fn a_passphrase_protects_the_secrets_and_not_the_public_half() {
    let folder = folder();
    let seeds = [0x42; 64];
    let passphrase = asked("correct horse \u{fc}".as_bytes()).expect("a passphrase");
    let made = Identity::create(folder.path(), Some(SecretKeys::from_seeds(&seeds)), Some(&passphrase)).expect("keys");
    let text = fs::read_to_string(folder.path().join(FILE)).expect("readable");
    assert!(!text.contains(&"42".repeat(16)), "no seed stands there in clear");
    assert!(text.contains("\nargon2id 65536 3 1 "), "{text}");
    let half = public_half(folder.path()).expect("readable without it");
    assert!(half.is_locked && half.keys[0].keys == made.public());

    let loaded = Identity::load(folder.path(), || asked("correct horse \u{fc}".as_bytes())).expect("keys");
    assert_eq!(*loaded.newest().seeds(), seeds);
    let wrong = Identity::load(folder.path(), || asked(b"correct horse")).expect_err("another");
    assert!(matches!(wrong, IdentityError::WrongPassphrase(_)), "{wrong}");
    let missing = Identity::load(folder.path(), unasked).expect_err("none");
    assert!(matches!(missing, IdentityError::NoPassphrase { .. }), "{missing}");
    assert!(missing.to_string().contains("nobody should ask"), "{missing}");
}

#[test]
fn a_running_pool_reads_it_again_without_asking_until_the_passphrase_is_another() {
    let folder = folder();
    Identity::create(folder.path(), None, None).expect("keys");
    let protect = |with: Option<Lock>, was: &'static [u8]| {
        let mut editor = Editor::open(folder.path(), || asked(was)).expect("nobody else");
        editor.identity.lock = with;
        editor.save().expect("writable")
    };
    let running = protect(Some(cheap_lock(b"word")), b"");
    let mut editor = Editor::open(folder.path(), || asked(b"word")).expect("nobody else");
    let first = fs::read(folder.path().join(FILE)).expect("readable");
    editor.add_newest(SecretKeys::from_seeds(&[1; 64])).expect("room");
    let saved = editor.save().expect("writable");
    assert_ne!(fs::read(folder.path().join(FILE)).expect("readable"), first);
    assert_eq!(running.again().expect("the same passphrase").public(), saved.public());
    protect(None, b"word");
    assert_eq!(running.again().expect("no passphrase").public(), saved.public());
    protect(Some(cheap_lock(b"other")), b"");
    let error = running.again().expect_err("another passphrase under the same salt");
    assert!(matches!(error, IdentityError::WrongPassphrase(_)), "{error}");
    let salted = Lock::derive(
        &asked(b"word").expect("a passphrase"),
        cheap_lock(b"word").cost,
        [4; 16],
    );
    protect(Some(salted), b"other");
    let error = running.again().expect_err("another salt");
    assert!(matches!(error, IdentityError::PassphraseChanged(_)), "{error}");
}

#[test]
fn what_stands_above_the_secrets_cannot_be_changed_without_the_passphrase() {
    let keys = |seed: u8| PublicEntry {
        keys: SecretKeys::from_seeds(&[seed; 64]).public(),
        added_s: 7,
    };
    let lock = cheap_lock(b"word");
    let open = |stored: Stored| {
        Identity::open(Path::new(""), stored, |cost, salt| {
            Ok(Lock::derive(&asked(b"word").expect("a passphrase"), cost, salt))
        })
    };
    let stored = || Stored::locked(vec![keys(1)], &lock, &[1; 64]).expect("randomness");
    open(stored()).expect("as it was written");
    let mut other_time = stored();
    other_time.keys[0].added_s = 8;
    let mut other_key = stored();
    other_key.keys = vec![keys(2)];
    let mut more_passes = stored();
    if let Secrets::Locked { cost, .. } = &mut more_passes.secrets {
        cost.passes = 2;
    }
    for changed in [other_time, other_key, more_passes] {
        let error = open(changed).expect_err("changed");
        assert!(matches!(error, IdentityError::WrongPassphrase(_)), "{error}");
    }
    // Where no passphrase is, the checksum is made again; but a public key must be that of its secret.
    let plain = Stored {
        keys: vec![keys(2)],
        secrets: Secrets::Plain(Zeroizing::new(vec![1; 64])),
    };
    let error = open(plain).expect_err("another public key");
    assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
}

#[test]
fn a_file_that_asks_for_all_memory_is_refused_before_it_gets_any() {
    for (memory_kib, passes, lanes) in [
        (1_048_577, 1, 1),
        (63, 1, 1),
        (64, 17, 1),
        (64, 0, 1),
        (64, 1, 5),
        (64, 1, 0),
    ] {
        let mut stored = Stored::locked(
            vec![PublicEntry {
                keys: SecretKeys::from_seeds(&[1; 64]).public(),
                added_s: 7,
            }],
            &cheap_lock(b"word"),
            &[1; 64],
        )
        .expect("randomness");
        if let Secrets::Locked { cost, .. } = &mut stored.secrets {
            *cost = Cost {
                memory_kib,
                passes,
                lanes,
            };
        }
        let error = Stored::parse(stored.render().as_bytes(), Path::new(FILE)).expect_err("too much, or too little");
        assert!(matches!(error, IdentityError::Cost(_)), "{error}");
    }
    for (lanes, passes) in [(1, 1), (4, 2)] {
        let cost = Cost {
            memory_kib: 64,
            passes,
            lanes,
        };
        Lock::derive(&asked(b"word").expect("a passphrase"), cost, [0; 16]);
    }
}

#[test]
fn a_passphrase_has_a_length() {
    let new = |len| Passphrase::new(Zeroizing::new(vec![b'x'; len])).map(|_| ());
    assert_eq!(new(0), Err(PassphraseError::Empty));
    assert_eq!(new(1), Ok(()));
    assert_eq!(new(PASSPHRASE_MAX), Ok(()));
    assert_eq!(new(PASSPHRASE_MAX + 1), Err(PassphraseError::TooLong));
}

#[test]
fn a_ring_counts_sessions_by_key_and_keeps_the_count_of_keys_that_stay() {
    let folder = folder();
    let identity = Identity::create(folder.path(), None, None).expect("keys");
    let ring = KeyRing::new(&identity, 2);
    let first = ring.newest().tally().clone();
    let uses: Vec<_> = [0, 1, 1].map(|shard| KeyUse::begin(first.clone(), shard)).into();
    assert_eq!(first.sessions(), 3);
    let mut editor = Editor::open(folder.path(), unasked).expect("nobody else");
    editor.add_newest(SecretKeys::from_seeds(&[1; 64])).expect("room");
    let rotated = ring.renewed(&editor.save().expect("writable"), Instant::now());
    assert_eq!(rotated.newest().tally().sessions(), 0);
    let second = KeyUse::begin(rotated.newest().tally().clone(), 0);
    assert_eq!(second.public(), SecretKeys::from_seeds(&[1; 64]).public());
    let counts: Vec<u64> = rotated.iter().map(|key| key.tally().sessions()).collect();
    assert_eq!(counts, [1, 3]);
    drop(uses);
    assert_eq!(
        rotated.find(&first.public()).expect("it serves on").tally().sessions(),
        0
    );
    assert!(ring.find(&second.public()).is_none());
    assert!(identity.public().to_string().starts_with(&first.name()) && first.name().len() == 16);
}

#[test]
fn seeds_are_so_many_hex_digits() {
    let digits = [b'a'; SEED_DIGITS];
    assert_eq!(from_seed_digits(&digits).map(|keys| *keys.seeds()), Some([0xaa; 64]));
    for bad in [&digits[1..], &[b'a'; SEED_DIGITS + 1], &[b'g'; SEED_DIGITS]] {
        assert!(from_seed_digits(bad).is_none());
    }
}

#[test]
fn a_retired_key_is_known_for_a_while_and_what_a_hello_costs_stays_bounded() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut identity = Identity::create(folder.path(), None, None).expect("keys");
    let mut ring = KeyRing::new(&identity, 1);
    let start = Instant::now();
    let mut now = start;
    let edited = |change: &dyn Fn(&mut Editor)| {
        let mut editor = Editor::open(folder.path(), || Err("none".into())).expect("nobody else");
        change(&mut editor);
        editor.save().expect("writable")
    };
    let first = identity.public();
    let sealed = Hello::seal(b"something", &first.x25519);
    let opened = |ring: &KeyRing| {
        let by = |opener| Hello::unseal_retired(&sealed, opener).ok();
        ring.retired().filter_map(by).collect::<Vec<_>>()
    };
    // Rotated again and again, always with one key that serves.
    for seed in 1..=6 {
        identity = edited(&|editor| {
            let last = editor.identity().public();
            editor.add_newest(SecretKeys::from_seeds(&[seed; 64])).expect("room");
            editor.retire(&last).expect("not the last");
        });
        now += Duration::from_secs(1);
        ring = ring.renewed(&identity, now);
        assert_eq!(ring.retired().count(), usize::from(seed).min(KEYS_MAX - 1));
        assert_eq!(
            opened(&ring).len(),
            usize::from(seed <= 3),
            "{seed}: the latest are known"
        );
    }
    // Keys that serve go first.
    identity = edited(&|editor| {
        for seed in 11..=13 {
            editor.add_newest(SecretKeys::from_seeds(&[seed; 64])).expect("room");
        }
    });
    assert_eq!(ring.renewed(&identity, now).retired().count(), 0);
    // One that serves again is not retired.
    let back = edited(&|editor| {
        for seed in 11..=13 {
            let key = SecretKeys::from_seeds(&[seed; 64]).public();
            editor.retire(&key).expect("there");
        }
        editor.add_former(SecretKeys::from_seeds(&[5; 64])).expect("room");
    });
    assert_eq!(ring.renewed(&back, now).retired().count(), 2);
    // Each has its own time.
    assert!(ring.without_old(now).is_none());
    let later = ring.without_old(start + Duration::from_secs(4) + RETIRED_KNOWN_FOR);
    assert_eq!(later.expect("some are old").retired().count(), 2);
    assert_eq!(ring.renewed(&back, now + RETIRED_KNOWN_FOR).retired().count(), 0);
}
