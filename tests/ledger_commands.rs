//! `millrace ledger stats`, `verify` and `export` tell what was accepted, beside the running pool and after it.

use crate::pool::Pool;
use crate::pool::gateway::Gateway;
use crate::pool::work::{Found, USERNAME};
use millrace::wire::Reason;
use serde_json::Value;

/// Shares by two gateways and three miners, and what the commands must make of them.
struct Expected {
    hashes: Vec<u64>,
    work: u128,
    prime_ids: [u32; 2],
}

const OTHER: &[u8] = b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";
const OTHER_SCRIPT: &str = "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac";

fn mine(pool: &Pool) -> Expected {
    let mut sessions = [Gateway::new().connect(pool), Gateway::new().connect(pool)];
    let mut expected = Expected {
        hashes: Vec::new(),
        work: 0,
        prime_ids: [sessions[0].prime_id(), sessions[1].prime_id()],
    };
    for n in 0..24 {
        let session = &mut sessions[n as usize % 2];
        let template = session.template(0, 1);
        let username = match n % 3 {
            0 => USERNAME.to_vec(),
            1 => [USERNAME, b"2"].concat(),
            _ => OTHER.to_vec(),
        };
        let found = Found {
            pot: template.pot + u8::try_from(n % 4).expect("small"),
            username,
            ..template.draft(n)
        }
        .mine();
        assert_eq!(session.submit(&found.with_sections()), Ok(()));
        expected.hashes.push(found.hash64());
        expected.work += 1 << found.pot;
    }
    let template = sessions[0].template(0, 1);
    assert_eq!(
        sessions[0].submit(&template.in_slot(5).draft(0).bare()),
        Err(Reason::BadJobId)
    );
    expected
}

fn check(pool: &Pool, expected: &Expected) {
    let stats = pool.stats();
    assert_eq!(stats["shares"], 24, "{stats}");
    assert_eq!(stats["sequence"], 24, "{stats}");
    assert_eq!(stats["payees"], 2, "{stats}");
    assert_eq!(stats["workers"], 3, "{stats}");
    assert_eq!(stats["sessions"], 2, "{stats}");
    assert_eq!(stats["work"], Value::String(expected.work.to_string()), "{stats}");
    let people = pool.ledger_text(&["stats"]);
    assert!(
        people.contains("24") && people.contains(&expected.work.to_string()),
        "{people}"
    );

    let verified: Value = serde_json::from_str(&pool.ledger_text(&["verify", "--json"])).expect("one JSON object");
    assert_eq!(verified["shares"], 24, "{verified}");
    pool.assert_verifies();

    let lines = pool.exported();
    assert_eq!(pool.exported_hashes(), expected.hashes);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(line["sequence"], n, "{line}");
        assert_eq!(line["prime_id"], expected.prime_ids[n % 2], "{line}");
        assert_eq!(line["pot"], n % 4, "{line}");
        assert_eq!(line["parent"], "01".repeat(32), "{line}");
        assert_eq!(line["worker"], ["rig", "rig2", ""][n % 3], "{line}");
        assert_eq!(line["script"] == OTHER_SCRIPT, n % 3 == 2, "{line}");
    }

    // The same rows as CSV, to a file.
    let file = pool.data().with_file_name("shares.csv");
    pool.ledger_text(&["export", "--format", "csv", "--out", file.to_str().expect("text")]);
    let csv = std::fs::read_to_string(&file).expect("the file was written");
    std::fs::remove_file(&file).expect("the file is there");
    assert_eq!(csv, pool.ledger_text(&["export", "--format", "csv"]));
    let mut rows = csv.lines();
    let names: Vec<&str> = rows.next().expect("a line of names").split(',').collect();
    let hash_at = names
        .iter()
        .position(|name| *name == "hash64")
        .expect("a column of hashes");
    let hashes: Vec<u64> = rows
        .map(|row| u64::from_str_radix(row.split(',').nth(hash_at).expect("a hash"), 16).expect("16 digits"))
        .collect();
    assert_eq!(hashes, expected.hashes);
}

#[test]
fn tell_what_was_accepted_beside_the_running_pool_and_after_it() {
    let mut pool = Pool::start();
    let expected = mine(&pool);
    check(&pool, &expected);
    assert!(pool.terminate().success());
    check(&pool, &expected);
    // Reading changed nothing that the pool needs, after a kill either.
    pool.restart();
    check(&pool, &expected);
    pool.kill();
    check(&pool, &expected);
    pool.restart();
    Gateway::new().connect(&pool).assert_works(0);
    assert_eq!(pool.stored(), 25);
}

#[test]
fn the_other_tables_can_be_exported_too() {
    let pool = Pool::start();
    let expected = mine(&pool);
    let table = |name: &str| -> Vec<Value> {
        pool.ledger_text(&["export", "--format", "jsonl", "--table", name])
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
            .collect()
    };
    let payees = table("payees");
    assert_eq!(payees.len(), 2);
    assert!(payees.iter().any(|payee| payee["script"] == OTHER_SCRIPT), "{payees:?}");
    assert_eq!(table("workers").len(), 3);
    let sessions = table("sessions");
    assert_eq!(sessions.len(), 2);
    assert!(
        expected
            .prime_ids
            .iter()
            .all(|id| sessions.iter().any(|session| session["prime_id"] == *id))
    );
    assert!(
        sessions.iter().all(|session| session["proven_ms"].is_u64()),
        "{sessions:?}"
    );
    assert!(table("candidates").is_empty());
}

#[test]
fn candidates_are_recorded_whatever_the_verdict() {
    // Every hash is a candidate.
    let pool = Pool::with(&["--network-difficulty", "1"]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    let good = template.share(0);
    assert_eq!(session.submit(&good.with_sections()), Ok(()));
    let nobody = Found {
        username: b"satoshi".to_vec(),
        ..template.draft(1)
    }
    .mine();
    assert_eq!(session.submit(&nobody.bare()), Err(Reason::BadUsername));
    // Once it is answered, what was pushed before it is on disk.
    assert_eq!(session.submit(&template.share(2).bare()), Ok(()));
    assert_eq!(pool.stat("candidates"), 3);
    assert_eq!(pool.stored(), 2);
    let rows = pool.ledger_text(&["export", "--format", "jsonl", "--table", "candidates"]);
    for (found, verdict) in [(&good, "accepted"), (&nobody, "bad_username")] {
        let mut hash = found.hash();
        hash.reverse();
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let row = rows
            .lines()
            .find(|row| row.contains(&hash))
            .unwrap_or_else(|| panic!("no {hash} in {rows}"));
        let row: Value = serde_json::from_str(row).expect("JSON");
        assert_eq!(row["verdict"], verdict, "{row}");
    }
    assert_eq!(pool.metric("millrace_candidates_total", &[]), 3);
    pool.assert_verifies();
}

#[test]
fn a_folder_without_a_ledger_is_an_error_that_says_so() {
    let pool = Pool::start();
    let nowhere = pool.data().with_file_name("nowhere");
    for command in ["stats", "verify", "export"] {
        let output = std::process::Command::new(crate::pool::binary())
            .args(["ledger", command, "--data-dir"])
            .arg(&nowhere)
            .output()
            .expect("the binary runs");
        assert!(!output.status.success(), "{command}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("nowhere"),
            "{command}: {output:?}"
        );
        assert!(!nowhere.exists(), "reading makes nothing");
    }
}
