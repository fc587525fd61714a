use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::seal::PLACE_LEN;
use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// For the thread that wipes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(file::NAME)
    }

    fn open(&self) -> ChannelKeysAtRest {
        ChannelKeysAtRest::open(self.0.path()).expect("a file")
    }

    fn serve(&self) -> ChannelKeys {
        let mut at_rest = self.open();
        at_rest.wipe_others().expect("writable");
        at_rest.serve(HOUR, Arc::default()).expect("a thread")
    }

    fn place(&self, number: u32) -> Vec<u8> {
        let at = PLACE_LEN * (1 + number as usize);
        fs::read(self.path()).expect("a file")[at..at + PLACE_LEN].to_vec()
    }

    /// As a start would find it.
    fn opens(&self, prime_id: u32, sealed: &SealedKey) -> Option<[u8; 32]> {
        let key = self.open().read(prime_id, sealed, HOUR);
        key.map(|key| *key.as_bytes())
    }
}

fn key(byte: u8) -> ChannelKey {
    ChannelKey::from_bytes([byte; 32])
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never comes");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_sealed_key_opens_under_its_place_and_its_session_alone() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let first = keys.keep(1, &key(11)).expect("a place");
    let second = keys.keep(2, &key(12)).expect("a place");
    assert_ne!(first.place, second.place);
    assert_eq!(folder.opens(1, &first), Some([11; 32]));
    assert_eq!(folder.opens(2, &second), Some([12; 32]));
    assert_eq!(folder.opens(2, &first), None);
    let swapped = SealedKey {
        place: second.place,
        ..first.clone()
    };
    assert_eq!(folder.opens(1, &swapped), None);
    let nowhere = SealedKey {
        place: CHANNEL_KEYS_MAX,
        ..first.clone()
    };
    assert_eq!(folder.opens(1, &nowhere), None);
    let content = fs::read(folder.path()).expect("a file");
    assert!(!content.windows(32).any(|bytes| bytes == [11; 32]));
    // One place is one key's.
    let mut at_rest = folder.open();
    assert!(at_rest.read(1, &first, HOUR).is_some());
    assert!(at_rest.read(1, &first, HOUR).is_none());
}

#[test]
fn a_key_that_is_let_go_is_wiped_once_the_batch_is_durable_and_its_place_serves_again() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let sealed = keys.keep(1, &key(11)).expect("a place");
    let other = keys.keep(2, &key(12)).expect("a place");
    let before = folder.place(sealed.place);
    assert!(keys.let_go(1));
    assert!(!keys.let_go(1), "it is gone");
    assert_eq!(folder.place(sealed.place), before, "the batch may yet fail");
    keys.batch_is_durable();
    wait_until(|| folder.place(sealed.place) != before);
    assert_eq!(folder.opens(1, &sealed), None);
    assert_eq!(folder.opens(2, &other), Some([12; 32]), "its neighbour stays");
    wait_until(|| {
        keys.batch_is_durable();
        keys.on_their_way == 0
    });
    assert!(keys.ready.iter().any(|place| place.number == sealed.place));
}

#[test]
fn a_key_has_its_time_from_the_end_of_its_session_on() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let now = Instant::now();
    for prime_id in 1..=3 {
        keys.keep(prime_id, &key(1)).expect("a place");
    }
    keys.end(1, true, now);
    keys.end(2, true, now + Duration::from_secs(1));
    // Of one that is gone, or ends again, nothing is noted.
    keys.end(4, true, now);
    keys.end(1, true, now + HOUR);
    assert_eq!(keys.due(now + HOUR - Duration::from_millis(1)), [0; 0]);
    assert_eq!(keys.due(now + HOUR), [1]);
    assert_eq!(keys.due(now + 24 * HOUR), [1, 2], "the third lives");
    assert!(keys.let_go(1));
    assert_eq!(keys.due(now + 24 * HOUR), [2]);
}

#[test]
fn a_start_wipes_what_is_not_needed_and_keeps_what_is_for_the_time_that_is_left() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let needed = keys.keep(1, &key(11)).expect("a place");
    let left = keys.keep(2, &key(12)).expect("a place");
    drop(keys);
    let mut at_rest = folder.open();
    at_rest.read(1, &needed, Duration::from_secs(60)).expect("it opens");
    at_rest.wipe_others().expect("writable");
    assert_eq!(folder.opens(1, &needed), Some([11; 32]));
    assert_eq!(folder.opens(2, &left), None);
    let began = Instant::now();
    let mut keys = at_rest.serve(HOUR, Arc::default()).expect("a thread");
    assert_eq!(keys.due(began), [0; 0]);
    assert_eq!(keys.due(Instant::now() + Duration::from_secs(60)), [1]);
    assert!(keys.ready.len() >= READY && keys.ready.iter().all(|place| place.number != needed.place));
    // A clock that was set back gives it no more than all others have.
    assert!(keys.let_go(1));
    drop(keys);
    let mut at_rest = folder.open();
    at_rest.read(1, &needed, 1_000 * HOUR).expect("it opens");
    let keys = at_rest.serve(HOUR, Arc::default()).expect("a thread");
    assert_eq!(keys.due(Instant::now() + HOUR), [1]);
}

#[test]
fn where_no_place_is_ready_a_key_is_not_kept_and_more_are_made() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let ready = u32::try_from(keys.ready.len()).expect("few");
    for prime_id in 0..ready {
        assert!(keys.keep(prime_id, &key(1)).is_some());
    }
    assert!(keys.keep(ready, &key(1)).is_none());
    assert_eq!(keys.telemetry.channel_keys_not_kept.value(), 1);
    wait_until(|| {
        keys.batch_is_durable();
        !keys.ready.is_empty()
    });
    let sealed = keys.keep(ready, &key(7)).expect("a place");
    assert_eq!(folder.opens(ready, &sealed), Some([7; 32]));
    assert_eq!(keys.telemetry.channel_keys.value(), u64::from(ready));
}

#[test]
fn a_place_that_was_half_written_over_is_known_and_harms_no_other() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let torn = keys.keep(1, &key(11)).expect("a place");
    let whole = keys.keep(2, &key(12)).expect("a place");
    drop(keys);
    let mut content = fs::read(folder.path()).expect("a file");
    let at = PLACE_LEN * (1 + torn.place as usize);
    content[at..at + PLACE_LEN / 2].fill(0);
    // And the file was growing.
    content.extend_from_slice(&[9; PLACE_LEN / 2]);
    fs::write(folder.path(), &content).expect("writable");
    assert_eq!(folder.opens(1, &torn), None);
    assert_eq!(folder.opens(2, &whole), Some([12; 32]));
}

#[test]
fn a_file_that_others_may_read_or_that_is_none_of_ours_is_refused() {
    let folder = Folder::new();
    drop(folder.serve());
    let mode = fs::metadata(folder.path()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("ours");
        let error = ChannelKeysAtRest::open(folder.0.path()).err().expect("refused");
        assert!(matches!(error, LedgerError::KeysTooOpen { .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o600)).expect("ours");
    fs::write(folder.path(), [7; 100]).expect("writable");
    let error = ChannelKeysAtRest::open(folder.0.path()).err().expect("refused");
    assert!(matches!(error, LedgerError::KeysForeign(_)), "{error}");
    // One that a crash left at its beginning is new.
    for len in [0, 10] {
        fs::write(folder.path(), &b"millrace channel keys 1\n"[..len]).expect("writable");
        drop(folder.serve());
    }
}

#[test]
fn sessions_that_nobody_proved_leave_half_of_what_is_ready_to_those_that_are() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let took_places = (1..).take_while(|prime_id| keys.keep_unproved(*prime_id, &key(1)).is_some());
    assert_eq!(took_places.count(), READY / 2);
    for prime_id in 10_000..10_000 + READY as u32 / 2 {
        assert!(keys.keep(prime_id, &key(2)).is_some() && keys.holds(prime_id));
    }
    assert!(keys.keep(1_000_000, &key(2)).is_none(), "none is ready");
    assert_eq!(
        keys.telemetry.channel_keys_not_kept.value(),
        1,
        "of those that are proved"
    );
}

#[test]
fn keys_of_gateways_that_never_worked_give_their_places_up_and_no_others() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let most = u32::try_from(IDLE_UP_TO).expect("few");
    // As where so many were kept by and by; places are made no faster than the disk takes them.
    for prime_id in 1..=most + 10 {
        let kept = Kept {
            place: prime_id,
            until: None,
        };
        keys.kept.insert(prime_id, kept);
    }
    let now = Instant::now();
    assert!(keys.due(now).is_empty(), "their sessions live");
    for prime_id in 1..=20 {
        keys.end(prime_id, prime_id % 2 == 0, now + Duration::from_secs(prime_id.into()));
    }
    assert_eq!(keys.due(now), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    for prime_id in 1..=10 {
        assert!(keys.let_go(prime_id));
    }
    assert!(keys.due(now).is_empty(), "there is room");
    assert!(keys.let_go(11) && keys.keep(1, &key(1)).is_some());
    assert_eq!(
        keys.due(now + 2 * HOUR),
        (12..=20).collect::<Vec<_>>(),
        "all have their time"
    );
}

#[test]
fn what_a_start_reads_of_gateways_that_never_worked_gives_its_place_up_too() {
    let folder = Folder::new();
    let mut keys = folder.serve();
    let sealed: Vec<_> = (1..=2_u8)
        .map(|prime_id| keys.keep(prime_id.into(), &key(prime_id)).expect("a place"))
        .collect();
    drop(keys);
    let mut at_rest = folder.open();
    for (prime_id, sealed) in (1..).zip(&sealed) {
        assert!(at_rest.read(prime_id, sealed, HOUR).is_some());
    }
    at_rest.note_idle(2);
    at_rest.note_idle(9);
    let keys = at_rest.serve(HOUR, Arc::default()).expect("a thread");
    assert_eq!(keys.due.len(), 2);
    assert!(keys.idle.len() == 1 && keys.idle.iter().all(|(_, prime_id)| *prime_id == 2));
}
