//! An input that is a sequence of steps, so that a fuzzer can cut, repeat and mix them.

/// Steps, each `kind u8 | len u16 | bytes`; a length past the end takes what is left.
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Appends a step.
    ///
    /// # Panics
    /// It has more bytes than its length can say.
    pub fn push(kind: u8, bytes: &[u8], data: &mut Vec<u8>) {
        data.push(kind);
        data.extend_from_slice(
            &u16::try_from(bytes.len())
                .expect("a step of at most 65,535 bytes")
                .to_le_bytes(),
        );
        data.extend_from_slice(bytes);
    }
}

impl<'a> Iterator for Script<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([kind, low, high], rest) = self.rest.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        self.rest = rest;
        Some((*kind, bytes))
    }
}
