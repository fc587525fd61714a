//! Whom a guard counts: an IPv4 address, or the 64 bits of an IPv6 address that name a network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One that is counted by itself. Whoever has an IPv6 network has all of its 2^64 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The address, /32.
    V4(u32),
    /// The first 64 bits, /64.
    V6(u64),
}

impl From<IpAddr> for Subject {
    /// An IPv4 address that is written as IPv6 (`::ffff:a.b.c.d`) is the IPv4 address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Subject {
    /// Its address, or the first one of its network.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(bits) => Ipv4Addr::from_bits(bits).into(),
            Self::V6(bits) => Ipv6Addr::from_bits(u128::from(bits) << 64).into(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(_) => write!(f, "{}", self.address()),
            Self::V6(_) => write!(f, "{}/64", self.address()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn ipv4_counts_by_address_and_ipv6_by_network() {
        assert_ne!(subject("127.0.0.1"), subject("127.0.0.2"));
        assert_eq!(subject("127.0.0.1"), subject("::ffff:127.0.0.1"));
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
        assert_eq!(subject("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(subject("::ffff:10.0.0.1").to_string(), "10.0.0.1");
        assert_eq!(
            Subject::from(subject("2001:db8:1:2::1").address()),
            subject("2001:db8:1:2::1")
        );
    }
}
