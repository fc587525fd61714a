//! Keys: old and new serve side by side, rotation and retirement beside a running pool, a passphrase, import; and what is
//! sealed to, or signed by, any other key than the right one proves nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use millrace::wire::{HandshakeError, Hello, PublicKeys, SecretKeys};
use serde_json::Value;
use tempfile::TempDir;

use crate::pool::gateway::{Gateway, hello_header, keys};
use crate::pool::session::{Heard, Session};
use crate::pool::{Launch, Pool, binary};

/// `millrace keys` with nobody at a terminal; what it is to read on stdin.
fn run(data: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(binary())
        .arg("keys")
        .args(args)
        .arg("--data-dir")
        .arg(data)
        .env_remove("MILLRACE_PASSPHRASE_FD")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // It may end without reading.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("it ends")
}

fn done(data: &Path, args: &[&str]) -> String {
    let output = run(data, args, "");
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What it said, where it must refuse.
fn refused(data: &Path, args: &[&str], stdin: &str) -> String {
    let output = run(data, args, stdin);
    assert!(!output.status.success(), "{args:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn newest(printed: &str) -> PublicKeys {
    let line = printed.lines().find_map(|line| line.strip_prefix("pool_pubkey "));
    line.expect("the newest key").parse().expect("128 hex digits")
}

fn shown(data: &Path) -> Value {
    serde_json::from_str(&done(data, &["show", "--json"])).expect("one JSON object")
}

/// Sessions by key, newest first, as the running pool counts them.
fn sessions(data: &Path) -> Vec<u64> {
    let shown = shown(data);
    let keys = shown["keys"].as_array().expect("a list");
    keys.iter()
        .map(|key| key["sessions"].as_u64().expect("a pool runs"))
        .collect()
}

/// The next line for the gateway's log.
fn info(session: &mut Session) -> String {
    loop {
        match session.next() {
            Heard::Info(line) => return line,
            Heard::Ping => {}
            other => panic!("INFO is due, not {other:?}"),
        }
    }
}

/// A file that its owner alone may read.
fn private(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file for the test");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    path.to_str().expect("text").to_owned()
}

#[test]
fn a_rotation_beside_a_running_pool_loses_nobody() {
    let mut pool = Pool::with(&["--shards", "2"]);
    let data = pool.data();
    let old = pool.key;
    let mut before: Vec<Session> = (0..3).map(|_| Gateway::new().connect(&pool)).collect();
    for session in &mut before {
        session.assert_works(0);
        assert_eq!(session.infos, [""; 0], "there is nothing to tell yet");
    }
    let new = newest(&done(&data, &["rotate"]));
    assert_ne!(new, old);

    // Those that are there hear of it once, and mine on.
    for session in &mut before {
        let line = info(session);
        assert!(line.contains(&format!("datum.pool_pubkey to {new} ")), "{line}");
        session.assert_works(1);
    }
    // One that comes with the old key hears of it behind its CONFIG; one with the new key has nothing to hear.
    let gateway = Gateway::new();
    let mut on_old = gateway.connect_to(pool.address, old);
    assert!(info(&mut on_old).contains(&new.to_string()));
    on_old.assert_works(0);
    let mut on_new = Gateway::new().connect_to(pool.address, new);
    on_new.assert_works(0);
    assert_eq!(on_new.infos, [""; 0]);
    assert_eq!(sessions(&data), [1, 4]);
    assert_eq!(pool.metric("millrace_key_sessions", &["state=\"newest\""]), 1);
    assert_eq!(pool.metric("millrace_key_sessions", &["state=\"former\""]), 4);
    let name = &old.to_string()[..16];
    assert!(done(&data, &["show"]).contains(&format!("sessions 4 on {name} (former)\n")));

    // Both outlive the process; a gateway that comes back with the old key is known by its own.
    drop((before, on_old, on_new));
    assert!(pool.terminate().success());
    pool.key = new;
    pool.restart();
    let mut on_old = gateway.connect_to(pool.address, old);
    assert!(info(&mut on_old).contains(&new.to_string()));
    on_old.assert_works(1);
    let mut on_new = Gateway::new().connect(&pool);
    on_new.assert_works(2);
    pool.wait_for_metric("millrace_key_sessions", &["state=\"former\""], 1);

    // While somebody is on it a key is not retired by mistake.
    let old_name = &old.to_string()[..12];
    let why = refused(&data, &["retire", old_name], "");
    assert!(why.contains("1 sessions are on this key"), "{why}");
    assert_eq!(newest(&done(&data, &["retire", old_name, "--force"])), new);
    // The session goes on, and its gateway knows that the next will not.
    let line = info(&mut on_old);
    assert!(line.contains("retired") && line.contains(&new.to_string()), "{line}");
    on_old.assert_works(3);
    assert_eq!(pool.metric("millrace_key_sessions", &["state=\"retired\""]), 1);
    let mut late = gateway.greet_with(pool.address, old);
    late.push_hello();
    late.flush_unless_closed();
    late.line.wait_for_close();
    pool.wait_for_ends("hello_retired", 1);
    assert_eq!(pool.ends("hello_unsealable"), 0);
    on_new.assert_works(3);
    drop(on_old);
    assert!(pool.metrics().contains("state=\"newest\""));
    let why = refused(&data, &["retire", &new.to_string()], "");
    assert!(why.contains("last key"), "{why}");
}

/// Gateways that come back every few seconds with a key that was taken from them are told apart from who tries keys.
#[test]
fn gateways_on_a_retired_key_get_nobody_behind_their_address_banned() {
    let pool = Pool::launch(Launch::config("[guards]\naddress_faults_per_min = 12\n"));
    let data = pool.data();
    let old = pool.key;
    let new = newest(&done(&data, &["rotate"]));
    done(&data, &["retire", &old.to_string()[..12], "--force"]);
    // Five times what an address may do wrong at once.
    for n in 1..=100 {
        let gateway = Gateway::new();
        let mut late = gateway.greet_with(pool.address, old);
        late.push_hello();
        late.flush_unless_closed();
        late.line.wait_for_close();
        pool.wait_for_ends("hello_retired", n);
    }
    assert_eq!(pool.metric("millrace_guard_banned_total", &[]), 0);
    Gateway::new().connect_to(pool.address, new).assert_works(0);
    // What is sealed to it and is no HELLO is what it would be under any key.
    let payload = Hello::seal(&[7; 200], &old.x25519);
    let gateway = Gateway::new();
    let mut greeting = gateway.greet_with(pool.address, old);
    greeting.push_frame(hello_header(payload.len()), &payload);
    greeting.flush_unless_closed();
    greeting.line.wait_for_close();
    pool.wait_for_ends("hello_malformed", 1);
}

#[test]
fn channel_keys_that_others_may_read_are_refused_at_the_start() {
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    gateway.connect(&pool).assert_works(0);
    let path = pool.data().join("channel_keys");
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(pool.terminate().success());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let refused = Command::new(binary())
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(pool.data())
        .output()
        .expect("the binary starts");
    let why = text(&refused.stderr);
    assert!(!refused.status.success() && why.contains("chmod 600"), "{why}");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    pool.restart();
    gateway.connect(&pool).assert_works(1);
}

#[test]
fn a_pool_with_a_passphrase_starts_with_it_and_rotates_without_stopping() {
    let home = TempDir::new().expect("a folder for the test");
    let word = private(home.path(), "word", "correct horse\nnot this line\n");
    let launch = Launch::dev(&["--shards", "1", "--passphrase-file", &word]);
    let mut pool = Pool::launch_on(launch, |data| {
        done(data, &["new", "--passphrase-file", &word]);
    });
    let data = pool.data();
    let identity = std::fs::read_to_string(data.join("identity")).expect("readable");
    assert!(identity.contains("\nargon2id "), "{identity}");
    assert_eq!(shown(&data)["passphrase"], true);
    let old = pool.key;
    Gateway::new().connect(&pool).assert_works(0);

    let why = refused(&data, &["rotate"], "");
    assert!(
        why.contains("--passphrase-file") && why.contains("MILLRACE_PASSPHRASE_FD"),
        "{why}"
    );
    let wrong = private(home.path(), "wrong", "wrong horse\n");
    let why = refused(&data, &["rotate", "--passphrase-file", &wrong], "");
    assert!(why.contains("does not open with this passphrase"), "{why}");
    let new = newest(&done(&data, &["rotate", "--passphrase-file", &word]));
    Gateway::new().connect_to(pool.address, new).assert_works(1);
    Gateway::new().connect_to(pool.address, old).assert_works(2);

    // Another passphrase: the running pool keeps its keys, and the next start needs the new one.
    let other = private(home.path(), "other", "other horse");
    let args = [
        "passphrase",
        "--passphrase-file",
        &word,
        "--new-passphrase-file",
        &other,
    ];
    done(&data, &args);
    let why = refused(&data, &["rotate", "--passphrase-file", &other], "");
    assert!(why.contains("on disk") && why.contains("next start"), "{why}");
    Gateway::new().connect_to(pool.address, new).assert_works(3);
    let newest = shown(&data)["datum"]["pool_pubkey"].as_str().expect("a key").to_owned();
    assert!(pool.terminate().success());
    let refuses = Command::new(binary())
        .args([
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--passphrase-file",
            &word,
            "--data-dir",
        ])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    assert!(!refuses.status.success());
    assert!(text(&refuses.stderr).contains("does not open with this passphrase"));
    pool.key = newest.parse().expect("128 hex digits");
    pool.restart_with(&["--shards", "1", "--passphrase-file", &other]);
    Gateway::new().connect_to(pool.address, old).assert_works(4);

    // Others must not be able to read what protects the keys; and without any the file is plain again.
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o640)).expect("it is ours");
    let why = refused(&data, &["passphrase", "--remove", "--passphrase-file", &other], "");
    assert!(why.contains("chmod 600"), "{why}");
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o600)).expect("it is ours");
    done(&data, &["passphrase", "--remove", "--passphrase-file", &other]);
    assert!(pool.terminate().success());
    pool.restart_with(&["--shards", "1"]);
}

#[test]
fn the_passphrase_comes_from_a_descriptor_or_from_systemd_too() {
    let home = TempDir::new().expect("a folder for the test");
    let word = private(home.path(), "millrace-passphrase", "correct horse\n");
    let data = home.path().join("data");
    let made = newest(&done(&data, &["new", "--passphrase-file", &word]));
    let rotated = |shell: &str| {
        let output = Command::new("sh")
            .args(["-c", shell, "sh"])
            .arg(binary())
            .args(["keys", "rotate", "--data-dir"])
            .arg(&data)
            .env("WORD", &word)
            .env("FOLDER", home.path())
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        assert!(output.status.success(), "{shell}: {}", text(&output.stderr));
        newest(&text(&output.stdout))
    };
    let second = rotated("MILLRACE_PASSPHRASE_FD=3 exec \"$@\" 3<\"$WORD\"");
    let third = rotated("cat \"$WORD\" | { MILLRACE_PASSPHRASE_FD=4 \"$@\" 4<&0 </dev/null; }");
    let fourth = rotated("CREDENTIALS_DIRECTORY=\"$FOLDER\" exec \"$@\"");
    let listed: Vec<PublicKeys> = shown(&data)["keys"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| key["pool_pubkey"].as_str().expect("a key").parse().expect("digits"))
        .collect();
    assert_eq!(listed, [fourth, third, second, made]);
    let why = refused(&data, &["rotate", "--passphrase-file", &word], "");
    assert!(why.contains("4 keys") && why.contains("retire"), "{why}");
}

#[test]
fn a_planned_restart_finds_the_passphrase_behind_the_descriptor_that_the_first_start_had() {
    let home = TempDir::new().expect("a folder for the test");
    let word = private(home.path(), "word", "correct horse\n");
    for (args, env) in [
        (&["--passphrase-file", "/dev/fd/3"][..], None),
        (&[], Some(("MILLRACE_PASSPHRASE_FD".to_owned(), "3".to_owned()))),
    ] {
        let launch = Launch {
            descriptor: Some(word.clone().into()),
            env: env.into_iter().collect(),
            ..Launch::dev(&[&["--shards", "1"], args].concat())
        };
        let mut pool = Pool::launch_on(launch, |data| {
            done(data, &["new", "--passphrase-file", &word]);
        });
        let pid = pool.pid();
        for round in 0..2 {
            pool.signal("USR2");
            pool.began_again();
            assert_eq!(pool.pid(), pid);
            Gateway::new().connect(&pool).assert_works(round);
        }
        assert!(pool.terminate().success());
    }
}

#[test]
fn seeds_of_another_pool_are_taken_over() {
    let home = TempDir::new().expect("a folder for the test");
    let data = home.path().join("data");
    let seeds = |byte: u8| format!("{byte:02x}").repeat(64);
    let public = |byte: u8| SecretKeys::from_seeds(&[byte; 64]).public();
    for bad in ["", "abc", &seeds(1)[1..], &(seeds(1) + "0"), &"g".repeat(128)] {
        let why = refused(&data, &["import"], bad);
        assert!(why.contains("128 hex digits") && !why.contains("0101"), "{why}");
    }
    let first = run(&data, &["import"], &format!("{}\n", seeds(1)));
    assert_eq!(newest(&text(&first.stdout)), public(1));
    let mode = std::fs::metadata(data.join("identity"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // A pool that moves here keeps its gateways, and has keys of its own for new ones.
    let file = private(home.path(), "seeds", &seeds(2));
    assert_eq!(newest(&done(&data, &["import", "--former", &file])), public(1));
    assert_eq!(
        newest(&done(&data, &["import", &private(home.path(), "more", &seeds(3))])),
        public(3)
    );
    let why = refused(&data, &["import"], &seeds(2));
    assert!(why.contains("has this key already"), "{why}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let why = refused(&data, &["import", &file], "");
    assert!(why.contains("chmod 600"), "{why}");

    let pool = Pool::launch_on(Launch::dev(&["--shards", "1"]), |to| {
        std::fs::copy(data.join("identity"), to.join("identity")).expect("a copy with its mode");
    });
    assert_eq!(pool.key, public(3));
    for byte in [1, 2, 3] {
        Gateway::new()
            .connect_to(pool.address, public(byte))
            .assert_works(byte.into());
    }
}

#[test]
fn a_hello_under_any_wrong_key_is_refused_with_its_reason_whatever_keys_serve() {
    let pool = Pool::with(&["--shards", "1"]);
    let data = pool.data();
    let retired = pool.key;
    let former = newest(&done(&data, &["rotate"]));
    let newest = newest(&done(&data, &["rotate"]));
    done(&data, &["retire", &retired.to_string()]);
    let gateway = Gateway::new();
    let session_keys = keys();
    let stranger = keys();
    let mut hello = gateway.greet(&pool).hello.clone();
    hello.session = session_keys.public();
    let say = |signer: &SecretKeys, sealed_to: &[u8; 32]| {
        let mut greeting = gateway.greet(&pool);
        let payload = Hello::seal(&hello.encode(signer), sealed_to);
        greeting.push_frame(hello_header(payload.len()), &payload);
        greeting.flush_unless_closed();
        greeting.line.wait_for_close();
    };
    pool.wait_for_ends("peer_closed", 1);
    for (reason, signer, sealed_to) in [
        ("hello_retired", &gateway.long_term, retired.x25519),
        ("hello_unsealable", &gateway.long_term, newest.ed25519),
        ("hello_unsealable", &gateway.long_term, stranger.public().x25519),
        (
            "hello_unsealable",
            &gateway.long_term,
            gateway.long_term.public().x25519,
        ),
        ("hello_signature", &session_keys, newest.x25519),
        ("hello_signature", &session_keys, former.x25519),
        ("hello_signature", &stranger, newest.x25519),
        ("hello_signature", &stranger, former.x25519),
    ] {
        let before = pool.ends(reason);
        say(signer, &sealed_to);
        pool.wait_for_ends(reason, before + 1);
    }
    // The response is signed by the key that HELLO was sealed to, and by no other of the pool.
    for (sealed_to, expected, accepted) in [
        (former, former, true),
        (newest, newest, true),
        (former, newest, false),
        (newest, former, false),
    ] {
        let answered = gateway
            .greet_with(pool.address, sealed_to)
            .response_signed_by(&expected);
        assert_eq!(
            answered,
            if accepted {
                Ok(())
            } else {
                Err(HandshakeError::Signature)
            }
        );
    }
}
