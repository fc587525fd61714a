//! A split of 300 payees is paid by coinbases of every class that a gateway makes, as far as each has room; not one of their
//! outputs may be another.

use bitcoin::{Address, Network, ScriptBuf};
use millrace::wire::{ExtranoncePlace, Reason};

use crate::pool::Pool;
use crate::pool::gateway::Gateway;
use crate::pool::session::Session;
use crate::pool::split::{DIFFICULTY_POT, Paid, Split, ask_until, paying, submit};

const PAYEES: u32 = 300;

/// Bytes that a gateway gives a coinbase of each class, and what it reckons for all but payouts and the pool's script
/// (protocol section 4).
const CLASS_BYTES: [usize; 6] = [0, 500, 755, 6_500, 16_000, 2_250];
const FIXED_BYTES: usize = 119 + 10;

/// Payouts of this split that each class has room for.
const FITS: [usize; 6] = [0, 10, 19, 204, 300, 67];

/// One payee's share each.
fn work_for_all(session: &mut Session) {
    let template = session.template(0, 1);
    let shares: Vec<_> = (0..PAYEES)
        .map(|n| {
            let mut program = [0x42; 20];
            program[..4].copy_from_slice(&n.to_le_bytes());
            let script = ScriptBuf::from_bytes([&[0x00, 0x14][..], &program].concat());
            let address = Address::from_script(&script, Network::Bitcoin).expect("a standard script");
            let mut share = template.draft(n).mine_below(DIFFICULTY_POT);
            share.username = format!("{address}.rig").into_bytes();
            share
        })
        .collect();
    session.push(&shares[0].with_sections());
    shares[1..].iter().for_each(|share| session.push(&share.bare()));
    session.flush();
    for share in &shares {
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
}

/// What a class has room for, in the split's order.
fn fitting(class: usize, pool_script: &[u8], outputs: &[Paid]) -> Vec<Paid> {
    let mut room = CLASS_BYTES[class].saturating_sub(FIXED_BYTES + pool_script.len());
    let fits = outputs.iter().take_while(|(_, script)| {
        let len = 8 + 1 + script.len();
        let fits = len <= room;
        room = room.saturating_sub(len);
        fits
    });
    fits.cloned().collect()
}

/// The extranonce stands in an output of its own in class 2 with payouts, behind those that fit before it.
fn place(class: usize) -> ExtranoncePlace {
    match class {
        2 => ExtranoncePlace::Output(1),
        _ => ExtranoncePlace::Push,
    }
}

#[test]
fn every_class_pays_a_split_of_300_and_not_one_output_may_be_another() {
    let pool = Pool::with(&["--shards", "1", "--network-difficulty", "65536"]);
    let mut session = Gateway::new().connect(&pool);
    work_for_all(&mut session);
    let Split { coinbaser_id, outputs } = ask_until(&mut session, 1, PAYEES as usize);
    let mut number = 1_000;
    for (class, fits) in FITS.into_iter().enumerate() {
        let paid = fitting(class, &session.terms().script, &outputs);
        assert_eq!(paid.len(), fits, "class {class}");
        let mut tampered = vec![paid.clone(), paid.clone()];
        if paid.is_empty() {
            tampered = vec![vec![outputs[0].clone()]; 2];
        }
        let last = tampered[0].len() - 1;
        // One satoshi more, and the coins to somebody who is no payee.
        tampered[0][last].0 += 1;
        tampered[1][last].1[21] ^= 1;
        let all = [(paid, Ok(()))].into_iter();
        let refused = tampered.into_iter().map(|paid| (paid, Err(Reason::BadCoinbaseOutputs)));
        for (paid, verdict) in all.chain(refused) {
            let mut template = paying(&session, 1, 1, &paid, coinbaser_id, place(class));
            template.coinbase_id = u8::try_from(class).expect("one of six");
            assert_eq!(submit(&mut session, &template, number), verdict, "class {class}");
            number += 1;
        }
    }
}
