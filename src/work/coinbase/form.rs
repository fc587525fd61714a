//! The form of a coinbase transaction, parsed from its first byte to its last (protocol section 5).

use super::Coinbase;
use crate::wire::{COINB1_MAX, COINB2_MAX, COMMITMENT_START, EXTRANONCE_LEN, Reason, SUBSIDY_ONLY_ID};
use crate::work::split::Split;

/// Version 1, and one input that spends nothing.
const START_OF_TRANSACTION: [u8; 41] = {
    let mut start = [0; 41];
    start[0] = 1;
    start[4] = 1;
    let mut at = 37;
    while at < 41 {
        start[at] = 0xff;
        at += 1;
    }
    start
};

/// The longest scriptSig that consensus allows, in bytes.
const SCRIPT_SIG_MAX: usize = 100;

/// The coinbase id whose extranonce stands behind the payouts that fit before it.
const BEHIND_PAYOUTS_ID: u8 = 2;

/// What an output of a coinbase is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// Shows where the extranonce stands; worth nothing.
    Extranonce,
    /// To the witnesses of the block; worth nothing.
    Commitment,
    Payment,
}

impl OutputKind {
    #[must_use]
    pub fn of(script: &[u8]) -> Self {
        if script.starts_with(&EXTRANONCE_START) && script.len() == EXTRANONCE_SCRIPT_LEN {
            Self::Extranonce
        } else if script.starts_with(&COMMITMENT_START) && script.len() == COMMITMENT_LEN {
            Self::Commitment
        } else {
            Self::Payment
        }
    }
}

/// Whether a last payment of `value` satoshi to `script` is what a split leaves over: to the pool's own script, or to
/// nobody where nothing is left.
#[must_use]
pub fn is_leftover(value: u64, script: &[u8], own_script: &[u8]) -> bool {
    script == own_script || script == DEAD && value == 0
}

/// Bytes of the script of a witness commitment.
const COMMITMENT_LEN: usize = 38;

/// Starts the script of the extranonce's output, which has 16 bytes.
const EXTRANONCE_START: [u8; 2] = [0x6a, 0x0e];
const EXTRANONCE_SCRIPT_LEN: usize = 16;

/// The script of the output that stands where nothing is left for the pool.
const DEAD: [u8; 3] = [0x6a, 0x01, 0x00];

/// What the form of a coinbase shows. It takes the same memory whatever the coinbase: its outputs are read again where they
/// are held against a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::work) struct Form {
    pub prime_id: u32,
    /// Where the content of the tag push stands.
    tag: (usize, usize),
    /// Where the first output stands.
    outputs_at: usize,
    /// The last payment, to which goes what a split leaves over.
    leftover: Payment,
    /// How many payments stand before it.
    payouts: usize,
    /// Satoshi of all outputs.
    pub value: u64,
}

/// An output that is neither extranonce nor commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payment {
    value: u64,
    /// Where its script stands.
    script: (usize, usize),
}

/// One output as it was taken off the front.
struct Output<'a> {
    payment: Payment,
    script: &'a [u8],
}

impl Coinbase {
    /// Parses the transaction from its first byte to its last. The pot and the extranonce of the share that
    /// [`Self::hash`] last rebuilt stand in it; none of them can change what comes out.
    ///
    /// # Errors
    /// Reason 19: the pot does not stand at the front of the 7-byte push. Reason 26: any other departure.
    pub fn prove(&self, target_index: usize, height: u32, coinbase_id: u8) -> Result<Form, Reason> {
        if self.prime_push.ok_or(Reason::BadCoinbase)? != target_index {
            return Err(Reason::TargetMismatch);
        }
        let mut parser = Parser {
            bytes: self.transaction(),
            at: 0,
        };
        let Start {
            transaction,
            sig_len,
            sig_end,
            height: pushed_height,
            tag,
            ..
        } = parser.up_to_prime_push()?;
        let prime_id = parser.prime_push()?;
        let coinb2_len = self.len - self.extranonce_at - EXTRANONCE_LEN;
        if transaction != START_OF_TRANSACTION
            || sig_len > SCRIPT_SIG_MAX
            || pushed_height != u64::from(height)
            || self.extranonce_at > COINB1_MAX
            || coinb2_len > COINB2_MAX
        {
            return Err(Reason::BadCoinbase);
        }
        // The extranonce stands here or in an output, never in both.
        let mut extranonce_seen = false;
        if parser.at != sig_end {
            parser.literal(&[14])?;
            self.expect_extranonce(parser.at)?;
            parser.take(14)?;
            extranonce_seen = true;
        }
        if parser.at != sig_end {
            return Err(Reason::BadCoinbase);
        }
        parser.literal(&[0xff; 4])?;

        let outputs = parser.count()?;
        let outputs_at = parser.at;
        let mut payments = Payments::default();
        let mut payments_before_extranonce = 0;
        let mut commitments = 0;
        for _ in 0..outputs {
            let output = parser.output()?;
            let Payment { value, script } = output.payment;
            if commitments > 0 {
                // The witness commitment is the last output.
                return Err(Reason::BadCoinbase);
            }
            match output.kind() {
                OutputKind::Extranonce => {
                    if std::mem::replace(&mut extranonce_seen, true) || value != 0 {
                        return Err(Reason::BadCoinbase);
                    }
                    self.expect_extranonce(script.0 + EXTRANONCE_START.len())?;
                    payments_before_extranonce = payments.count;
                }
                OutputKind::Commitment if value == 0 => commitments += 1,
                OutputKind::Commitment | OutputKind::Payment => payments.add(output.payment)?,
            }
        }
        parser.literal(&[0; 4])?;
        let commitments_due = usize::from(coinbase_id != SUBSIDY_ONLY_ID);
        if parser.at != self.len || !extranonce_seen || commitments != commitments_due {
            return Err(Reason::BadCoinbase);
        }
        let leftover = payments.last.ok_or(Reason::BadCoinbase)?;
        let payouts = payments.count - 1;
        let before_extranonce_max = if coinbase_id == BEHIND_PAYOUTS_ID { payouts } else { 0 };
        if payments_before_extranonce > before_extranonce_max {
            return Err(Reason::BadCoinbase);
        }
        Ok(Form {
            prime_id,
            tag,
            outputs_at,
            leftover,
            payouts,
            value: payments.sum,
        })
    }

    /// Whether the tag push begins with the pool's tag, and ends or goes on as a gateway's does.
    pub fn has_tag(&self, form: &Form, tag: &[u8]) -> bool {
        let (start, end) = form.tag;
        is_tagged(&self.padded[start..end], tag)
    }

    /// Whether what a split leaves over goes to `script`, or to nobody where nothing is left.
    pub fn leaves_the_rest_to(&self, form: &Form, script: &[u8]) -> bool {
        is_leftover(form.leftover.value, self.script(&form.leftover), script)
    }

    /// Whether the payouts are a part of the split of `value` satoshi in its order, each with its exact value.
    pub fn pays_a_part_of(&self, form: &Form, split: &dyn Split, value: u64, with_balances: bool) -> bool {
        let mut payouts = self.payouts(form).peekable();
        let mut paid = 0;
        split.each_payout(value, with_balances, &mut |_, dictated| {
            let is_dictated =
                |payout: &Output<'_>| payout.payment.value == dictated.value && *payout.script == *dictated.script;
            paid += usize::from(payouts.next_if(is_dictated).is_some());
        });
        paid == form.payouts
    }

    /// The payments before the leftover's. What varies between shares leaves every output where it was.
    fn payouts(&self, form: &Form) -> impl Iterator<Item = Output<'_>> {
        let mut parser = Parser {
            bytes: self.transaction(),
            at: form.outputs_at,
        };
        std::iter::from_fn(move || parser.output().ok())
            .filter(|output| output.kind() != OutputKind::Extranonce)
            .take(form.payouts)
    }

    fn script(&self, payment: &Payment) -> &[u8] {
        let (start, end) = payment.script;
        &self.padded[start..end]
    }

    /// The 14 bytes from `start` are the prefix and the extranonce.
    fn expect_extranonce(&self, start: usize) -> Result<(), Reason> {
        if start + 2 == self.extranonce_at {
            Ok(())
        } else {
            Err(Reason::BadCoinbase)
        }
    }
}

#[derive(Default)]
struct Payments {
    last: Option<Payment>,
    count: usize,
    /// Satoshi of all.
    sum: u64,
}

impl Payments {
    fn add(&mut self, payment: Payment) -> Result<(), Reason> {
        self.sum = self.sum.checked_add(payment.value).ok_or(Reason::BadCoinbase)?;
        self.count += 1;
        self.last = Some(payment);
        Ok(())
    }
}

impl Output<'_> {
    fn kind(&self) -> OutputKind {
        OutputKind::of(self.script)
    }
}

impl Form {
    /// Whether it pays anybody but whom a split leaves the rest to.
    pub fn has_payouts(&self) -> bool {
        self.payouts > 0
    }
}

/// Whether what was pushed behind the height begins with the pool's tag, and ends or goes on as a gateway's does.
pub(in crate::work) fn is_tagged(pushed: &[u8], tag: &[u8]) -> bool {
    match pushed.strip_prefix(tag) {
        Some([0]) => true,
        Some([0x0f, secondary @ .., 0]) => !secondary.contains(&0),
        _ => false,
    }
}

/// A transaction up to the content of the 7-byte push.
pub(in crate::work) struct Start {
    transaction: [u8; START_OF_TRANSACTION.len()],
    sig_len: usize,
    /// Where the script ends, if it is as long as it says.
    sig_end: usize,
    pub height: u64,
    /// Where the content of the tag push stands.
    pub tag: (usize, usize),
    pub prime_push: usize,
}

/// Takes the parts of a transaction off its front.
pub(in crate::work) struct Parser<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Parser<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let end = self.at.checked_add(len).ok_or(Reason::BadCoinbase)?;
        let taken = self.bytes.get(self.at..end).ok_or(Reason::BadCoinbase)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        self.take(N)?.try_into().map_err(|_| Reason::BadCoinbase)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn literal(&mut self, expected: &[u8]) -> Result<(), Reason> {
        if self.take(expected.len())? == expected {
            Ok(())
        } else {
            Err(Reason::BadCoinbase)
        }
    }

    /// All before the content of the 7-byte push, of which the form alone is checked.
    pub fn up_to_prime_push(&mut self) -> Result<Start, Reason> {
        let transaction = self.array()?;
        let sig_len = usize::from(self.byte()?);
        let sig_end = self.at + sig_len;
        let height = self.height()?;
        let tag = self.tag()?;
        self.literal(&[7])?;
        Ok(Start {
            transaction,
            sig_len,
            sig_end,
            height,
            tag,
            prime_push: self.at,
        })
    }

    /// The BIP34 push: the height in as few little-endian bytes as keep its sign, for small heights too.
    fn height(&mut self) -> Result<u64, Reason> {
        // A height of 32 bits may need a fifth byte for its sign.
        let len = match self.byte()? {
            len @ 1..=5 => usize::from(len),
            _ => return Err(Reason::BadCoinbase),
        };
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(self.take(len)?);
        let height = u64::from_le_bytes(bytes);
        let significant = (u64::BITS - height.leading_zeros()) as usize;
        // One bit more for the sign, and one byte for height 0.
        if len == (significant + 1).div_ceil(8) {
            Ok(height)
        } else {
            Err(Reason::BadCoinbase)
        }
    }

    /// The push of `primary [0F secondary] 00`; above 75 bytes its length has a byte of its own.
    fn tag(&mut self) -> Result<(usize, usize), Reason> {
        let len = match self.byte()? {
            len @ 1..=75 => len,
            0x4c => match self.byte()? {
                len @ 76.. => len,
                _ => return Err(Reason::BadCoinbase),
            },
            _ => return Err(Reason::BadCoinbase),
        };
        let start = self.at;
        self.take(usize::from(len))?;
        Ok((start, self.at))
    }

    /// Where the extranonce begins in a whole transaction, whose `start` was taken: in the push behind the 7-byte push, or in
    /// an output.
    pub fn extranonce(&mut self, start: &Start) -> Result<usize, Reason> {
        const PREFIX_LEN: usize = 2;
        self.prime_push()?;
        if self.at != start.sig_end {
            self.literal(&[14])?;
            self.take(14)?;
            return Ok(self.at - EXTRANONCE_LEN);
        }
        self.literal(&[0xff; 4])?;
        for _ in 0..self.count()? {
            let output = self.output()?;
            if output.kind() == OutputKind::Extranonce {
                let (start, _) = output.payment.script;
                return Ok(start + EXTRANONCE_START.len() + PREFIX_LEN);
            }
        }
        Err(Reason::BadCoinbase)
    }

    fn output(&mut self) -> Result<Output<'a>, Reason> {
        let value = self.value()?;
        let len = self.count()?;
        let start = self.at;
        let script = self.take(len)?;
        let payment = Payment {
            value,
            script: (start, start + len),
        };
        Ok(Output { payment, script })
    }

    /// `target_pot | unique_id u16 | prime_id u32`.
    pub fn prime_push(&mut self) -> Result<u32, Reason> {
        let [_, _, _, prime_id @ ..] = self.array::<7>()?;
        Ok(u32::from_le_bytes(prime_id))
    }

    fn value(&mut self) -> Result<u64, Reason> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A variable-length count in its shortest form; a coinbase never has more than 65,535 of anything.
    fn count(&mut self) -> Result<usize, Reason> {
        match self.byte()? {
            count @ ..0xfd => Ok(usize::from(count)),
            0xfd => match u16::from_le_bytes(self.array()?) {
                count @ 0xfd.. => Ok(usize::from(count)),
                _ => Err(Reason::BadCoinbase),
            },
            _ => Err(Reason::BadCoinbase),
        }
    }
}
