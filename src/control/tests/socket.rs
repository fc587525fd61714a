//! `control.sock`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;

use super::super::socket::{CONNECTIONS_MAX, ControlSocket, LINE_MAX};
use super::{Client, Running};
use crate::wire::Reason;

#[test]
fn only_the_owner_may_use_it() {
    let running = Running::start(1);
    let metadata = fs::symlink_metadata(running.socket_path()).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    running.connect().ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn a_stale_socket_is_replaced_and_anything_else_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "a listener that ends leaves its socket behind");
    drop(ControlSocket::bind(&path).expect("it is replaced"));
    assert!(!path.exists());

    fs::write(&path, "precious").expect("written");
    let error = ControlSocket::bind(&path)
        .err()
        .expect("a file is not replaced")
        .to_string();
    assert!(
        error.contains("not a socket") && error.contains("control.sock"),
        "{error}"
    );
    assert_eq!(fs::read(&path).expect("still there"), b"precious");

    let long = folder.path().join("d".repeat(120));
    let error = ControlSocket::bind(&long)
        .err()
        .expect("no socket has such a path")
        .to_string();
    assert!(error.contains(long.to_str().expect("text")), "{error}");
}

#[test]
fn status_says_how_the_pool_is() {
    let running = Running::start(2);
    let telemetry = &running.stand_in.telemetry;
    for shard in &telemetry.shards {
        shard.sessions.set(7);
        shard.gateways.set(8);
        shard.shares_accepted.add(100);
        shard.shares_refused[Reason::HighHash].add(2);
        shard.shares_refused[Reason::Other].add(1);
    }
    telemetry.ledger.sequence.set(201);
    let mut client = running.connect();
    let status = client.ask(r#"{"cmd":"status"}"#);
    for (key, value) in [
        ("shards", 2),
        ("sessions", 14),
        ("gateways", 16),
        ("shares_accepted", 200),
        ("shares_refused", 6),
        ("sequence", 201),
    ] {
        assert_eq!(status[key], value, "{key} of {status}");
    }
    assert_eq!((&status["ok"], &status["health"]), (&true.into(), &"good".into()));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    client.ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn a_line_reaches_every_shard() {
    let running = Running::start(2);
    let mut client = running.connect();
    assert_eq!(client.ask(r#"{"cmd":"info","line":"back at noon"}"#)["ok"], true);
    assert_eq!(client.ask(r#"{"cmd":"info","line":"Grüße"}"#)["ok"], true);
    for shard in 0..2 {
        assert_eq!(running.stand_in.lines(shard), ["back at noon", "Grüße"]);
    }

    running.stand_in.full[1].store(true, Ordering::Relaxed);
    let answer = client.ask(r#"{"cmd":"info","line":"hello"}"#);
    assert_eq!(answer["ok"], false);
    let error = answer["error"].as_str().expect("why");
    assert!(error.contains("[1]") && error.contains("full"), "{error}");
    running.stand_in.full[1].store(false, Ordering::Relaxed);

    for (line, why) in [
        ("", "empty"),
        (&"x".repeat(1_001), "1000"),
        ("a\\nb", "control"),
        ("a\\u0000", "control"),
    ] {
        let answer = client.ask(&format!(r#"{{"cmd":"info","line":"{line}"}}"#));
        assert_eq!(answer["ok"], false);
        assert!(
            answer["error"].as_str().is_some_and(|error| error.contains(why)),
            "{answer}"
        );
    }
    assert_eq!(
        client.ask(&format!(r#"{{"cmd":"info","line":"{}"}}"#, "x".repeat(1_000)))["ok"],
        true
    );
    assert_eq!(running.stand_in.lines(1).len(), 3, "what is refused reaches nobody");
    client.ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn what_is_no_command_is_refused_and_the_next_is_heard() {
    let running = Running::start(1);
    let mut client = running.connect();
    for line in [
        "",
        "{",
        "status",
        "[]",
        "{}",
        r#"{"cmd":"stop"}"#,
        r#"{"cmd":"info"}"#,
        r#"{"cmd":"info","line":7}"#,
        r#"{"cmd":"status","of":"all"}"#,
        r#"{"cmd":"drain","now":true}"#,
        &"[".repeat(10_000),
    ] {
        let answer = client.ask(line);
        assert_eq!(answer["ok"], false, "{line}");
        assert!(
            answer["error"].as_str().is_some_and(|error| !error.is_empty()),
            "{answer}"
        );
    }
    let unknown = client.ask(r#"{"cmd":"stop"}"#);
    assert!(
        unknown["error"].as_str().is_some_and(|error| error.contains("drain")),
        "it names what there is: {unknown}"
    );
    client.0.get_mut().write_all(b"\xff\xfe\n").expect("it reads");
    assert_eq!(client.answer().expect("an answer")["ok"], false);
    assert_eq!(client.ask(r#"{"cmd":"status"}"#)["ok"], true);
    client.ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn a_line_that_is_too_long_ends_the_connection_and_no_other() {
    let running = Running::start(1);
    let padded = |len: usize| {
        let command = r#"{"cmd":"status"}"#;
        format!("{command}{}", " ".repeat(len - command.len()))
    };
    let mut client = running.connect();
    assert_eq!(client.ask(&padded(LINE_MAX))["ok"], true, "the longest is heard");

    // It may close before it has taken all of it.
    let _ = client.0.get_mut().write_all(padded(LINE_MAX + 1).as_bytes());
    let answer = client.answer().expect("an answer");
    assert!(
        answer["error"].as_str().is_some_and(|error| error.contains("longer")),
        "{answer}"
    );
    assert_eq!(client.answer(), None, "it is closed");

    let mut other = running.connect();
    assert_eq!(other.ask(r#"{"cmd":"status"}"#)["ok"], true);
    other.ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn the_last_line_needs_no_newline() {
    let running = Running::start(1);
    let mut client = running.connect();
    client.0.get_mut().write_all(br#"{"cmd":"status"}"#).expect("it reads");
    client
        .0
        .get_mut()
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket");
    assert_eq!(client.answer().expect("an answer")["ok"], true);
    assert_eq!(client.answer(), None);
    running.connect().ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn connections_are_bounded() {
    let running = Running::start(1);
    let mut open: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| running.connect()).collect();
    for client in &mut open {
        assert_eq!(client.ask(r#"{"cmd":"status"}"#)["ok"], true);
    }
    let mut one_more = running.connect();
    let answer = one_more.answer().expect("it is told why");
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|error| error.contains("connections")),
        "{answer}"
    );
    assert_eq!(one_more.answer(), None);
    assert_eq!(open[3].ask(r#"{"cmd":"status"}"#)["ok"], true, "the others stay");
    open[0].ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}
