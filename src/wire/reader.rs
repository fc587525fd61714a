//! Takes fields off the front of a message, never past its end.

use super::error::{DecodeError, Fault};

#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::new(field, Fault::Truncated))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::new(field, Fault::Truncated))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(*self.array(field)?))
    }

    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(*self.array(field)?))
    }

    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(*self.array(field)?))
    }

    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(*self.array(field)?))
    }

    /// Up to the next NUL, which is taken too and is not part of what comes back; at most `max` bytes before it.
    pub fn until_nul(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let window = &self.rest[..self.rest.len().min(max + 1)];
        let Some(len) = window.iter().position(|byte| *byte == 0) else {
            let fault = if self.rest.len() > max {
                Fault::TooLong
            } else {
                Fault::Unterminated
            };
            return Err(DecodeError::new(field, fault));
        };
        let text = &self.rest[..len];
        self.rest = &self.rest[len + 1..];
        Ok(text)
    }

    /// One byte that must be `expected`.
    pub fn literal(&mut self, expected: u8, field: &'static str) -> Result<(), DecodeError> {
        if self.u8(field)? == expected {
            Ok(())
        } else {
            Err(DecodeError::new(field, Fault::Unknown))
        }
    }

    /// `FE`, then padding to the end.
    pub fn padding(mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        self.literal(0xfe, field)?;
        Ok(self.rest)
    }

    pub fn end(self, field: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::new(field, Fault::Trailing))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_nul_within_its_bound() {
        let until = |bytes: &'static [u8], max| {
            let mut reader = Reader::new(bytes);
            reader.until_nul(max, "text").map(|text| (text, reader.rest()))
        };
        let fault = |fault| Err(DecodeError::new("text", fault));
        assert_eq!(until(b"abc\0d", 3), Ok((&b"abc"[..], &b"d"[..])));
        assert_eq!(until(b"\0", 0), Ok((&b""[..], &b""[..])));
        assert_eq!(until(b"abc\0", 2), fault(Fault::TooLong));
        assert_eq!(until(b"abc", 2), fault(Fault::TooLong));
        assert_eq!(until(b"abc", 3), fault(Fault::Unterminated));
        assert_eq!(until(b"", 3), fault(Fault::Unterminated));
    }

    #[test]
    fn a_field_that_is_cut_off_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        let truncated = |field| DecodeError::new(field, Fault::Truncated);
        assert_eq!(reader.u32("word"), Err(truncated("word")));
        assert_eq!(reader.bytes(4, "bytes"), Err(truncated("bytes")));
        assert_eq!(reader.u16("half"), Ok(0x0201));
        assert_eq!(reader.clone().end("end"), Err(DecodeError::new("end", Fault::Trailing)));
        assert_eq!(reader.u8("byte"), Ok(3));
        assert_eq!(reader.peek(), None);
        assert_eq!(reader.end("end"), Ok(()));
    }
}
