//! What stands around the content: one zstd frame, and behind it the pool's signature in a frame that zstd skips.
//!
//! The signature is over the compressed bytes. So a reader knows whose file it is before it unpacks a byte, and no bit of
//! the file is free: a frame has some that decompressing alone would not miss.

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::BundleError;
use crate::wire::{PublicKeys, SIGNATURE_LEN, SecretKeys};

/// Stands before the digest in what is signed, so that a signature of a bundle can be taken for no other.
pub(super) const DOMAIN: &[u8] = b"millrace audit bundle signature\n";

/// A skippable frame of zstd, with 64 bytes of content: magic and length, u32 little-endian each.
pub(super) const SEAL_HEAD: [u8; 8] = [0x5d, 0x2a, 0x4d, 0x18, 64, 0, 0, 0];

/// Bytes behind the zstd frame.
pub(super) const SEAL_LEN: usize = SEAL_HEAD.len() + SIGNATURE_LEN;

/// What zstd itself begins a frame with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Between size and speed: most of a bundle are hashes, which no level makes smaller.
const LEVEL: i32 = 3;

/// log2 of the bytes that a reader holds of what it unpacked; the level above writes with 21.
const WINDOW_LOG_MAX: u32 = 23;

const BUFFER: usize = 64 * 1_024;

/// Takes the content of a bundle.
pub(super) struct Sealer<W: Write>(BufWriter<Encoder<'static, Hashed<W>>>);

impl<W: Write> Sealer<W> {
    /// # Errors
    /// The system's.
    pub fn new(out: W) -> io::Result<Self> {
        let out = Hashed {
            out,
            hash: Sha256::new(),
        };
        let mut encoder = Encoder::new(out, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self(BufWriter::with_capacity(BUFFER, encoder)))
    }

    /// Ends the frame and signs it.
    ///
    /// # Errors
    /// The system's.
    pub fn seal(self, keys: &SecretKeys) -> io::Result<W> {
        let encoder = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        let Hashed { mut out, hash } = encoder.finish()?;
        out.write_all(&SEAL_HEAD)?;
        out.write_all(&keys.sign(&message(&hash.finalize().into())))?;
        out.flush()?;
        Ok(out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The content of a bundle that the pool has signed. The file is read twice: first as a whole for its signature.
///
/// # Errors
/// It cannot be read, is no bundle, or is not signed by this key.
pub(super) fn open<R: Read + Seek>(mut file: R, pool: &PublicKeys) -> Result<impl Read + use<R>, BundleError> {
    let len = file.seek(SeekFrom::End(0))?;
    let sealed = len.checked_sub(SEAL_LEN as u64).ok_or(BundleError::NoBundle)?;
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut magic = [0; ZSTD_MAGIC.len()];
    let mut part = [0; BUFFER];
    let mut left = sealed;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
        file.read_exact(&mut part[..most])?;
        if left == sealed {
            let first = part[..most].first_chunk().ok_or(BundleError::NoBundle)?;
            magic = *first;
        }
        hash.update(&part[..most]);
        left -= most as u64;
    }
    let mut seal = [0; SEAL_LEN];
    file.read_exact(&mut seal)?;
    let signature = seal.strip_prefix(&SEAL_HEAD).ok_or(BundleError::NoBundle)?;
    if magic != ZSTD_MAGIC {
        return Err(BundleError::NoBundle);
    }
    if !pool.has_signed(&[&message(&hash.finalize().into())[..], signature].concat()) {
        return Err(BundleError::NotSigned);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut decoder = Decoder::new(file.take(sealed))?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(BufReader::with_capacity(BUFFER, decoder))
}

/// What is signed.
fn message(digest: &[u8; 32]) -> Vec<u8> {
    [DOMAIN, digest].concat()
}

/// Hashes what passes through.
struct Hashed<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
