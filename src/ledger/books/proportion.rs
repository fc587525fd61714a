//! Parts of one whole, each rounded down: a division for all of them, a multiplication for each.

/// `floor(part * whole / total)`, exactly, for any number of parts of `total`.
#[derive(Debug, Clone, Copy)]
pub struct Proportion {
    whole: u64,
    total: u128,
    reciprocal: Option<Reciprocal>,
}

/// For a total of 64 bits: `factor = floor(whole * 2^bits / total)`, where `2^(bits - 1) <= total < 2^bits`. For `part <= total` then
/// `part * factor / 2^bits` is at most `part * whole / total`, and less than `part / 2^bits < 1` below it; so rounded
/// down it is the exact result or one less.
#[derive(Debug, Clone, Copy)]
struct Reciprocal {
    factor: u64,
    /// `64 - bits`.
    shift: u32,
    total: u64,
}

impl Proportion {
    /// `whole * total` is below 2^128. Of a total of 0 every part is 0.
    #[must_use]
    pub fn new(whole: u64, total: u128) -> Self {
        // Windows hold less than 2^64 work and money is below 2^51; by what does not fit is divided each time.
        let small = u64::try_from(total).ok().filter(|total| *total > 0 && whole < 1 << 63);
        let reciprocal = small.map(|total| {
            let shift = total.leading_zeros();
            let factor = (u128::from(whole) << (u64::BITS - shift)) / u128::from(total);
            let factor = u64::try_from(factor).expect("at most twice a whole below 2^63");
            Reciprocal { factor, shift, total }
        });
        Self {
            whole,
            total,
            reciprocal,
        }
    }

    /// The result for `part`, or one less, with less work. `part` is at most the total.
    #[inline]
    #[must_use]
    pub fn at_least(&self, part: u128) -> u64 {
        debug_assert!(part <= self.total);
        match self.reciprocal {
            Some(Reciprocal { factor, shift, .. }) => (product((part as u64) << shift, factor) >> u64::BITS) as u64,
            None => self.divide(part),
        }
    }

    /// `part` is at most the total.
    #[inline]
    #[must_use]
    pub fn of(&self, part: u128) -> u64 {
        let at_least = self.at_least(part);
        match self.reciprocal {
            Some(Reciprocal { total, .. }) => {
                let rest = product(part as u64, self.whole) - product(at_least, total);
                at_least + u64::from(rest >= u128::from(total))
            }
            None => at_least,
        }
    }

    fn divide(&self, part: u128) -> u64 {
        let result = (part * u128::from(self.whole)).checked_div(self.total).unwrap_or(0);
        u64::try_from(result).expect("no more than the whole")
    }
}

/// Of 64 bits each: one instruction.
fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As many bits as `bits` says at most: numbers of all sizes, and those at the ends.
    fn sized(bits: u32) -> impl Strategy<Value = u128> {
        let ends = prop_oneof![Just(0_u128), Just(1), Just(u128::MAX)];
        (1..=bits, prop_oneof![4 => any::<u128>(), 1 => ends])
            .prop_map(|(bits, random)| random & (u128::MAX >> (u128::BITS - bits)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn it_is_what_division_gives(whole in sized(64), total in sized(80), part in sized(80), ends in 0..4_u8) {
            let whole = u64::try_from(whole).expect("64 bits");
            // A product that runs over is no window's and no block's.
            let total = total.min(u128::MAX / u128::from(whole.max(1)));
            let part = match ends {
                0 => total,
                1 => total.saturating_sub(1),
                _ => part.checked_rem(total).unwrap_or(0),
            };
            let exact = (part * u128::from(whole)).checked_div(total).unwrap_or(0);
            let proportion = Proportion::new(whole, total);
            prop_assert_eq!(u128::from(proportion.of(part)), exact);
            let at_least = u128::from(proportion.at_least(part));
            prop_assert!(at_least == exact || at_least + 1 == exact, "{} for {}", at_least, exact);
        }
    }

    #[test]
    fn both_ways_are_exact_at_their_border() {
        for (whole, total) in [
            ((1 << 63) - 1, (1 << 64) - 1),
            (1 << 63, (1 << 64) - 1),
            ((1 << 63) - 1, 1 << 64),
            (u64::MAX, 1 << 64),
            (1, 1),
            (0, 1),
        ] {
            let proportion = Proportion::new(whole, total);
            for part in [0, 1, total / 3, total / 2, total - 1, total] {
                assert_eq!(u128::from(proportion.of(part)), part * u128::from(whole) / total);
            }
        }
        assert_eq!(Proportion::new(5, 0).of(0), 0);
    }
}
