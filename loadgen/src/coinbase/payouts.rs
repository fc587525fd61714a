//! Payouts of a split as outputs of a transaction.

use millrace::wire::push_output;

/// Whom a block pays beside the pool, in order: outputs as they stand in a transaction, in one piece, since many
/// gateways keep many of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payouts(Vec<u8>);

pub static NO_PAYOUTS: Payouts = Payouts(Vec::new());

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payout<'a> {
    /// Satoshi.
    pub value: u64,
    pub script: &'a [u8],
}

impl Payouts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Payout<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (value, after) = rest.split_first_chunk()?;
            let (len, after) = after.split_first()?;
            let (script, after) = after.split_at_checked(usize::from(*len))?;
            rest = after;
            let value = u64::from_le_bytes(*value);
            Some(Payout { value, script })
        })
    }
}

impl<'a> FromIterator<Payout<'a>> for Payouts {
    fn from_iter<I: IntoIterator<Item = Payout<'a>>>(payouts: I) -> Self {
        let mut outputs = Vec::new();
        for payout in payouts {
            push_output(&mut outputs, payout.value, payout.script);
        }
        outputs.shrink_to_fit();
        Self(outputs)
    }
}

pub fn output_len(script: &[u8]) -> usize {
    8 + 1 + script.len()
}
