//! The PROXY header, version 2: what a proxy puts before a connection to say whose it is.
//!
//! After the HAProxy project's "The PROXY protocol", section 2.2. It is no part of DATUM, and comes before its first byte:
//! `signature 12 | version and command u8 | family u8 | length u16 | addresses | extensions`. Integers are big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// No header is this in any other protocol.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version, family and length.
const FIXED_LEN: usize = 16;

/// The longest header that is read, in bytes: addresses take 36 at most, extensions of proxies in use a few hundred.
pub const PROXY_MAX: usize = 1_024;

/// Why the start of a connection is no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProxyError {
    #[error("not the signature of a PROXY header, version 2")]
    Signature,
    #[error("version or command {0:#04x}")]
    Version(u8),
    #[error("family {0:#04x}; TCP over IPv4 or IPv6 alone is taken")]
    Family(u8),
    #[error("a header of {0} bytes; at most {PROXY_MAX} are read")]
    TooLong(usize),
    #[error("addresses that the length cuts short")]
    Short,
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySource {
    /// The proxy's own: it looks whether the pool is well.
    Local,
    /// Whom it was taken from.
    Peer(SocketAddr),
}

/// What the front of the bytes read so far is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyLead {
    /// So many bytes are needed from the start of the buffer.
    Need(usize),
    /// A whole header of so many bytes.
    Whole(ProxySource, usize),
}

/// Reads the header at the front of `buf`.
///
/// # Errors
/// It is none that is taken here.
pub fn proxy_header(buf: &[u8]) -> Result<ProxyLead, ProxyError> {
    // What differs shows with its first byte.
    let signature = &buf[..buf.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(signature) {
        return Err(ProxyError::Signature);
    }
    let Some(fixed) = buf.first_chunk::<FIXED_LEN>() else {
        return Ok(ProxyLead::Need(FIXED_LEN));
    };
    let [.., command, family, high, low] = *fixed;
    let len = FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > PROXY_MAX {
        return Err(ProxyError::TooLong(len));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyError::Version(other)),
    };
    let Some(rest) = buf.get(FIXED_LEN..len) else {
        return Ok(ProxyLead::Need(len));
    };
    // What stands in a header of its own connection is to be passed over.
    let source = if is_local {
        ProxySource::Local
    } else {
        ProxySource::Peer(peer(family, rest)?)
    };
    Ok(ProxyLead::Whole(source, len))
}

/// `source address | destination address | source port u16 | destination port u16`.
fn peer(family: u8, rest: &[u8]) -> Result<SocketAddr, ProxyError> {
    let (address, port): (IpAddr, _) = match family {
        0x11 => {
            let bytes: &[u8; 12] = rest.first_chunk().ok_or(ProxyError::Short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *bytes;
            (Ipv4Addr::new(a, b, c, d).into(), [high, low])
        }
        0x21 => {
            let bytes: &[u8; 36] = rest.first_chunk().ok_or(ProxyError::Short)?;
            let source: [u8; 16] = *bytes.first_chunk().ok_or(ProxyError::Short)?;
            (Ipv6Addr::from(source).into(), [bytes[32], bytes[33]])
        }
        other => return Err(ProxyError::Family(other)),
    };
    Ok(SocketAddr::new(address.to_canonical(), u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    fn v4_rest() -> Vec<u8> {
        vec![198, 51, 100, 7, 192, 0, 2, 1, 0x1f, 0x90, 0x70, 0xf3]
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let whole = header(0x21, 0x11, &v4_rest());
        let peer = ProxySource::Peer("198.51.100.7:8080".parse().expect("an address"));
        assert_eq!(proxy_header(&whole), Ok(ProxyLead::Whole(peer, 28)));
        let mut rest = "2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets().to_vec();
        rest.extend([0; 16]);
        rest.extend([0x1f, 0x90, 0, 1]);
        // An extension behind it.
        rest.extend([4, 0, 1, 0]);
        let peer = ProxySource::Peer("[2001:db8::7]:8080".parse().expect("an address"));
        let whole = header(0x21, 0x21, &rest);
        assert_eq!(proxy_header(&whole), Ok(ProxyLead::Whole(peer, whole.len())));
        assert_eq!(
            proxy_header(&header(0x20, 0, &[])),
            Ok(ProxyLead::Whole(ProxySource::Local, 16))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(proxy_header(b"PROXY TCP4 "), Err(ProxyError::Signature));
        assert_eq!(
            proxy_header(&header(0x11, 0x11, &v4_rest())),
            Err(ProxyError::Version(0x11))
        );
        assert_eq!(
            proxy_header(&header(0x21, 0x12, &v4_rest())),
            Err(ProxyError::Family(0x12))
        );
        assert_eq!(
            proxy_header(&header(0x21, 0x11, &v4_rest()[..11])),
            Err(ProxyError::Short)
        );
        assert_eq!(
            proxy_header(&header(0x21, 0x11, &[0; PROXY_MAX])),
            Err(ProxyError::TooLong(PROXY_MAX + 16))
        );
    }

    proptest! {
        /// A header in pieces is the same one, and takes no byte behind it.
        #[test]
        fn pieces_make_the_whole(rest in prop::collection::vec(any::<u8>(), 12..200), behind in prop::collection::vec(any::<u8>(), 0..50)) {
            let whole = header(0x21, 0x11, &rest);
            let read = proxy_header(&whole);
            prop_assert!(matches!(read, Ok(ProxyLead::Whole(_, len)) if len == whole.len()));
            for len in 0..whole.len() {
                let need = proxy_header(&whole[..len]);
                prop_assert!(matches!(need, Ok(ProxyLead::Need(need)) if len < need && need <= whole.len()));
            }
            prop_assert_eq!(proxy_header(&[whole, behind].concat()), read);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let _ = proxy_header(&bytes);
        }
    }
}
