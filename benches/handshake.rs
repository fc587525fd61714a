//! The handshake on the pool's side, step by step; between the steps a shard lets shares pass.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use millrace::wire::{Agent, ChannelKey, Config, Encode, Hello, Response, SecretKeys};

const MOTD: &[u8] = b"welcome";

fn steps(c: &mut Criterion) {
    let pool = SecretKeys::from_seeds(&[1; 64]);
    let (long_term, session) = (SecretKeys::from_seeds(&[2; 64]), SecretKeys::from_seeds(&[3; 64]));
    let hello = Hello {
        long_term: long_term.public(),
        session: session.public(),
        agent: Agent::new("v0.4.1-beta/0123456789abcdef0123456789abcdef01234567"),
        nk: 0x1234_5678,
        padding: vec![0; 100],
    };
    let plain = hello.encode(&long_term);
    let payload = Hello::seal(&plain, &pool.public().x25519);
    let pool_session = SecretKeys::from_seeds(&[4; 64]);
    let response = Response::encode(&hello, &pool_session.public(), MOTD, &pool);

    let mut group = c.benchmark_group("handshake");
    group.bench_function("1_unseal_hello", |b| {
        b.iter(|| Hello::unseal(black_box(&payload), &pool).expect("to the pool"))
    });
    // What is sealed to no key of the pool is tried with each: the cost of garbage.
    let others: Vec<_> = (5..9).map(|seed| SecretKeys::from_seeds(&[seed; 64])).collect();
    group.bench_function("1_refuse_hello_with_four_keys", |b| {
        b.iter(|| {
            others
                .iter()
                .all(|key| Hello::unseal(black_box(&payload), key).is_err())
        })
    });
    group.bench_function("2_decode_hello", |b| {
        b.iter(|| Hello::decode(black_box(&plain)).expect("a HELLO"))
    });
    group.bench_function("3_verify_hello", |b| {
        b.iter(|| hello.verify(black_box(&plain)).expect("signed"))
    });
    group.bench_function("4_session_keys", |b| {
        b.iter(|| SecretKeys::generate().expect("randomness"))
    });
    group.bench_function("5_agree", |b| {
        b.iter(|| ChannelKey::agree(&pool_session, black_box(&hello.session.x25519)).expect("a sound key"));
    });
    group.bench_function("6_sign_response", |b| {
        b.iter(|| Response::encode(black_box(&hello), &pool_session.public(), MOTD, &pool));
    });
    group.bench_function("7_seal_response", |b| {
        b.iter(|| Response::seal(black_box(&response), &hello.session.x25519));
    });
    group.bench_function("8_sign_config", |b| {
        b.iter(|| signed_config(black_box(7), &pool_session))
    });
    group.bench_function("whole", |b| {
        b.iter(|| {
            let plain = Hello::unseal(black_box(&payload), &pool).expect("to the pool");
            let hello = Hello::decode(&plain).expect("a HELLO");
            hello.verify(&plain).expect("signed");
            let pool_session = SecretKeys::generate().expect("randomness");
            let key = ChannelKey::agree(&pool_session, &hello.session.x25519).expect("a sound key");
            let response = Response::encode(&hello, &pool_session.public(), MOTD, &pool);
            let sealed = Response::seal(&response, &hello.session.x25519);
            (key, sealed, signed_config(7, &pool_session))
        });
    });
    group.finish();
}

fn signed_config(prime_id: u32, signer: &SecretKeys) -> Vec<u8> {
    let config = Config {
        script: &[0x51; 22],
        prime_id,
        tag: b"millrace",
        min_diff: 1 << 16,
    };
    let mut signed = Vec::new();
    config.encode(&mut signed);
    signed.extend_from_slice(&signer.sign(&signed));
    signed
}

criterion_group!(benches, steps);
criterion_main!(benches);
