//! 256-bit targets. A hash meets a target when it is not above it, both read as little-endian numbers.

use std::cmp::Ordering;

/// The highest hash that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Least significant word first.
    words: [u64; 4],
}

impl Target {
    /// `0x00000000FFFF0000…00`: difficulty 1.
    pub const DIFFICULTY_1: Self = Self {
        words: [0, 0, 0, 0xffff_0000],
    };

    /// What no hash but zero meets.
    pub const NONE: Self = Self { words: [0; 4] };

    /// A header's compact target, its field read as a number: three bytes of mantissa under a length in bytes. One that
    /// is negative is [`Self::NONE`], as is 0; one above 256 bits is the highest of all: no node asks for either.
    #[must_use]
    pub fn from_nbits(nbits: u32) -> Self {
        let (len, mantissa) = (nbits >> 24, nbits & 0x007f_ffff);
        if nbits & 0x0080_0000 != 0 {
            return Self::NONE;
        }
        let of_three_bytes = Self {
            words: [u64::from(mantissa >> (8 * 3_u32.saturating_sub(len).min(3))), 0, 0, 0],
        };
        of_three_bytes.shifted_up(8 * len.saturating_sub(3))
    }

    /// How many times harder it is than [`Self::DIFFICULTY_1`] shifted up by so many bits, in whole times; what exceeds a
    /// u64 counts as its greatest.
    #[must_use]
    pub fn difficulty(&self, shift: u32) -> u64 {
        let base = Self::DIFFICULTY_1.shifted_up(shift);
        if self.words == [0; 4] {
            return u64::MAX;
        }
        // Long division by halves: the greatest d with d * self <= base is the greatest whose d-th part of the base is
        // not below self.
        let (mut low, mut high) = (0, u64::MAX);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if *self <= base.divided_by(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// This target times `2^bits`; what exceeds 256 bits makes it the highest of all.
    #[must_use]
    pub fn shifted_up(self, bits: u32) -> Self {
        (0..bits).fold(self, |target, _| {
            if target.words[3] >> 63 == 1 {
                return Self { words: [u64::MAX; 4] };
            }
            let mut words = [0; 4];
            for (at, word) in words.iter_mut().enumerate() {
                let below = if at == 0 { 0 } else { target.words[at - 1] >> 63 };
                *word = target.words[at] << 1 | below;
            }
            Self { words }
        })
    }

    /// This target over `divisor`, rounded down.
    ///
    /// # Panics
    /// The divisor is 0: a difficulty never is.
    #[must_use]
    pub fn divided_by(self, divisor: u64) -> Self {
        assert!(divisor > 0);
        let mut words = [0; 4];
        let mut rest = 0_u128;
        for at in (0..4).rev() {
            let dividend = rest << 64 | u128::from(self.words[at]);
            words[at] = u64::try_from(dividend / u128::from(divisor)).expect("the rest is below the divisor");
            rest = dividend % u128::from(divisor);
        }
        Self { words }
    }

    /// Whether `hash`, as hashed, is at or below this target.
    #[must_use]
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        let (words, _) = hash.as_chunks::<8>();
        let words = std::array::from_fn(|at| u64::from_le_bytes(words[at]));
        Self { words } <= *self
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Self) -> Ordering {
        self.words.iter().rev().cmp(other.words.iter().rev())
    }
}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most significant byte first, as targets are written.
    fn hash(hex_start: &[u8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..hex_start.len()].copy_from_slice(hex_start);
        bytes.reverse();
        bytes
    }

    #[test]
    fn compact_targets_are_read_as_headers_write_them() {
        assert_eq!(Target::from_nbits(0x1d00_ffff), Target::DIFFICULTY_1);
        assert_eq!(Target::from_nbits(0x207f_ffff).words[3], 0x7fff_ff00_0000_0000);
        assert_eq!(Target::from_nbits(0x0312_3456).words, [0x12_3456, 0, 0, 0]);
        assert_eq!(Target::from_nbits(0x0212_3456).words, [0x1234, 0, 0, 0]);
        assert_eq!(Target::from_nbits(0x0112_3456).words, [0x12, 0, 0, 0]);
        assert_eq!(Target::from_nbits(0x0012_3456), Target::NONE);
        assert_eq!(Target::from_nbits(0x1d80_ffff), Target::NONE);
        assert_eq!(Target::from_nbits(0xff7f_ffff).words, [u64::MAX; 4]);
    }

    #[test]
    fn difficulties_are_whole_times_of_the_first() {
        assert_eq!(Target::DIFFICULTY_1.difficulty(0), 1);
        assert_eq!(Target::from_nbits(0x207f_ffff).difficulty(0), 0);
        assert_eq!(Target::from_nbits(0x207f_ffff).difficulty(32), 1);
        // Block 100,000: 14,484.16; block 840,000: 86,388,558,925,171.02.
        assert_eq!(Target::from_nbits(0x1b04_864c).difficulty(0), 14_484);
        assert_eq!(Target::from_nbits(0x1703_4219).difficulty(0), 86_388_558_925_171);
        assert_eq!(Target::NONE.difficulty(0), u64::MAX);
    }

    #[test]
    fn difficulty_1_is_met_up_to_its_last_hash() {
        let target = Target::DIFFICULTY_1;
        assert!(target.is_met_by(&hash(&[0, 0, 0, 0, 0xff, 0xff])));
        assert!(!target.is_met_by(&hash(&[0, 0, 0, 0, 0xff, 0xff, 0, 1])));
        assert!(!target.is_met_by(&hash(&[0, 0, 0, 1])));
        assert!(target.is_met_by(&[0; 32]));
    }

    #[test]
    fn a_shift_of_32_bits_leaves_one_hash_in_65536_out() {
        let target = Target::DIFFICULTY_1.shifted_up(32);
        assert!(target.is_met_by(&hash(&[0xff, 0xff])));
        assert!(!target.is_met_by(&hash(&[0xff, 0xff, 1])));
        assert_eq!(target.shifted_up(1), Target { words: [u64::MAX; 4] });
    }

    #[test]
    fn division_halves_and_rounds_down() {
        let target = Target::DIFFICULTY_1.shifted_up(32);
        assert!(target.divided_by(2).is_met_by(&hash(&[0x7f, 0xff, 0x80])));
        assert!(!target.divided_by(2).is_met_by(&hash(&[0x7f, 0xff, 0x80, 1])));
        assert_eq!(target.divided_by(1 << 32), Target::DIFFICULTY_1);
        assert_eq!(
            Target { words: [7, 0, 0, 0] }.divided_by(2),
            Target { words: [3, 0, 0, 0] }
        );
        assert_eq!(
            Target { words: [0, 1, 0, 0] }.divided_by(u64::MAX),
            Target { words: [1, 0, 0, 0] }
        );
    }
}
