use std::net::TcpListener;

use super::*;
use clap::CommandFactory;
use millrace::wire::SecretKeys;

#[test]
fn the_command_line_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn bad_hellos_of_both_kinds_are_sent_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let pool = listener.local_addr().expect("an address");
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for stream in listener.incoming().take(10) {
            let mut bytes = Vec::new();
            // It ends with a reset.
            let _ = std::io::Read::read_to_end(&mut stream.expect("a connection"), &mut bytes);
            heard.push(bytes);
        }
        heard
    });
    let args = Args {
        attack: Attack::BadHello,
        pool,
        pubkey: SecretKeys::generate().expect("randomness").public(),
        bind: "127.0.9.9/3".parse().expect("addresses"),
        victim: "127.0.8.8".parse().expect("an address"),
        seconds: 0.5,
        connections: 10,
        json: false,
    };
    let report = run(&args).expect("an attack");
    assert!(report.connected >= 10 && report.sent >= 10, "{report}");
    assert!(report.ok());
    let heard = heard.join().expect("it hears all of them");
    assert!(heard.iter().any(|bytes| bytes.len() == 504), "sealed to nobody");
    assert!(
        heard.iter().any(|bytes| bytes.len() > 4 && bytes.len() != 504),
        "not signed"
    );
}
