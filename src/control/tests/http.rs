//! Metrics over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

use super::super::{http, metrics};
use super::{PATIENCE, Running, StandIn};

/// Head and body of the answer.
fn request(address: SocketAddr, line: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "{line} HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.into())
}

#[test]
fn metrics_are_served_and_nothing_else() {
    let running = Running::start(2);
    running.stand_in.telemetry.shards[1].shares_accepted.add(12);
    let (head, body) = request(running.metrics, "GET /metrics");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains(&format!("content-type: {}", metrics::CONTENT_TYPE)),
        "{head}"
    );
    assert!(
        body.contains("millrace_shares_accepted_total{shard=\"1\"} 12\n"),
        "{body}"
    );
    assert!(body.ends_with("# EOF\n"));

    for path in ["/", "/metrics/", "/healthz/x", "/../metrics"] {
        let (head, body) = request(running.metrics, &format!("GET {path}"));
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(body.contains("/metrics"), "it says what there is: {body}");
    }
    let (head, _) = request(running.metrics, "POST /metrics");
    assert!(head.starts_with("http/1.1 405"), "{head}");
    running.connect().ask(r#"{"cmd":"drain"}"#);
    running.stopped();
}

#[test]
fn health_is_that_of_the_ledger() {
    // Not a whole control plane, which would stop where the ledger is not well.
    let stand_in = StandIn::new(1);
    let pool = std::sync::Arc::new(stand_in.pool());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::spawn(http::serve(listener, pool));
        let ask = || async move {
            let asked = tokio::task::spawn_blocking(move || request(address, "GET /healthz")).await;
            asked.expect("it did not panic")
        };
        let (head, body) = ask().await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, "good\n");

        stand_in.disk_low.store(true, Ordering::Relaxed);
        let (head, body) = ask().await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert!(body.contains("5 bytes left"), "{body}");

        stand_in.failed.store(true, Ordering::Relaxed);
        let (head, body) = ask().await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert!(body.contains("no such device"), "{body}");
    });
}
