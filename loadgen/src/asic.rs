//! A miner behind a gateway: it searches nonces until a header meets its pot.
//!
//! A coinbase and its branches are hashed once for a number of shares, whose nonces differ and are tried some at once;
//! a share then costs the generator two blocks of SHA-256 a try. The pool rebuilds all of it for every share, so for
//! the pool these are shares like any other.

use millrace::wire::{EXTRANONCE_LEN, Flags, SUBSIDY_ONLY_ID};

use crate::coinbase::Secondary;
use crate::rng::Rng;
use crate::sha256d::{self, Header, LANES};
use crate::slots::{Place, Slots, Taste};

/// Shares found with one extranonce.
const SHARES_PER_EXTRANONCE: u8 = 64;

/// Every so many extranonces a miner is in a quick change of difficulty.
const QUICKDIFF_EVERY: u64 = 8;

/// One miner.
#[derive(Debug)]
pub struct Asic {
    /// One, or as many as it mines for in turn.
    usernames: Box<[Box<[u8]>]>,
    turn: usize,
    taste: Taste,
    /// How far above the least pot its shares lie.
    pot_above: u8,
    /// Told by the gateway; no two miners of one have the same.
    extranonce1: u32,
    extranonce2: u64,
    work: Option<Work>,
}

/// What a miner is working on.
#[derive(Debug)]
struct Work {
    serial: u32,
    place: Place,
    pot: u8,
    flags: Flags,
    extranonce: [u8; EXTRANONCE_LEN],
    version: u32,
    ntime: u32,
    header: Header,
    pays: bool,
    tried: Tried,
    left: u8,
}

/// Nonces that were hashed together, and how many of them were looked at.
#[derive(Debug)]
struct Tried {
    first_nonce: u32,
    tops: [u64; LANES],
    seen: usize,
}

/// A share as it was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub serial: u32,
    pub place: Place,
    pub pot: u8,
    pub flags: Flags,
    pub extranonce: [u8; EXTRANONCE_LEN],
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
    /// The most significant 64 bits of its hash.
    pub top: u64,
    /// Whether its coinbase pays anybody of a split.
    pub pays: bool,
    /// The first 8 bytes of its hash, little-endian, which a ledger knows it by; where the floor wants that.
    pub hash64: Option<u64>,
}

/// What the search shall end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    Meets,
    /// The same of the least pot, where it is no block.
    NoBlock,
    /// A hash above the target of a pot so far above the least.
    Fails {
        pot_above: u8,
    },
}

/// What changes between searches.
pub struct Floor<'a> {
    pub slots: &'a Slots,
    pub secondary: Secondary,
    /// The least pot in force.
    pub min_pot: u8,
    /// Seconds since 1970.
    pub unix_s: u32,
    /// Whether the hash itself is wanted.
    pub by_hash: bool,
    /// The gateway's next nonce: all its miners draw from one, so that no two shares have the same.
    pub nonce: &'a mut u32,
    pub rng: &'a mut Rng,
}

impl Asic {
    /// The miner with this number behind its gateway. `subsidy_only`: whether it may work without transactions.
    pub fn new(number: u8, usernames: Box<[Box<[u8]>]>, subsidy_only: bool) -> Self {
        Self {
            usernames,
            turn: 0,
            taste: Taste {
                coinbase_id: [0, 2, 3, 5, 1, 4][usize::from(number % 6)],
                lags: number % 4 == 3,
                // Of those who stay behind, some on a job without transactions.
                subsidy_only: subsidy_only && number % 4 != 1,
            },
            pot_above: [0, 0, 1, 2][usize::from(number % 4)],
            extranonce1: u32::from(number),
            extranonce2: 0,
            work: None,
        }
    }

    /// Under which it mines now.
    pub fn username(&self) -> &[u8] {
        &self.usernames[self.turn]
    }

    /// The next share; none where there is no job yet, or next to no hash that is searched for.
    pub fn search(&mut self, search: Search, floor: &mut Floor<'_>) -> Option<Found> {
        let place = floor.slots.place(self.taste)?;
        let job = floor.slots.job(place.slot)?;
        let (serial, nbits) = (job.serial, job.template.nbits);
        let pot_above = match search {
            Search::Meets => self.pot_above,
            Search::NoBlock => 0,
            Search::Fails { pot_above } => pot_above,
        };
        let pot = floor.min_pot.saturating_add(pot_above).min(48);
        let half_way = u64::MAX >> pot >> 1;
        if search == Search::NoBlock && sha256d::is_block(half_way, nbits) {
            return None;
        }
        let is_wanted = |top| match search {
            Search::Meets => sha256d::meets(top, pot),
            Search::NoBlock => sha256d::meets(top, pot) && !sha256d::is_block(top, nbits),
            Search::Fails { .. } => !sha256d::meets(top, pot),
        };
        let fits = |work: &Work| work.serial == serial && work.place == place && work.pot == pot && work.left > 0;
        if !self.work.as_ref().is_some_and(fits) {
            self.work = Some(self.start(place, serial, pot, floor)?);
        }
        let work = self.work.as_mut()?;
        let (nonce, top) = work.search(is_wanted, floor.nonce);
        work.left -= 1;
        self.turn = (self.turn + 1) % self.usernames.len();
        Some(Found {
            serial,
            place,
            pot,
            flags: work.flags,
            extranonce: work.extranonce,
            version: work.version,
            ntime: work.ntime,
            nonce,
            top,
            pays: work.pays,
            hash64: floor.by_hash.then(|| work.header.hash64(nonce)),
        })
    }

    fn start(&mut self, place: Place, serial: u32, pot: u8, floor: &mut Floor<'_>) -> Option<Work> {
        let job = floor.slots.job(place.slot)?;
        self.extranonce2 += 1;
        let mut extranonce = [0; EXTRANONCE_LEN];
        extranonce[..4].copy_from_slice(&self.extranonce1.to_le_bytes());
        extranonce[4..].copy_from_slice(&self.extranonce2.to_le_bytes());
        let mut flags = Flags::default();
        if self.extranonce2.is_multiple_of(QUICKDIFF_EVERY) {
            flags.0 |= Flags::QUICKDIFF;
        }
        let mut branches = &job.template.branches[..];
        if place.coinbase_id == SUBSIDY_ONLY_ID {
            flags.0 |= Flags::SUBSIDY_ONLY;
            branches = &[];
        }
        let coinbase = job.coinbase(place.coinbase_id, floor.secondary);
        let leaf = coinbase.leaf(pot, flags.quickdiff(), &extranonce);
        let root = sha256d::root(leaf, branches);
        // Miners roll the 16 bits that BIP320 leaves them.
        let version = 0x2000_0000 | (floor.rng.next_u32() & 0x1fff_e000);
        let template = &job.template;
        let ntime = floor.unix_s.max(template.min_time);
        Some(Work {
            serial,
            place,
            pot,
            flags,
            extranonce,
            version,
            ntime,
            header: Header::new(version, &template.parent, &root, ntime, template.nbits),
            pays: coinbase.pays,
            tried: Tried::nothing(),
            left: SHARES_PER_EXTRANONCE,
        })
    }
}

impl Work {
    /// The next nonce whose hash is wanted by its top, and that top. `next_nonce`: the first that nobody has taken.
    fn search(&mut self, is_wanted: impl Fn(u64) -> bool, next_nonce: &mut u32) -> (u32, u64) {
        loop {
            while let Some((nonce, top)) = self.tried.next() {
                if is_wanted(top) {
                    return (nonce, top);
                }
            }
            self.tried = Tried {
                first_nonce: *next_nonce,
                tops: self.header.tops(*next_nonce),
                seen: 0,
            };
            *next_nonce = next_nonce.wrapping_add(LANES as u32);
        }
    }
}

impl Tried {
    fn nothing() -> Self {
        Self {
            first_nonce: 0,
            tops: [0; LANES],
            seen: LANES,
        }
    }

    /// The next of them, with the top of its hash.
    fn next(&mut self) -> Option<(u32, u64)> {
        let top = *self.tops.get(self.seen)?;
        let nonce = self.first_nonce.wrapping_add(self.seen as u32);
        self.seen += 1;
        Some((nonce, top))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::coinbase::Terms;
    use crate::template::{Template, Templates};

    #[test]
    fn blocks_are_passed_over_where_there_is_much_else_to_find() {
        const REGTEST: u32 = 0x207f_ffff;
        let other = Templates::new(1, 0..=0).template(1, 0);
        let template = Arc::new(Template {
            nbits: REGTEST,
            branches: Vec::new(),
            transactions: None,
            ..*other
        });
        let terms = Rc::new(Terms {
            prime_id: 1,
            script: [0x51].into(),
            tag: (*b"pool").into(),
            min_pot: 0,
        });
        let mut slots = Slots::default();
        slots.add(template, terms, true);
        // One whose own pot would leave blocks alone.
        let mut asic = Asic::new(2, [(*b"payee").into()].into(), true);
        let (mut nonce, mut rng) = (0, Rng::new(7));
        let mut find = |min_pot, search| {
            let mut floor = Floor {
                slots: &slots,
                secondary: Secondary::None,
                min_pot,
                unix_s: 1_750_000_000,
                by_hash: false,
                nonce: &mut nonce,
                rng: &mut rng,
            };
            asic.search(search, &mut floor)
        };
        for _ in 0..200 {
            let found = find(0, Search::NoBlock).expect("every other hash is one");
            assert!(found.pot == 0 && sha256d::meets(found.top, 0) && !sha256d::is_block(found.top, REGTEST));
            let found = find(0, Search::Meets).expect("there is a job");
            assert!(found.pot == 1 && sha256d::is_block(found.top, REGTEST));
        }
        assert!(find(1, Search::NoBlock).is_none());
    }
}
