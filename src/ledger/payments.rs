//! The payments of a coinbase: its outputs but for those that pay nobody.

use bitcoin::Transaction;

use crate::work::OutputKind;

/// One output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payment<'a> {
    /// Among all outputs, from 0.
    pub place: usize,
    /// Satoshi.
    pub value: u64,
    pub script: &'a [u8],
}

/// As a gateway lists them: payouts, then what is left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payments<'a> {
    pub payouts: Vec<Payment<'a>>,
    /// The last; there in every coinbase that pays anything.
    pub leftover: Option<Payment<'a>>,
}

impl<'a> Payments<'a> {
    pub fn of(coinbase: &'a Transaction) -> Self {
        let outputs = coinbase.output.iter().enumerate().map(|(place, output)| Payment {
            place,
            value: output.value.to_sat(),
            script: output.script_pubkey.as_bytes(),
        });
        // Coins are coins, whatever their script looks like.
        let is_payment =
            |output: &Payment<'_>| output.value != 0 || OutputKind::of(output.script) == OutputKind::Payment;
        let mut payouts: Vec<_> = outputs.filter(is_payment).collect();
        let leftover = payouts.pop();
        Self { payouts, leftover }
    }
}
