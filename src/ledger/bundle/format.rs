//! The content of a bundle: a head, the payees, the shares of the window. Integers are little-endian.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::{BundleError, PAYEES_MAX, Privacy, VERSION};
use crate::ledger::books::{BlockHash, SchemeKind, SplitTerms, Terms};
use crate::wire::{BRANCHES_MAX, SCRIPT_MAX};
use crate::work::{POT_MAX, Pin};

/// Begins the content.
pub(super) const MAGIC: [u8; 8] = *b"mr-audit";

/// The largest coinbase that the pool takes, in bytes, and some room.
pub(super) const COINBASE_MAX: usize = 20_000;

/// Bytes of a chain's name.
pub(super) const CHAIN_MAX: usize = 32;

/// Scripts of the pool that one coinbase can pay.
pub(super) const POOL_SCRIPTS_MAX: usize = 1_024;

/// Bytes of one share.
pub(super) const SHARE_LEN: usize = 21;

const CLEAR: u8 = 0;
const HASHED: u8 = 1;

const WITHOUT_PAYOUTS: u8 = 0;
const PAYS: u8 = 1;
const PAYS_WITHOUT_BALANCES: u8 = 2;
const BY_HAND: u8 = 3;
const BY_HAND_TOLD: u8 = 4;
const BY_HAND_TOLD_WITHOUT_BALANCES: u8 = 5;

const TIDES: u8 = 0;
const PPLNS: u8 = 1;
const SOLO: u8 = 2;

/// Stands where there is no payee.
const NOBODY: u32 = u32::MAX;

/// How a block came into the books, as the candidate's booking says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    WithoutPayouts,
    Pays {
        with_balances: bool,
    },
    ByHand {
        /// Whether the split that its job was told is one with balances; none where none is known.
        told: Option<bool>,
    },
}

impl Kind {
    /// Whether the split that the coinbase is held to pays balances; none without a split.
    pub fn with_balances(self) -> Option<bool> {
        match self {
            Self::WithoutPayouts => None,
            Self::Pays { with_balances } => Some(with_balances),
            Self::ByHand { told } => told,
        }
    }

    pub fn is_by_hand(self) -> bool {
        matches!(self, Self::ByHand { .. })
    }
}

/// All but payees and shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Of a version before 3: coins at the pool's scripts are the pool's alone, and a block booked by hand pays nobody.
    pub by_former_rules: bool,
    pub privacy: Privacy,
    /// Zeros where payees are named in the clear.
    pub salt: [u8; 32],
    pub chain: String,
    pub kind: Kind,
    pub block: BlockHash,
    /// What the split was pinned to; for a block without one, what it was booked by.
    pub pin: Pin,
    /// The number of the event that booked it.
    pub booked_by: u64,
    /// In force at the pin.
    pub terms: Terms,
    /// Satoshi that were split.
    pub value: u64,
    /// Output script of what the split leaves over.
    pub own_script: Box<[u8]>,
    /// Scripts of the pool that the coinbase pays.
    pub pool_scripts: Vec<Box<[u8]>>,
    pub header: [u8; 80],
    /// From the leaf up.
    pub branches: Vec<[u8; 32]>,
    /// Without its witness.
    pub coinbase: Vec<u8>,
    pub booked: Booked,
    /// The row of the payee that found the block, where the scheme asks.
    pub finder: Option<u32>,
    pub payees: u32,
    /// Where the window lacks work because older shares are no longer kept: from where on they are. Else 0.
    pub kept_from: u64,
    /// The sequence of the window's oldest share.
    pub front: u64,
    /// Work that counts of it.
    pub front_part: u64,
    pub shares: u64,
    /// Whether each payee's row says what was dictated to it.
    pub is_dictated: bool,
}

/// The booking beside its postings, in satoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Booked {
    pub value: u64,
    pub to_pool: u64,
    pub fee: u64,
}

/// One row of the table of payees, which is sorted by script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payee {
    /// The script, or its salted hash.
    pub name: Box<[u8]>,
    pub script_len: u8,
    /// 255 stands for more, too.
    pub sigops: u8,
    /// Satoshi, as the next two.
    pub balance_at_pin: i64,
    pub payable_at_pin: i64,
    pub balance_at_booking: i64,
    pub earned: u64,
    pub paid: u64,
    /// What its output of the split was, as its gateway was told; 0 for none. There where the head says so.
    pub dictated: Option<u64>,
}

/// One share of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Its payee's row.
    pub row: u32,
    pub pot: u8,
    /// Ms since 1970.
    pub time_ms: u64,
    /// The first 8 bytes of the header's hash.
    pub hash64: u64,
}

/// How a bundle names a payee.
pub(super) fn name(privacy: Privacy, salt: &[u8; 32], script: &[u8]) -> Box<[u8]> {
    match privacy {
        Privacy::Clear => script.into(),
        Privacy::Hashed => {
            let hash = Sha256::new().chain_update(salt).chain_update(script);
            Box::from(&hash.finalize()[..])
        }
    }
}

/// Signature operations as a row has them.
pub(super) fn sigops(script: &[u8]) -> u8 {
    u8::try_from(crate::ledger::books::legacy_sigops(script)).unwrap_or(u8::MAX)
}

impl Head {
    /// # Panics
    /// A field is longer than its bound.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.push(match self.privacy {
            Privacy::Clear => CLEAR,
            Privacy::Hashed => HASHED,
        });
        out.extend_from_slice(&self.salt);
        put_short(out, self.chain.as_bytes());
        out.push(match self.kind {
            Kind::WithoutPayouts => WITHOUT_PAYOUTS,
            Kind::Pays { with_balances: true } => PAYS,
            Kind::Pays { with_balances: false } => PAYS_WITHOUT_BALANCES,
            Kind::ByHand { told: None } => BY_HAND,
            Kind::ByHand { told: Some(true) } => BY_HAND_TOLD,
            Kind::ByHand { told: Some(false) } => BY_HAND_TOLD_WITHOUT_BALANCES,
        });
        out.extend_from_slice(&self.block);
        for number in [self.pin.sequence, self.pin.event, self.booked_by] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let (scheme, work) = match self.terms.scheme {
            SchemeKind::Tides => (TIDES, 0),
            SchemeKind::Pplns { work } => (PPLNS, work),
            SchemeKind::Solo => (SOLO, 0),
        };
        out.push(scheme);
        out.extend_from_slice(&work.to_le_bytes());
        out.extend_from_slice(&self.terms.split.fee_ppm.to_le_bytes());
        for number in [self.terms.split.minimum, self.terms.difficulty, self.value] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_short(out, &self.own_script);
        put_u16(out, self.pool_scripts.len());
        for script in &self.pool_scripts {
            put_short(out, script);
        }
        out.extend_from_slice(&self.header);
        out.push(u8::try_from(self.branches.len()).expect("at most 24 branches are kept"));
        out.extend_from_slice(self.branches.as_flattened());
        put_u16(out, self.coinbase.len());
        out.extend_from_slice(&self.coinbase);
        for number in [self.booked.value, self.booked.to_pool, self.booked.fee] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.finder.unwrap_or(NOBODY).to_le_bytes());
        out.extend_from_slice(&self.payees.to_le_bytes());
        for number in [self.kept_from, self.front, self.front_part, self.shares] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.is_dictated.into());
    }

    /// # Errors
    /// It ends early, is of another version, or a field is beyond its bound.
    pub fn read(from: &mut Source<impl Read>) -> Result<Self, BundleError> {
        if from.array()? != MAGIC {
            return Err(BundleError::NoBundle);
        }
        let version = from.u16()?;
        if !(1..=VERSION).contains(&version) {
            return Err(BundleError::Version(version));
        }
        Ok(Self {
            by_former_rules: version < 3,
            privacy: match from.u8()? {
                CLEAR => Privacy::Clear,
                HASHED => Privacy::Hashed,
                _ => return Err(BundleError::Impossible("way of naming payees")),
            },
            salt: from.array()?,
            chain: String::from_utf8(from.short(CHAIN_MAX, "chain")?.into())
                .map_err(|_| BundleError::Impossible("chain"))?,
            kind: match from.u8()? {
                WITHOUT_PAYOUTS => Kind::WithoutPayouts,
                PAYS => Kind::Pays { with_balances: true },
                PAYS_WITHOUT_BALANCES => Kind::Pays { with_balances: false },
                BY_HAND => Kind::ByHand { told: None },
                // From version 5 on.
                BY_HAND_TOLD if version >= 5 => Kind::ByHand { told: Some(true) },
                BY_HAND_TOLD_WITHOUT_BALANCES if version >= 5 => Kind::ByHand { told: Some(false) },
                _ => return Err(BundleError::Impossible("kind of booking")),
            },
            block: from.array()?,
            pin: Pin {
                sequence: from.u64()?,
                event: from.u64()?,
            },
            booked_by: from.u64()?,
            terms: from.terms()?,
            value: from.u64()?,
            own_script: from.short(SCRIPT_MAX, "own script")?,
            pool_scripts: {
                let count = from.count(POOL_SCRIPTS_MAX, "number of the pool's scripts")?;
                (0..count)
                    .map(|_| from.short(usize::from(u8::MAX), "script of the pool"))
                    .collect::<Result<_, _>>()?
            },
            header: from.array()?,
            branches: {
                let count = usize::from(from.u8()?);
                if count > BRANCHES_MAX {
                    return Err(BundleError::Impossible("number of branches"));
                }
                (0..count).map(|_| from.array()).collect::<Result<_, _>>()?
            },
            coinbase: {
                let len = from.count(COINBASE_MAX, "coinbase's length")?;
                from.bytes(len)?
            },
            booked: Booked {
                value: from.u64()?,
                to_pool: from.u64()?,
                fee: from.u64()?,
            },
            finder: Some(from.u32()?).filter(|row| *row != NOBODY),
            payees: match from.u32()? {
                payees @ ..=PAYEES_MAX => payees,
                _ => return Err(BundleError::Impossible("number of payees")),
            },
            // Before version 2 all shares were kept.
            kept_from: if version < 2 { 0 } else { from.u64()? },
            front: from.u64()?,
            front_part: from.u64()?,
            shares: from.u64()?,
            is_dictated: match if version < 4 { 0 } else { from.u8()? } {
                0 => false,
                1 => true,
                _ => return Err(BundleError::Impossible("word on what was dictated")),
            },
        })
    }
}

impl Payee {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.script_len, self.sigops]);
        out.extend_from_slice(&self.name);
        for balance in [self.balance_at_pin, self.payable_at_pin, self.balance_at_booking] {
            out.extend_from_slice(&balance.to_le_bytes());
        }
        for satoshi in [self.earned, self.paid].into_iter().chain(self.dictated) {
            out.extend_from_slice(&satoshi.to_le_bytes());
        }
    }

    /// # Errors
    /// It ends early, or its script is too long.
    pub fn read(from: &mut Source<impl Read>, head: &Head) -> Result<Self, BundleError> {
        let script_len = from.u8()?;
        let sigops = from.u8()?;
        if !(1..=SCRIPT_MAX).contains(&usize::from(script_len)) {
            return Err(BundleError::Impossible("length of a payee's script"));
        }
        let name_len = match head.privacy {
            Privacy::Clear => usize::from(script_len),
            Privacy::Hashed => 32,
        };
        Ok(Self {
            name: from.bytes(name_len)?.into(),
            script_len,
            sigops,
            balance_at_pin: from.i64()?,
            payable_at_pin: from.i64()?,
            balance_at_booking: from.i64()?,
            earned: from.u64()?,
            paid: from.u64()?,
            dictated: head.is_dictated.then(|| from.u64()).transpose()?,
        })
    }
}

impl Share {
    pub fn encode(&self) -> [u8; SHARE_LEN] {
        let mut bytes = [0; SHARE_LEN];
        bytes[..4].copy_from_slice(&self.row.to_le_bytes());
        bytes[4] = self.pot;
        bytes[5..13].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[13..].copy_from_slice(&self.hash64.to_le_bytes());
        bytes
    }

    /// # Errors
    /// It ends early, or its pot is above 63.
    pub fn read(from: &mut Source<impl Read>) -> Result<Self, BundleError> {
        let share = Self {
            row: from.u32()?,
            pot: from.u8()?,
            time_ms: from.u64()?,
            hash64: from.u64()?,
        };
        if share.pot > POT_MAX {
            return Err(BundleError::Impossible("share's pot"));
        }
        Ok(share)
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("bounded by its writer"));
    out.extend_from_slice(bytes);
}

fn put_u16(out: &mut Vec<u8>, number: usize) {
    let number = u16::try_from(number).expect("bounded by its writer");
    out.extend_from_slice(&number.to_le_bytes());
}

/// Takes fields off a stream, none longer than its bound.
pub(super) struct Source<R>(pub R);

impl<R: Read> Source<R> {
    /// # Errors
    /// Something follows, or the stream is damaged.
    pub fn end(mut self) -> Result<(), BundleError> {
        match self.0.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(BundleError::Impossible("length")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).map_err(short)?;
        Ok(bytes)
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, BundleError> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).map_err(short)?;
        Ok(bytes)
    }

    fn short(&mut self, most: usize, what: &'static str) -> Result<Box<[u8]>, BundleError> {
        let len = usize::from(self.u8()?);
        if len > most {
            return Err(BundleError::Impossible(what));
        }
        Ok(self.bytes(len)?.into())
    }

    fn count(&mut self, most: usize, what: &'static str) -> Result<usize, BundleError> {
        match usize::from(self.u16()?) {
            count if count > most => Err(BundleError::Impossible(what)),
            count => Ok(count),
        }
    }

    fn terms(&mut self) -> Result<Terms, BundleError> {
        let scheme = self.u8()?;
        let work = self.u64()?;
        Ok(Terms {
            scheme: match scheme {
                TIDES => SchemeKind::Tides,
                PPLNS => SchemeKind::Pplns { work },
                SOLO => SchemeKind::Solo,
                _ => return Err(BundleError::Impossible("scheme")),
            },
            split: SplitTerms {
                fee_ppm: self.u32()?,
                minimum: self.u64()?,
            },
            difficulty: self.u64()?,
        })
    }

    fn u8(&mut self) -> Result<u8, BundleError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, BundleError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BundleError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BundleError> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, BundleError> {
        self.array().map(i64::from_le_bytes)
    }
}

fn short(error: io::Error) -> BundleError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BundleError::Impossible("length"),
        _ => error.into(),
    }
}
