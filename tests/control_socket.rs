//! `control.sock`: the owner asks how the pool is, tells gateways a line, and has it drain.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::pool::gateway::Gateway;
use crate::pool::session::Heard;
use crate::pool::{PATIENCE, Pool, STOP_WITHIN};
use serde_json::{Value, json};

struct Control {
    read: BufReader<UnixStream>,
}

impl Control {
    fn open(pool: &Pool) -> Self {
        let stream = UnixStream::connect(pool.data().join("control.sock")).expect("the socket is served");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            read: BufReader::new(stream),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.read.get_mut().write_all(bytes).expect("the line is taken");
    }

    /// None where the pool has closed the connection.
    fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        let len = self.read.read_line(&mut line).expect("an answer");
        (len > 0).then(|| serde_json::from_str(&line).expect("one JSON object a line"))
    }

    fn ask(&mut self, command: &Value) -> Value {
        self.write(format!("{command}\n").as_bytes());
        self.answer().expect("every line is answered")
    }

    /// The answer to a command that must be refused: why.
    fn refused(&mut self, line: &str) -> String {
        self.write(format!("{line}\n").as_bytes());
        let answer = self.answer().expect("every line is answered");
        assert_eq!(answer["ok"], false, "{line}: {answer}");
        answer["error"].as_str().expect("a reason").to_owned()
    }
}

#[test]
fn is_the_owners_alone_and_gone_with_the_pool() {
    let mut pool = Pool::start();
    let path = pool.data().join("control.sock");
    let found = std::fs::metadata(&path).expect("the socket is there");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    // One that a killed pool left is replaced.
    pool.kill();
    assert!(path.exists());
    pool.restart();
    assert_eq!(Control::open(&pool).ask(&json!({"cmd": "status"}))["ok"], true);

    assert!(pool.terminate().success());
    assert!(!path.exists());
}

#[test]
fn status_says_how_the_pool_is() {
    let pool = Pool::with(&["--shards", "2"]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    for n in 0..5 {
        assert_eq!(session.submit(&template.share(n).with_sections()), Ok(()));
    }
    assert!(session.submit(&template.share(0).bare()).is_err());
    let mut control = Control::open(&pool);
    let status = control.ask(&json!({"cmd": "status"}));
    for (name, value) in [
        ("ok", json!(true)),
        ("health", json!("good")),
        ("shards", json!(2)),
        ("sessions", json!(1)),
        ("gateways", json!(1)),
        ("shares_accepted", json!(5)),
        ("shares_refused", json!(1)),
        ("sequence", json!(5)),
        ("payees", json!(1)),
        ("workers", json!(1)),
    ] {
        assert_eq!(status[name], value, "{name} in {status}");
    }
}

#[test]
fn info_reaches_every_gateway() {
    let pool = Pool::with(&["--shards", "2"]);
    let mut sessions: Vec<_> = (0..6).map(|_| Gateway::new().connect(&pool)).collect();
    let mut control = Control::open(&pool);
    let line = "maintenance at 12:00, \u{00fc}ber and out";
    assert_eq!(control.ask(&json!({"cmd": "info", "line": line})), json!({"ok": true}));
    for session in &mut sessions {
        loop {
            match session.next() {
                Heard::Info(heard) => {
                    assert_eq!(heard, line);
                    break;
                }
                Heard::Ping => {}
                other => panic!("{other:?}"),
            }
        }
        session.assert_works(0);
    }
}

#[test]
fn what_it_does_not_understand_is_refused_with_a_reason_and_harms_nothing() {
    let pool = Pool::start();
    let mut control = Control::open(&pool);
    for line in [
        "",
        "status",
        "{}",
        "{\"cmd\":\"launch\"}",
        "{\"cmd\":\"info\"}",
        "[1]",
        "{\"cmd\":\"status\",\"x\":1}",
    ] {
        assert!(!control.refused(line).is_empty());
    }
    for line in [json!(""), json!("a\nb"), json!("\u{0}"), json!("x".repeat(1_001))] {
        let command = json!({"cmd": "info", "line": line});
        assert!(control.refused(&command.to_string()).contains("line"), "{command}");
    }
    assert_eq!(control.ask(&json!({"cmd": "status"}))["ok"], true);

    // Too long a line ends its connection, and no other.
    let mut flood = Control::open(&pool);
    flood.write(&[b'x'; 65 * 1_024]);
    assert_eq!(flood.answer().expect("an answer")["ok"], false);
    assert_eq!(flood.answer(), None);
    assert_eq!(control.ask(&json!({"cmd": "status"}))["ok"], true);
    Gateway::new().connect(&pool).assert_works(0);
}

#[test]
fn drain_answers_what_is_under_way_and_stops_in_time() {
    let mut pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    for n in 0..200 {
        let share = template.share(n);
        session.push(&if n == 0 { share.with_sections() } else { share.bare() });
    }
    session.flush();
    assert!(session.answer().is_some());
    let asked = Instant::now();
    assert_eq!(Control::open(&pool).ask(&json!({"cmd": "drain"})), json!({"ok": true}));
    let answered = 1 + session.drain().len() as u64;
    assert!(pool.wait().success());
    assert!(asked.elapsed() < STOP_WITHIN, "stopped after {:?}", asked.elapsed());
    assert!(!session.infos.is_empty());
    assert_eq!(pool.stored(), answered);
}
