//! Our time over the bound, for the way of a share.
//!
//! The bound is the least that any pool must do: open the share's frame and seal the answer's by libsodium's
//! `crypto_box_*_afternm`, and run the SHA-256 compressions that the share's hash needs through sha2, which uses
//! SHA-NI where the CPU has it. Ours is the whole way: header, opening, decoding, all checks, the table of duplicates,
//! the record; then encoding and sealing the answer. Both take turns in one process, on shares of the same length and
//! with the same hashes, and the medians over all turns are compared. The hashes alone are measured too: both sides
//! have them in common, and on a CPU without SHA-NI they hide the rest.

mod work;

use std::ffi::{c_int, c_ulonglong};
use std::hint::black_box;
use std::time::Instant;

use millrace::wire::{Encode, FromGateway, MAC_LEN, MINING_MAX, Opened, ShareResponse};
use sha2::block_api::compress256;
use work::{BRANCH, Kind, NBITS, PARENT, SHARES, Stream};

/// Turns that each side takes.
const TURNS: usize = 101;

/// What the pool promises for the average share.
const PROMISED: f64 = 2.0;

/// The average share first: a full template, and an address without a worker.
const CASES: [(&str, Kind); 6] = [
    ("12 branches, 120-byte frame", Kind::over(12)),
    ("6 branches, 120-byte frame", Kind::over(6)),
    ("no branches, 120-byte frame", Kind::over(0)),
    (
        "12 branches, 180-byte frame",
        Kind {
            padding: 82,
            ..Kind::over(12)
        },
    ),
    ("12 branches, class 2 with 17 payouts", Kind::over(12).of_class(2, 17)),
    ("12 branches, class 4 with 508 payouts", Kind::over(12).of_class(4, 508)),
];

fn main() {
    // `cargo test --benches` wants to know that it runs, not how fast.
    let turns = if std::env::args().any(|arg| arg == "--test") {
        1
    } else {
        TURNS
    };
    // SAFETY: it may be called at any time, and is called before anything else of the library.
    let ready = unsafe { sodium_init() };
    assert!(ready >= 0, "libsodium does not start");
    println!(
        "sha2 {}",
        if has_sha_ni() {
            "with SHA-NI"
        } else {
            "without SHA-NI, which this CPU lacks"
        }
    );
    println!("medians of {turns} turns of {SHARES} shares, ns a share\n");
    println!(
        "{:<38} {:>7}  {:>7} {:>7} {:>5}  {:>7} {:>7} {:>5}  {:>5}",
        "", "hashes", "in: we", "bound", "", "out: we", "bound", "", "both"
    );
    for (index, (name, kind)) in CASES.into_iter().enumerate() {
        let [hashes, we_in, bound_in, we_out, bound_out] = measure(&Stream::new(kind), kind.branches, turns);
        println!(
            "{name:<38} {hashes:>7.0}  {we_in:>7.0} {bound_in:>7.0} {:>5.2}  {we_out:>7.0} {bound_out:>7.0} {:>5.2}  {:>5.2}{}",
            we_in / bound_in,
            we_out / bound_out,
            (we_in + we_out) / (bound_in + bound_out),
            if index == 0 {
                format!("  promised: at most {PROMISED:.1}")
            } else {
                String::new()
            },
        );
    }
}

/// ns a share: the hashes alone, in by us and by the bound, out by us and by the bound.
fn measure(stream: &Stream, branches: usize, turns: usize) -> [f64; 5] {
    let mut bound = Bound::new(stream, branches);
    let mut times: [Vec<f64>; 5] = Default::default();
    let mut hashes = Vec::with_capacity(SHARES);
    for _ in 0..turns {
        let taken = [
            bound.time_hashes(),
            stream.time(SHARES, |session, frame| {
                let taken = black_box(session.take(frame, &stream.key));
                hashes.extend(taken.as_ref().map(|record| record.hash64).ok());
                taken.is_ok()
            }),
            bound.time_in(&hashes),
            time_answers(stream),
            bound.time_out(),
        ];
        hashes.clear();
        for (times, taken) in times.iter_mut().zip(taken) {
            times.push(taken as f64 / SHARES as f64);
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// ns for as many answers as a stream has shares, as they leave: many in one buffer.
fn time_answers(stream: &Stream) -> u64 {
    let mut session = stream.session();
    let mut out = Vec::with_capacity(SHARES * 64);
    let start = Instant::now();
    for nonce in 0..SHARES {
        session.answer(nonce as u32, &stream.key, &mut out);
    }
    black_box(&out);
    elapsed_ns(start)
}

/// The same work by libsodium and sha2 alone.
struct Bound {
    key: [u8; 32],
    /// MAC and ciphertext of each share, one behind the other, sealed under nonces 0, 1 and so on.
    sealed: Vec<u8>,
    lens: Vec<usize>,
    answer: Vec<u8>,
    plain: Vec<u8>,
    hashes: Hashes,
}

/// The compressions that the hash of a share takes.
struct Hashes {
    /// State before the first block of the coinbase that can vary.
    coinbase_state: State,
    /// The blocks from there on.
    coinbase: Vec<[u8; 64]>,
    branches: usize,
    header: [[u8; 64]; 2],
}

type State = [u32; 8];

const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Where a share has its nonce, and a header's second block.
const NONCE_IN_SHARE: usize = 9;
const NONCE_IN_BLOCK: usize = 12;

impl Bound {
    fn new(stream: &Stream, branches: usize) -> Self {
        let key = *stream.key.as_bytes();
        let (mut sealed, mut lens) = (Vec::new(), Vec::new());
        let mut session = stream.session();
        let mut wire = stream.frames.clone();
        let mut rest = &mut wire[..];
        let mut fields = None;
        for (number, len) in stream.lens.iter().enumerate() {
            let (frame, behind) = rest.split_at_mut(*len);
            rest = behind;
            session
                .inbound
                .frame_len(frame, MINING_MAX)
                .expect("a header")
                .expect("a whole header");
            let Ok(Opened::Plain { plain, .. }) = session.inbound.open(frame, &stream.key, &[]) else {
                panic!("a frame of this session");
            };
            let Ok(FromGateway::Share(share)) = FromGateway::decode(plain) else {
                panic!("a share");
            };
            assert_eq!(plain[NONCE_IN_SHARE..][..4], share.nonce.to_le_bytes());
            fields.get_or_insert((share.version, share.ntime, share.target_pot, share.extranonce.to_vec()));
            let at = sealed.len();
            sealed.resize(at + MAC_LEN + plain.len(), 0);
            seal(&mut sealed[at..], plain, number, &key);
            lens.push(MAC_LEN + plain.len());
        }
        let (version, ntime, pot, extranonce) = fields.expect("a stream has shares");
        let mut coinbase = stream.coinbase.coinb1.clone();
        coinbase[usize::from(stream.coinbase.target_index)] = pot;
        let constant = (coinbase.len() - 2) / 64;
        coinbase.extend_from_slice(&extranonce);
        coinbase.extend_from_slice(&stream.coinbase.coinb2);
        let coinbase = padded(&coinbase);
        let mut coinbase_state = START;
        compress256(&mut coinbase_state, &coinbase[..constant]);

        let mut header = version.to_le_bytes().to_vec();
        header.extend_from_slice(&PARENT);
        header.extend_from_slice(&[0; 32]);
        header.extend_from_slice(&ntime.to_le_bytes());
        header.extend_from_slice(&NBITS.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        let header = padded(&header).try_into().expect("two blocks");

        let mut answer = Vec::new();
        ShareResponse::accepted(0, 0, 3).encode(&mut answer);
        let longest = lens.iter().copied().max().expect("a stream has shares");
        Self {
            key,
            sealed,
            lens,
            answer,
            plain: vec![0; longest],
            hashes: Hashes {
                coinbase_state,
                coinbase: coinbase[constant..].to_vec(),
                branches,
                header,
            },
        }
    }

    /// ns for opening and hashing all shares. The hashes must be those that the pool found.
    fn time_in(&mut self, hashes: &[u64]) -> u64 {
        let mut found = Vec::with_capacity(SHARES);
        let start = Instant::now();
        let mut rest = &self.sealed[..];
        for (number, len) in self.lens.iter().enumerate() {
            let (sealed, behind) = rest.split_at(*len);
            rest = behind;
            open(&mut self.plain[..len - MAC_LEN], sealed, number, &self.key);
            let nonce = *self.plain[NONCE_IN_SHARE..].first_chunk().expect("a share has a nonce");
            found.push(self.hashes.of(nonce));
        }
        let took = elapsed_ns(start);
        assert!(hashes == found, "the bound does not hash what the pool does");
        black_box(found);
        took
    }

    /// ns for the hashes alone of as many shares.
    fn time_hashes(&mut self) -> u64 {
        let start = Instant::now();
        for number in 0..SHARES {
            black_box(self.hashes.of((number as u32).to_le_bytes()));
        }
        elapsed_ns(start)
    }

    /// ns for sealing as many answers.
    fn time_out(&self) -> u64 {
        let len = MAC_LEN + self.answer.len();
        let mut out = vec![0; SHARES * len];
        let start = Instant::now();
        for (number, sealed) in out.chunks_exact_mut(len).enumerate() {
            seal(sealed, &self.answer, number, &self.key);
        }
        black_box(&out);
        elapsed_ns(start)
    }
}

impl Hashes {
    /// The first 8 bytes of the hash of the share with this nonce.
    fn of(&mut self, nonce: [u8; 4]) -> u64 {
        let mut state = self.coinbase_state;
        compress256(&mut state, &self.coinbase);
        let mut node = second(&state);
        for _ in 0..self.branches {
            let mut block = [0; 64];
            block[..32].copy_from_slice(&node);
            block[32..].copy_from_slice(&BRANCH);
            let mut state = START;
            compress256(&mut state, &[block, const { padding_of(64) }]);
            node = second(&state);
        }
        let [first, last] = &mut self.header;
        first[36..].copy_from_slice(&node[..28]);
        last[..4].copy_from_slice(&node[28..]);
        last[NONCE_IN_BLOCK..][..4].copy_from_slice(&nonce);
        let mut state = START;
        compress256(&mut state, &self.header);
        let hash = second(&state);
        u64::from_le_bytes(*hash.first_chunk().expect("32 bytes"))
    }
}

/// The hash of the digest that `state` stands for.
fn second(state: &State) -> [u8; 32] {
    let mut block = const { padding_of(32) };
    block[..32].copy_from_slice(&digest(state));
    let mut second = START;
    compress256(&mut second, &[block]);
    digest(&second)
}

fn digest(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Whole blocks, as SHA-256 wants them.
fn padded(message: &[u8]) -> Vec<[u8; 64]> {
    let mut bytes = message.to_vec();
    bytes.push(0x80);
    while bytes.len() % 64 != 56 {
        bytes.push(0);
    }
    bytes.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    bytes.as_chunks().0.to_vec()
}

/// The last block of a message of `len` bytes, without them.
const fn padding_of(len: u16) -> [u8; 64] {
    let mut block = [0; 64];
    block[(len % 64) as usize] = 0x80;
    let bits = (len * 8).to_be_bytes();
    block[62] = bits[0];
    block[63] = bits[1];
    block
}

#[link(name = "sodium")]
unsafe extern "C" {
    fn sodium_init() -> c_int;
    fn crypto_box_easy_afternm(
        sealed: *mut u8,
        plain: *const u8,
        plain_len: c_ulonglong,
        nonce: *const u8,
        key: *const u8,
    ) -> c_int;
    fn crypto_box_open_easy_afternm(
        plain: *mut u8,
        sealed: *const u8,
        sealed_len: c_ulonglong,
        nonce: *const u8,
        key: *const u8,
    ) -> c_int;
}

fn seal(sealed: &mut [u8], plain: &[u8], number: usize, key: &[u8; 32]) {
    assert_eq!(sealed.len(), MAC_LEN + plain.len());
    let nonce = nonce(number);
    // SAFETY: it reads `plain_len` bytes, 24 of nonce and 32 of key, and writes 16 bytes more than it reads; the
    // lengths were checked above.
    let done = unsafe {
        let len = plain.len() as c_ulonglong;
        crypto_box_easy_afternm(sealed.as_mut_ptr(), plain.as_ptr(), len, nonce.as_ptr(), key.as_ptr())
    };
    assert_eq!(done, 0);
}

fn open(plain: &mut [u8], sealed: &[u8], number: usize, key: &[u8; 32]) {
    assert_eq!(sealed.len(), MAC_LEN + plain.len());
    let nonce = nonce(number);
    // SAFETY: it reads `sealed_len` bytes, 24 of nonce and 32 of key, and writes 16 bytes less than it reads; the
    // lengths were checked above.
    let done = unsafe {
        let len = sealed.len() as c_ulonglong;
        crypto_box_open_easy_afternm(plain.as_mut_ptr(), sealed.as_ptr(), len, nonce.as_ptr(), key.as_ptr())
    };
    assert_eq!(done, 0, "a MAC does not fit");
}

fn nonce(number: usize) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    nonce
}

fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).expect("less than centuries")
}

fn has_sha_ni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sha");
    #[cfg(not(target_arch = "x86_64"))]
    false
}
