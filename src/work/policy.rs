//! Who may mine here. Pure. By default everybody, as DATUM means it.
//!
//! A gateway's long-term key is made anew at each of its starts, so it is no identity: gateways are told apart by where they
//! connect from and by the program that they say they are, payees by their output scripts.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use super::address::PayeeAddress;

/// Rules of a pool, those of its configuration and those given while it runs together.
pub const RULES_MAX: usize = 4_096;

/// Bits of a v6 address before the v4 address that it carries.
const MAPPED_BITS: u8 = 96;

/// Bytes of a rule's value: more than any address or agent has.
const VALUE_MAX: usize = 384;

const DENY_AGENT: &str = "deny-agent";
const LEAST_VERSION: &str = "least-version";
const DENY_ADDRESS: &str = "deny-address";
const DENY_PAYEE: &str = "deny-payee";
const ALLOW_PAYEE: &str = "allow-payee";

/// One rule. As text it is its kind, a blank, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Gateways whose user agent begins so.
    DenyAgent(Box<str>),
    /// Gateways of an older version, or of none that can be read.
    LeastVersion(AgentVersion),
    /// Gateways that connect from these addresses.
    DenyAddress(IpNet),
    DenyPayee(PayeeAddress),
    /// With one such rule or more nobody else is paid: a private pool.
    AllowPayee(PayeeAddress),
}

/// A gateway's version as its user agent begins with it: `v0.4.1-beta/…`. One that calls itself `v0.3.2-beta` may be 0.4.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentVersion([u32; 3]);

/// What was written is no rule; as text it says what one is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    #[error(
        "`{0}` is no rule: it is `{DENY_AGENT} PREFIX`, `{LEAST_VERSION} X.Y.Z`, `{DENY_ADDRESS} ADDRESS/BITS`, \
         `{DENY_PAYEE} ADDRESS` or `{ALLOW_PAYEE} ADDRESS`"
    )]
    Kind(Box<str>),
    #[error("`{0}` is no address or range of addresses, such as `203.0.113.0/24` or `2001:db8::/32`")]
    Range(Box<str>),
    #[error("`{0}` is no version, such as `0.4.1`")]
    Version(Box<str>),
    #[error("`{0}` is no address that can be paid")]
    Payee(Box<str>),
    #[error("a prefix is printable text of 1 to {VALUE_MAX} bytes; an empty one would deny every gateway")]
    Prefix,
    #[error("more than {RULES_MAX} rules")]
    TooMany,
}

/// Why a gateway may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Address,
    Agent,
    Version,
}

/// All rules, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    agents: Vec<Box<str>>,
    least_version: Option<AgentVersion>,
    ranges: Vec<IpNet>,
    denied_payees: HashSet<Box<[u8]>>,
    /// Empty where everybody else may be paid.
    allowed_payees: HashSet<Box<[u8]>>,
}

impl Policy {
    /// # Errors
    /// [`RuleError::TooMany`]
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Result<Self, RuleError> {
        let mut policy = Self::default();
        for (at, rule) in rules.into_iter().enumerate() {
            if at >= RULES_MAX {
                return Err(RuleError::TooMany);
            }
            match rule {
                Rule::DenyAgent(prefix) => policy.agents.push(prefix.clone()),
                Rule::LeastVersion(version) => policy.least_version = policy.least_version.max(Some(*version)),
                Rule::DenyAddress(range) => policy.ranges.push(*range),
                Rule::DenyPayee(payee) => drop(policy.denied_payees.insert(payee.script().into())),
                Rule::AllowPayee(payee) => drop(policy.allowed_payees.insert(payee.script().into())),
            }
        }
        Ok(policy)
    }

    /// Asked at accept, before anything is read. A v4 address that is written as one of v6 counts as v4.
    ///
    /// # Errors
    /// [`Denied::Address`]
    pub fn admit_address(&self, address: IpAddr) -> Result<(), Denied> {
        let address = address.to_canonical();
        match self.ranges.iter().any(|range| range.contains(&address)) {
            true => Err(Denied::Address),
            false => Ok(()),
        }
    }

    /// # Errors
    /// [`Denied::Agent`] or [`Denied::Version`]
    pub fn admit_agent(&self, agent: &str) -> Result<(), Denied> {
        if self.agents.iter().any(|prefix| agent.starts_with(&**prefix)) {
            return Err(Denied::Agent);
        }
        match self.least_version {
            Some(least) if AgentVersion::of_agent(agent).is_none_or(|version| version < least) => Err(Denied::Version),
            _ => Ok(()),
        }
    }

    /// Whether only payees on a list may be worked for.
    #[must_use]
    pub fn is_private(&self) -> bool {
        !self.allowed_payees.is_empty()
    }

    /// Whether work for this payee, by output script, is taken.
    #[must_use]
    pub fn admits_payee(&self, script: &[u8]) -> bool {
        !self.denied_payees.contains(script) && (!self.is_private() || self.allowed_payees.contains(script))
    }
}

impl AgentVersion {
    /// None where the agent does not begin with one.
    fn of_agent(agent: &str) -> Option<Self> {
        let version = agent.strip_prefix('v')?;
        let end = version.find(['-', '/']).unwrap_or(version.len());
        version[..end].parse().ok()
    }
}

impl FromStr for AgentVersion {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = || RuleError::Version(text.into());
        let mut parts = text.split('.');
        let mut next = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong);
        let version = Self([next()?, next()?, next()?]);
        match parts.next() {
            None => Ok(version),
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (kind, value) = text.split_once(' ').ok_or_else(|| RuleError::Kind(text.into()))?;
        let payee = || value.parse().map_err(|_| RuleError::Payee(value.into()));
        match kind {
            DENY_AGENT => {
                let is_text = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                if value.trim() != value || value.is_empty() || value.len() > VALUE_MAX || !is_text {
                    return Err(RuleError::Prefix);
                }
                Ok(Self::DenyAgent(value.into()))
            }
            LEAST_VERSION => Ok(Self::LeastVersion(value.strip_prefix('v').unwrap_or(value).parse()?)),
            DENY_ADDRESS => address_range(value).map(Self::DenyAddress),
            DENY_PAYEE => Ok(Self::DenyPayee(payee()?)),
            ALLOW_PAYEE => Ok(Self::AllowPayee(payee()?)),
            _ => Err(RuleError::Kind(text.into())),
        }
    }
}

/// A range of addresses as people write it; one address is a range of itself. v4 addresses that are written as v6 count as v4,
/// as those of peers do.
///
/// # Errors
/// [`RuleError::Range`]
pub fn address_range(text: &str) -> Result<IpNet, RuleError> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let range = text.parse::<IpNet>().or_else(|_| one());
    let range = range.map_err(|_| RuleError::Range(text.into()))?.trunc();
    let mapped = match range.addr().to_canonical() {
        IpAddr::V4(address) if range.addr().is_ipv6() => range
            .prefix_len()
            .checked_sub(MAPPED_BITS)
            .and_then(|bits| IpNet::new(address.into(), bits).ok()),
        _ => None,
    };
    Ok(mapped.unwrap_or(range))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DenyAgent(prefix) => write!(f, "{DENY_AGENT} {prefix}"),
            Self::LeastVersion(version) => write!(f, "{LEAST_VERSION} {version}"),
            Self::DenyAddress(range) => write!(f, "{DENY_ADDRESS} {range}"),
            Self::DenyPayee(payee) => write!(f, "{DENY_PAYEE} {payee}"),
            Self::AllowPayee(payee) => write!(f, "{ALLOW_PAYEE} {payee}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAYEE: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    const OTHER: &str = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";

    fn policy(rules: &[&str]) -> Policy {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().expect(rule)).collect();
        Policy::new(&rules).expect("few rules")
    }

    fn script(address: &str) -> Box<[u8]> {
        address.parse::<PayeeAddress>().expect("an address").into_script()
    }

    #[test]
    fn without_rules_everybody_may() {
        let open = policy(&[]);
        assert_eq!(open.admit_address([203, 0, 113, 7].into()), Ok(()));
        assert_eq!(open.admit_agent(""), Ok(()));
        assert!(open.admits_payee(&script(PAYEE)));
    }

    #[test]
    fn agents_are_denied_by_prefix_and_by_version() {
        let rules = policy(&[
            "deny-agent v0.4.1-beta/bad",
            "least-version 0.3.2",
            "least-version v0.2.0",
        ]);
        for (agent, expected) in [
            ("v0.4.1-beta/bad0", Err(Denied::Agent)),
            ("v0.4.1-beta/good", Ok(())),
            ("v0.3.2-beta", Ok(())),
            ("v0.3.1", Err(Denied::Version)),
            ("v0.10.0/x", Ok(())),
            ("v1.0.0", Ok(())),
            ("v0.4", Err(Denied::Version)),
            ("0.4.1", Err(Denied::Version)),
            ("", Err(Denied::Version)),
            ("v0.4.1.7", Err(Denied::Version)),
            ("v99999999999.0.0", Err(Denied::Version)),
        ] {
            assert_eq!(rules.admit_agent(agent), expected, "{agent}");
        }
    }

    #[test]
    fn addresses_are_denied_by_range_however_they_are_written() {
        let rules = policy(&[
            "deny-address 203.0.113.9/24",
            "deny-address 2001:db8::/32",
            "deny-address 192.0.2.1",
            "deny-address ::ffff:198.51.100.0/120",
        ]);
        for (address, denied) in [
            ("203.0.113.0", true),
            ("203.0.114.0", false),
            ("::ffff:203.0.113.255", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("198.51.100.7", true),
            ("198.51.101.7", false),
        ] {
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(rules.admit_address(address).is_err(), denied, "{address}");
        }
    }

    #[test]
    fn payees_are_denied_or_a_pool_is_private() {
        let denies = policy(&[&format!("deny-payee {PAYEE}")]);
        assert!(!denies.admits_payee(&script(PAYEE)) && denies.admits_payee(&script(OTHER)));
        let private = policy(&[&format!("allow-payee {PAYEE}")]);
        assert!(private.admits_payee(&script(PAYEE)) && !private.admits_payee(&script(OTHER)));
        // The payee is the script: another form of the address is the same one.
        let upper = policy(&[&format!("deny-payee {}", PAYEE.to_uppercase())]);
        assert!(!upper.admits_payee(&script(PAYEE)));
    }

    #[test]
    fn what_is_no_rule_says_what_one_is() {
        for (text, said) in [
            ("", "it is `deny-agent PREFIX`"),
            ("deny-agent", "it is `deny-agent PREFIX`"),
            ("deny x", "it is `deny-agent PREFIX`"),
            ("deny-agent ", "would deny every gateway"),
            ("deny-agent a\nb", "printable"),
            ("least-version 1.2", "no version"),
            ("deny-address 203.0.113.0/33", "no address or range"),
            ("deny-address example.org", "no address or range"),
            ("deny-payee nobody", "can be paid"),
        ] {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let rule: Rule = "least-version 0.1.0".parse().expect("a rule");
        assert!(Policy::new(std::iter::repeat_n(&rule, RULES_MAX)).is_ok());
        assert_eq!(
            Policy::new(std::iter::repeat_n(&rule, RULES_MAX + 1)),
            Err(RuleError::TooMany)
        );
    }

    proptest! {
        #[test]
        fn a_range_denies_what_shares_its_first_bits(network: u32, address: u32, bits in 0..=32_u8) {
            let text = format!("deny-address {}/{bits}", std::net::Ipv4Addr::from(network));
            let rules = policy(&[&text]);
            let same = bits == 0 || (network ^ address) >> (32 - u32::from(bits)) == 0;
            let denied = rules.admit_address(std::net::Ipv4Addr::from(address).into()).is_err();
            prop_assert_eq!(denied, same);
        }

        #[test]
        fn a_rule_is_written_as_it_is_read(major: u32, minor: u32, patch: u32, prefix in "[!-~]{1,40}") {
            for text in [format!("least-version {major}.{minor}.{patch}"), format!("deny-agent {prefix}")] {
                let rule: Rule = text.parse().expect("a rule");
                prop_assert_eq!(rule.to_string(), text);
            }
        }

        #[test]
        fn no_text_breaks_the_parser(text: String, agent: String) {
            let _ = text.parse::<Rule>();
            let _ = policy(&["least-version 0.4.0"]).admit_agent(&agent);
        }
    }
}
