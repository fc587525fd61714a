//! Every input stored for the fuzz targets passes through its target; and the seeds are those of the recorded
//! sessions. `MILLRACE_WRITE_SEEDS=1 cargo test --release --test fuzz_corpus` writes them again.

mod capture;
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use capture::{Capture, Frame, Session};
use fuzz::{Script, TARGETS, play};
use millrace::wire::{Hello, SIGNATURE_LEN, command};

/// Seeds of one target, so that a corpus stays small.
const SEEDS_MAX: usize = 20;

/// Of them, those that one capture makes.
const SEEDS_OF_CAPTURE_MAX: usize = 5;

/// Bytes of a seed. The fuzzer makes longer inputs by itself; what it starts with should be quick.
const SEED_BYTES_MAX: usize = 12 * 1_024;

/// Bytes of a script of sessions, some ten shares.
const SCRIPT_BYTES: usize = 2 * 1_024;

/// How the name of a seed starts; everything else in a corpus is a find.
const SEED: &str = "seed-";

#[test]
fn every_stored_input_passes_through_its_target() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, data) in inputs {
            let passed = std::panic::catch_unwind(|| target(&data));
            assert!(passed.is_ok(), "{} fails", path.display());
        }
    }
}

#[test]
fn every_input_passes_through_every_target() {
    let all: Vec<Vec<u8>> = TARGETS
        .iter()
        .flat_map(|(name, _)| inputs(name))
        .map(|(_, data)| data)
        .collect();
    for (name, target) in TARGETS {
        for data in &all {
            let passed = std::panic::catch_unwind(|| target(data));
            assert!(passed.is_ok(), "{name} fails");
        }
        target(&[]);
    }
}

#[test]
fn seeds_are_those_of_the_recorded_sessions() {
    let seeds = seeds();
    if std::env::var_os("MILLRACE_WRITE_SEEDS").is_some() {
        for (target, of_target) in &seeds {
            std::fs::create_dir_all(corpus(target)).expect("a folder for the corpus");
            for (path, _) in inputs(target).into_iter().filter(|(path, _)| is_seed(path)) {
                std::fs::remove_file(path).expect("an old seed goes");
            }
            for (name, data) in of_target {
                std::fs::write(corpus(target).join(name), data).expect("a seed is written");
            }
        }
    }
    for (target, _) in TARGETS {
        let stored: BTreeMap<String, Vec<u8>> = inputs(target)
            .into_iter()
            .filter(|(path, _)| is_seed(path))
            .map(|(path, data)| (file_name(&path), data))
            .collect();
        assert_eq!(
            seeds[target].keys().collect::<Vec<_>>(),
            stored.keys().collect::<Vec<_>>(),
            "{target}"
        );
        assert!(
            seeds[target] == stored,
            "{target} has seeds that the recorded sessions do not make"
        );
    }
}

#[test]
fn sessions_are_played_to_verdicts_of_both_kinds() {
    let (mut accepted, mut refused, mut candidates) = (0, 0, 0);
    for (_, data) in inputs("session") {
        let played = play(&data);
        accepted += played.accepted;
        refused += played.refused;
        candidates += played.candidates;
    }
    assert!(
        accepted > 10 && refused > 10 && candidates > 10,
        "{accepted} {refused} {candidates}"
    );
}

#[test]
fn each_target_has_its_binary() {
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("a manifest");
    let binaries: BTreeSet<&str> = manifest
        .split("[[bin]]")
        .skip(1)
        .map(|section| section.split('"').nth(1).expect("a name comes first"))
        .collect();
    let targets: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(binaries, targets);
    for target in targets {
        let path = root().join(format!("fuzz/fuzz_targets/{target}.rs"));
        let source = std::fs::read_to_string(path).expect("a binary");
        assert!(source.contains(&format!("millrace_fuzz::{target}(data)")), "{target}");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &str) -> PathBuf {
    root().join("fuzz/corpus").join(target)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("a plain name")
        .to_owned()
}

fn is_seed(path: &Path) -> bool {
    file_name(path).starts_with(SEED)
}

/// What is stored for a target.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(folder) = std::fs::read_dir(corpus(target)) else {
        return Vec::new();
    };
    let mut inputs: Vec<_> = folder
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("a readable input")))
        .collect();
    inputs.sort();
    inputs
}

type Seeds = BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>;

fn seeds() -> Seeds {
    let mut seeds: Seeds = TARGETS.iter().map(|(target, _)| (*target, BTreeMap::new())).collect();
    for (number, data) in proxy_headers().into_iter().enumerate() {
        add(&mut seeds, "proxy", "made", number, data);
    }
    for (number, data) in guard_scripts().into_iter().enumerate() {
        add(&mut seeds, "guards", "made", number, data);
    }
    for capture in capture::stored() {
        for (number, session) in capture.sessions.iter().enumerate() {
            for frame in &session.frames {
                for (target, data) in of_frame(session, frame) {
                    add(&mut seeds, target, &capture.name, frame.line, data);
                }
            }
            add(
                &mut seeds,
                "from_pool_frames",
                &capture.name,
                number,
                frames_of_pool(session),
            );
            add(&mut seeds, "early", &capture.name, number, frames_around_hello(session));
        }
        for (number, data) in scripts(&capture).into_iter().enumerate() {
            add(&mut seeds, "session", &capture.name, number, data);
        }
    }
    seeds
}

/// Headers of proxies, which no recorded session has: IPv4, IPv6 with an extension, and the proxy's own.
fn proxy_headers() -> Vec<Vec<u8>> {
    let header = |command: u8, family: u8, rest: &[u8]| {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, rest].concat()
    };
    let v4 = [198, 51, 100, 7, 192, 0, 2, 1, 0x1f, 0x90, 0x70, 0xf3];
    let v6 = [
        &[0x20, 1, 0xd, 0xb8][..],
        &[0; 28],
        &[0x1f, 0x90, 0x70, 0xf3, 4, 0, 1, 0],
    ]
    .concat();
    vec![header(0x21, 0x11, &v4), header(0x21, 0x21, &v6), header(0x20, 0, &[])]
}

/// Each kind of step with each kind of address, once and again and again.
fn guard_scripts() -> Vec<Vec<u8>> {
    [1, 30]
        .map(|times| {
            let mut data = Vec::new();
            for kind in 0..12 {
                for number in (0..6_u8).flat_map(|number| std::iter::repeat_n(number, times)) {
                    Script::push(kind, &[number, 0x10, number, 1, 0], &mut data);
                }
            }
            data
        })
        .into()
}

/// Keeps an input that is short enough and of a length that the corpus does not have yet.
fn add(seeds: &mut Seeds, target: &'static str, capture: &str, number: usize, data: Vec<u8>) {
    let of_target = seeds.get_mut(target).expect("a target");
    let is_new = of_target
        .values()
        .all(|known| known.len().abs_diff(data.len()) > data.len() / 64);
    let prefix = format!("{SEED}{capture}-");
    let of_capture = of_target.keys().filter(|name| name.starts_with(&prefix)).count();
    if is_new && data.len() <= SEED_BYTES_MAX && of_target.len() < SEEDS_MAX && of_capture < SEEDS_OF_CAPTURE_MAX {
        of_target.insert(format!("{prefix}{number}"), data);
    }
}

/// The inputs that one frame makes.
fn of_frame(session: &Session, frame: &Frame) -> Vec<(&'static str, Vec<u8>)> {
    let plain = frame.plain.clone();
    let behind_command = || plain.get(1..).unwrap_or_default().to_vec();
    let hello = Hello::decode(&session.frames[0].plain).expect("a HELLO");
    let header = [&hello.nk.to_le_bytes(), &frame.wire[..4]].concat();
    let mut made = vec![("header", header)];
    match (frame.command, frame.from_gateway, plain.first()) {
        (command::HELLO, true, _) => made.extend([("hello", plain.clone()), ("sealed", frame.wire[4..].to_vec())]),
        (command::RESPONSE, false, _) => made.push(("response", plain.clone())),
        (command::MINING, true, Some(first)) => {
            let target = match first {
                0x10 => "coinbaser_request",
                0x27 => "share",
                _ => "validation_answer",
            };
            made.extend([(target, behind_command()), ("from_gateway", plain.clone())]);
        }
        (command::MINING, false, Some(first)) => {
            let message = unsigned(frame);
            let target = match first {
                0x99 => "config",
                0x11 => "coinbaser",
                0x8f => "share_response",
                _ => "validation_ask",
            };
            made.extend([(target, message[1..].to_vec()), ("from_pool", message.to_vec())]);
        }
        _ => {}
    }
    made
}

/// A pool's message without the signature that CONFIG has.
fn unsigned(frame: &Frame) -> &[u8] {
    let signed = frame.plain.first() == Some(&0x99);
    &frame.plain[..frame.plain.len() - if signed { SIGNATURE_LEN } else { 0 }]
}

fn frames_of_pool(session: &Session) -> Vec<u8> {
    let mut data = Vec::new();
    // A few: each CONFIG costs a signature and its check.
    for frame in session.frames.iter().filter(|frame| !frame.from_gateway).take(10) {
        match (frame.command, frame.plain.first()) {
            (command::MINING, Some(0x99)) => Script::push(1, unsigned(frame), &mut data),
            (command::MINING, _) => Script::push(0, &frame.plain, &mut data),
            (command::INFO, _) => Script::push(2, &frame.plain, &mut data),
            (command::PING, _) => Script::push(3, &[], &mut data),
            _ => {}
        }
    }
    data
}

/// Two frames before HELLO, early ones behind it as they came, and one that nobody opens between them.
fn frames_around_hello(session: &Session) -> Vec<u8> {
    let mut data = Vec::new();
    Script::push(1, b"one", &mut data);
    Script::push(4, b"another", &mut data);
    Script::push(6, &[0; 50], &mut data);
    Script::push(3, b"lost", &mut data);
    for frame in session.frames.iter().filter(|frame| frame.from_gateway).skip(1).take(8) {
        Script::push(u8::from(frame.early), &frame.plain, &mut data);
    }
    Script::push(2, b"late", &mut data);
    data
}

/// The sessions of one capture as the target plays them, in pieces: a fuzzer does more with short inputs. Every piece
/// begins with the terms that are known by then, and is worth its place only where some share in it counts.
fn scripts(capture: &Capture) -> Vec<Vec<u8>> {
    let mut scripts = Vec::new();
    let mut terms = Vec::new();
    let mut data = Vec::new();
    for (number, session) in capture.sessions.iter().enumerate() {
        if number > 0 {
            Script::push(5, &[u8::try_from(number).expect("a few sessions")], &mut data);
        }
        for frame in &session.frames {
            match (frame.from_gateway, frame.plain.first()) {
                (false, Some(0x99)) => {
                    Script::push(3, unsigned(frame), &mut data);
                    Script::push(3, unsigned(frame), &mut terms);
                }
                (true, Some(0x27)) => {
                    // The pool's clock shows what the miner's did.
                    Script::push(4, &frame.plain[5..9], &mut data);
                    Script::push(u8::from(frame.early), &frame.plain, &mut data);
                }
                (true, Some(0x10)) => Script::push(0, &frame.plain, &mut data),
                _ => {}
            }
            if data.len() > SCRIPT_BYTES {
                scripts.push(std::mem::replace(&mut data, terms.clone()));
            }
        }
    }
    scripts.push(data);
    scripts.retain(|script| play(script).accepted > 0);
    scripts
}
