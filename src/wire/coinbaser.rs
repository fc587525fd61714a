//! The coinbaser: a gateway asks whom its next block shall pay (section 4).

use super::error::{DecodeError, Fault};
use super::message::Encode;
use super::reader::Reader;

/// Bytes of an answer's blob; a gateway ignores a longer one.
pub const BLOB_MAX: usize = 32_767;

/// Outputs of one split; a gateway drops those behind.
pub const OUTPUTS_MAX: usize = 512;

/// Bytes of an output's script, 2 at least; any other length drops the whole split in the gateway.
pub const OUTPUT_SCRIPT_MAX: usize = 64;

/// A gateway's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinbaserRequest<'a> {
    /// Satoshi to split.
    pub value: u64,
    /// The block that the job builds on.
    pub prev_block_hash: &'a [u8; 32],
    pub padding: &'a [u8],
}

impl<'a> CoinbaserRequest<'a> {
    pub(super) const COMMAND: u8 = 0x10;

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            value: reader.u64("coinbaser_request.value")?,
            prev_block_hash: reader.array("coinbaser_request.prev_block_hash")?,
            padding: reader.padding("coinbaser_request.end")?,
        })
    }
}

impl Encode for CoinbaserRequest<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::COMMAND);
        out.extend_from_slice(&self.value.to_le_bytes());
        out.extend_from_slice(self.prev_block_hash);
        out.push(0xfe);
        out.extend_from_slice(self.padding);
    }
}

/// The pool's answer. It is paired with its question by the value alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coinbaser<'a> {
    /// Satoshi, as asked.
    pub value: u64,
    /// What a job made from this split names; 0 is what a job without a split says, so it is never dictated.
    pub coinbaser_id: u8,
    pub outputs: Outputs<'a>,
}

/// The same answer with outputs that `write_outputs` appends, each by [`Output::encode`], where the frame is made.
pub struct CoinbaserOf<W: Fn(&mut Vec<u8>)> {
    /// Satoshi, as asked.
    pub value: u64,
    pub coinbaser_id: u8,
    pub write_outputs: W,
}

/// Outputs as they stand on the wire, each of them checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outputs<'a> {
    encoded: &'a [u8],
}

/// One output of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    /// Satoshi.
    pub value: u64,
    pub script: &'a [u8],
}

impl<'a> Coinbaser<'a> {
    pub(super) const COMMAND: u8 = 0x11;

    /// A split that pays nobody but the pool's script.
    #[must_use]
    pub fn without_outputs(value: u64, coinbaser_id: u8) -> Self {
        Self {
            value,
            coinbaser_id,
            outputs: Outputs::default(),
        }
    }

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let value = reader.u64("coinbaser.value")?;
        let len = reader.u32("coinbaser.length")? as usize;
        if len > BLOB_MAX {
            return Err(DecodeError::new("coinbaser.length", Fault::TooLong));
        }
        let mut blob = Reader::new(reader.bytes(len, "coinbaser.blob")?);
        reader.end("coinbaser.end")?;
        Ok(Self {
            value,
            coinbaser_id: blob.u8("coinbaser.id")?,
            outputs: Outputs::decode(blob.rest())?,
        })
    }
}

impl<'a> Outputs<'a> {
    /// `encoded`: per output `value u64 | script_len u8 | script`.
    ///
    /// # Errors
    /// One of them is cut off, has a script that no gateway takes, or there are too many.
    pub fn decode(encoded: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(encoded);
        let mut count = 0;
        while reader.peek().is_some() {
            Self::decode_one(&mut reader)?;
            count += 1;
            if count > OUTPUTS_MAX {
                return Err(DecodeError::new("coinbaser.outputs", Fault::TooLong));
            }
        }
        Ok(Self { encoded })
    }

    pub fn iter(&self) -> impl Iterator<Item = Output<'a>> {
        let mut reader = Reader::new(self.encoded);
        std::iter::from_fn(move || Self::decode_one(&mut reader).ok())
    }

    fn decode_one(reader: &mut Reader<'a>) -> Result<Output<'a>, DecodeError> {
        let value = reader.u64("coinbaser.output.value")?;
        let len = usize::from(reader.u8("coinbaser.output.script")?);
        if !(2..=OUTPUT_SCRIPT_MAX).contains(&len) {
            return Err(DecodeError::new("coinbaser.output.script", Fault::Unknown));
        }
        let script = reader.bytes(len, "coinbaser.output.script")?;
        Ok(Output { value, script })
    }
}

impl Output<'_> {
    /// Appends the output as [`Outputs::decode`] reads it.
    ///
    /// # Panics
    /// The script is one that no gateway takes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!((2..=OUTPUT_SCRIPT_MAX).contains(&self.script.len()));
        out.extend_from_slice(&self.value.to_le_bytes());
        out.push(u8::try_from(self.script.len()).expect("bounded above"));
        out.extend_from_slice(self.script);
    }
}

impl Encode for Coinbaser<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let write_outputs = |out: &mut Vec<u8>| out.extend_from_slice(self.outputs.encoded);
        CoinbaserOf {
            value: self.value,
            coinbaser_id: self.coinbaser_id,
            write_outputs,
        }
        .encode(out);
    }
}

impl<W: Fn(&mut Vec<u8>)> Encode for CoinbaserOf<W> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(Coinbaser::COMMAND);
        out.extend_from_slice(&self.value.to_le_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(self.coinbaser_id);
        (self.write_outputs)(out);
        let len = out.len() - length_at - 4;
        assert!(len <= BLOB_MAX, "a split is cut to what a gateway takes");
        let len = u32::try_from(len).expect("bounded above");
        out[length_at..length_at + 4].copy_from_slice(&len.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::laws::{encoded, gateway_is_heard, pool_error, pool_is_heard};
    use crate::wire::{FromGateway, FromPool};
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Paid = (u64, Vec<u8>);

    fn outputs(paid: &[Paid]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (value, script) in paid {
            Output { value: *value, script }.encode(&mut encoded);
        }
        encoded
    }

    fn answer(blob: &[u8]) -> Vec<u8> {
        let mut bytes = vec![Coinbaser::COMMAND];
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(blob.len()).expect("a short blob").to_le_bytes());
        bytes.extend_from_slice(blob);
        bytes
    }

    proptest! {
        #[test]
        fn a_request_is_heard(value: u64, parent: [u8; 32], padding in vec(any::<u8>(), 0..=80)) {
            gateway_is_heard(&FromGateway::CoinbaserRequest(CoinbaserRequest {
                value,
                prev_block_hash: &parent,
                padding: &padding,
            }));
        }

        #[test]
        fn a_split_is_heard_output_by_output(
            value: u64,
            coinbaser_id: u8,
            paid in vec((any::<u64>(), vec(any::<u8>(), 2..=OUTPUT_SCRIPT_MAX)), 0..40),
        ) {
            let encoded = outputs(&paid);
            let outputs = Outputs::decode(&encoded).expect("good outputs");
            let heard: Vec<Paid> = outputs.iter().map(|output| (output.value, output.script.to_vec())).collect();
            prop_assert_eq!(&heard, &paid);
            let split = Coinbaser { value, coinbaser_id, outputs };
            pool_is_heard(&FromPool::Coinbaser(split));
            let write_outputs = |out: &mut Vec<u8>| {
                paid.iter().for_each(|(value, script)| Output { value: *value, script }.encode(out));
            };
            let written_in_place = crate::wire::laws::encoded(&CoinbaserOf { value, coinbaser_id, write_outputs });
            prop_assert_eq!(written_in_place, crate::wire::laws::encoded(&split));
        }

        #[test]
        fn any_outputs_are_all_good_or_an_error(bytes in vec(prop_oneof![Just(2_u8), any::<u8>()], 0..200)) {
            if let Ok(outputs) = Outputs::decode(&bytes) {
                let mut again = Vec::new();
                outputs.iter().for_each(|output| output.encode(&mut again));
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn a_split_of_nothing_pays_nobody() {
        let split = Coinbaser::without_outputs(7, 255);
        assert_eq!(split.outputs.iter().count(), 0);
        assert_eq!(encoded(&split), answer(&[255]));
    }

    #[test]
    fn outputs_end_at_their_limits() {
        let most = outputs(&vec![(1, vec![0x51; 2]); OUTPUTS_MAX]);
        assert_eq!(
            Outputs::decode(&most).map(|outputs| outputs.iter().count()),
            Ok(OUTPUTS_MAX)
        );
        let more = outputs(&vec![(1, vec![0x51; 2]); OUTPUTS_MAX + 1]);
        assert_eq!(
            Outputs::decode(&more),
            Err(DecodeError::new("coinbaser.outputs", Fault::TooLong))
        );
        for len in [0, 1, 65, 255] {
            let mut bad = vec![0; 8];
            bad.push(len);
            bad.resize(9 + usize::from(len), 0);
            let error = DecodeError::new("coinbaser.output.script", Fault::Unknown);
            assert_eq!(Outputs::decode(&bad), Err(error), "a script of {len}");
        }
    }

    #[test]
    fn a_blob_ends_at_its_limits() {
        // 448 of the longest outputs make a blob of 32,705 bytes; the next makes it too long.
        let longest = (1, vec![0x51; OUTPUT_SCRIPT_MAX]);
        let blob = [vec![1], outputs(&vec![longest.clone(); 448])].concat();
        assert!(FromPool::decode(&answer(&blob)).is_ok());
        let blob = [vec![1], outputs(&vec![longest; 449])].concat();
        assert_eq!(blob.len(), BLOB_MAX + 11);
        assert_eq!(
            pool_error(&answer(&blob)),
            DecodeError::new("coinbaser.length", Fault::TooLong)
        );
        assert_eq!(
            pool_error(&answer(&[])),
            DecodeError::new("coinbaser.id", Fault::Truncated)
        );
        let mut cut = answer(&[1; 20]);
        cut.pop();
        assert_eq!(pool_error(&cut), DecodeError::new("coinbaser.blob", Fault::Truncated));
    }
}
