//! Takes fields off the front of a row, never past its end.

use super::error::Damage;

pub(super) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `what`: the kind of row, for the message where it is damaged.
    pub fn new(what: &'static str, row: &'a [u8]) -> Self {
        Self { what, rest: row }
    }

    /// The first byte of every value is the version of its layout.
    pub fn version(&mut self, known: u8) -> Result<(), Damage> {
        match self.u8()? {
            version if version == known => Ok(()),
            version => Err(Damage::Version {
                what: self.what,
                version,
            }),
        }
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Damage::Short { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Damage::Short { what: self.what })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Damage> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Damage> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Damage> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Damage> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Result<u128, Damage> {
        self.array().map(u128::from_le_bytes)
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A field that cannot have this value.
    pub fn bad(&self, field: &'static str) -> Damage {
        Damage::Value { what: self.what, field }
    }

    pub fn end(self) -> Result<(), Damage> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Damage::Long { what: self.what })
        }
    }
}
