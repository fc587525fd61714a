//! The rules of the guards by name, and how much it weighs to break one.

use crate::wire::Reason;

/// What a connection or a session came up against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The address is banned.
    Banned,
    /// Connections a second of one address.
    Connections,
    /// Handshakes of one address at a time.
    Handshakes,
    /// Sessions of one address.
    Sessions,
    /// Bytes a second before HELLO, of one address.
    EarlyBytes,
    /// Frames a second before HELLO, of one address.
    EarlyFrames,
    /// Bytes a second after HELLO, of one address.
    Bytes,
    /// Frames a second after HELLO, of one address.
    Frames,
    /// Connections a second of all addresses.
    AllConnections,
    /// Bytes or frames a second before HELLO, of all addresses.
    AllEarly,
    /// Bytes or frames a second after HELLO, of all addresses.
    AllTraffic,
    /// The table of addresses has no room: all in it are connected.
    Addresses,
    /// Memory of the process.
    Memory,
    /// No PROXY header from where one must come.
    ProxyHeader,
    /// What came first is no frame of a gateway.
    Garbage,
    /// HELLO does not open, is none, or is not signed.
    BadHello,
    /// HELLO was not complete in time.
    SlowHello,
    /// A HELLO that was sent again, or a session of which no frame under its own key came, though it lasted.
    Unproven,
    /// A session whose connection broke, was closed or fell silent before a frame under its own key.
    BrokenEarly,
    /// Bytes in a session that no gateway sends.
    BadFrame,
    /// More shares than the session's difficulty implies.
    ShareRate,
    /// Shares that were refused.
    // Stays last: the assertion below counts by it.
    RefusedShares,
}

const _: () = assert!(
    Rule::RefusedShares as usize + 1 == Rule::ALL.len(),
    "a rule is missing in ALL"
);

/// What a fault weighs that only a broken gateway or an attacker makes.
pub const FAULT_POINTS: u32 = 50;

/// What a session weighs whose connection broke before its first frame. Links do break then: behind one address there may be dozens
/// of gateways, whose sessions all begin again when their uplink is back, and break together when it goes once more. Whoever makes
/// keys and leaves at once for the sake of it is held by the rates of connections and handshakes, and by the sum of these.
const BROKEN_EARLY_POINTS: u32 = 2;

impl Rule {
    pub const ALL: [Self; 22] = [
        Self::Banned,
        Self::Connections,
        Self::Handshakes,
        Self::Sessions,
        Self::EarlyBytes,
        Self::EarlyFrames,
        Self::Bytes,
        Self::Frames,
        Self::AllConnections,
        Self::AllEarly,
        Self::AllTraffic,
        Self::Addresses,
        Self::Memory,
        Self::ProxyHeader,
        Self::Garbage,
        Self::BadHello,
        Self::SlowHello,
        Self::Unproven,
        Self::BrokenEarly,
        Self::BadFrame,
        Self::ShareRate,
        Self::RefusedShares,
    ];

    /// For metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::Sessions => "sessions",
            Self::EarlyBytes => "early_bytes",
            Self::EarlyFrames => "early_frames",
            Self::Bytes => "bytes",
            Self::Frames => "frames",
            Self::AllConnections => "all_connections",
            Self::AllEarly => "all_early",
            Self::AllTraffic => "all_traffic",
            Self::Addresses => "addresses",
            Self::Memory => "memory",
            Self::ProxyHeader => "proxy_header",
            Self::Garbage => "garbage",
            Self::BadHello => "bad_hello",
            Self::SlowHello => "slow_hello",
            Self::Unproven => "unproven",
            Self::BrokenEarly => "broken_early",
            Self::BadFrame => "bad_frame",
            Self::ShareRate => "share_rate",
            Self::RefusedShares => "refused_shares",
        }
    }

    /// Points that an address loses with it; without any left it is banned.
    ///
    /// A gateway that does something wrong tries again every 5 s at the soonest: with 12 faults a minute to spare one
    /// that is set up badly gets nobody behind its address banned. What honest gateways do when many come back at once
    /// weighs a point.
    #[must_use]
    pub fn points(self) -> u32 {
        match self {
            Self::Connections | Self::Handshakes | Self::Sessions => 1,
            Self::Garbage | Self::BadHello | Self::SlowHello | Self::BadFrame | Self::Unproven => FAULT_POINTS,
            Self::BrokenEarly => BROKEN_EARLY_POINTS,
            Self::ShareRate | Self::RefusedShares => 5 * FAULT_POINTS,
            // Slowed down, the whole pool's own trouble, or said already.
            Self::Banned
            | Self::EarlyBytes
            | Self::EarlyFrames
            | Self::Bytes
            | Self::Frames
            | Self::AllConnections
            | Self::AllEarly
            | Self::AllTraffic
            | Self::Addresses
            | Self::Memory
            | Self::ProxyHeader => 0,
        }
    }
}

/// How much a refused share weighs in its session's window, in tenths of a share.
///
/// Slots that are used again (20), miners that are slow (25) and hardware that errs (21) are an honest gateway's every day.
#[must_use]
pub fn refusal_weight(reason: Reason) -> u32 {
    match reason {
        Reason::HNotZero | Reason::HighHash | Reason::StaleBlock => 1,
        _ => 10,
    }
}
