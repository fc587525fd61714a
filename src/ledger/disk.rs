//! Room on the disk that the ledger lies on.

use std::io;
use std::path::Path;

/// Bytes that a process without privileges may still write below `path`.
///
/// # Errors
/// The system's own.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_a_missing_one_is_an_error() {
        assert!(free_bytes(Path::new("/")).is_ok());
        let missing = free_bytes(Path::new("/no such folder")).expect_err("nothing there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
