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
        for at in (0..4).rev() {
            match u64::from_le_bytes(words[at]).cmp(&self.words[at]) {
                Ordering::Less => return true,
                Ordering::Greater => return false,
                Ordering::Equal => {}
            }
        }
        true
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
