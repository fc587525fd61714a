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
    /// Bytes a second that sessions of one address are answered with.
    Answers,
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
    /// HELLO does not open: it is sealed to another key than the pool has.
    StrangeHello,
    /// HELLO is none, or is not signed.
    BadHello,
    /// HELLO was not complete in time.
    SlowHello,
    /// A HELLO that was sent again, or a session of which no frame under its own key came, though it lasted.
    Unproven,
    /// A session whose connection broke, was closed or fell silent before a frame under its own key; or, of a gateway that has mined,
    /// in the midst of a frame.
    Broken,
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
pub const FAULT_POINTS: u32 = 1_000;

/// What it weighs to come too often, or with too many at once. A thousand gateways behind one address do when all come back: those
/// that are turned away try again 5 s later, which is 200 a second, and as many points come back in that time. Whoever does so as
/// fast as it can is banned within seconds.
const CROWD_POINTS: u32 = 1;

/// What a session weighs whose connection broke before its first frame or in the midst of one. Links do break then: behind one address
/// there may be dozens of gateways, whose sessions all begin again when their uplink is back, and break together when it goes once
/// more. Whoever makes keys and leaves at once for the sake of it is held by the rates of connections and handshakes, and by the sum
/// of these.
const BROKEN_POINTS: u32 = FAULT_POINTS / 25;

/// What a HELLO weighs that is sealed to another key. Where an operator has retired one, gateways that were not told the new one try
/// on, each every 12 s or so: two dozen of them behind one address get none of their neighbours banned.
const STRANGE_HELLO_POINTS: u32 = FAULT_POINTS / 10;

impl Rule {
    pub const ALL: [Self; 24] = [
        Self::Banned,
        Self::Connections,
        Self::Handshakes,
        Self::Sessions,
        Self::EarlyBytes,
        Self::EarlyFrames,
        Self::Bytes,
        Self::Frames,
        Self::Answers,
        Self::AllConnections,
        Self::AllEarly,
        Self::AllTraffic,
        Self::Addresses,
        Self::Memory,
        Self::ProxyHeader,
        Self::Garbage,
        Self::StrangeHello,
        Self::BadHello,
        Self::SlowHello,
        Self::Unproven,
        Self::Broken,
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
            Self::Answers => "answers",
            Self::AllConnections => "all_connections",
            Self::AllEarly => "all_early",
            Self::AllTraffic => "all_traffic",
            Self::Addresses => "addresses",
            Self::Memory => "memory",
            Self::ProxyHeader => "proxy_header",
            Self::Garbage => "garbage",
            Self::StrangeHello => "strange_hello",
            Self::BadHello => "bad_hello",
            Self::SlowHello => "slow_hello",
            Self::Unproven => "unproven",
            Self::Broken => "broken",
            Self::BadFrame => "bad_frame",
            Self::ShareRate => "share_rate",
            Self::RefusedShares => "refused_shares",
        }
    }

    /// Points that an address loses with it; without any left it is banned.
    ///
    /// A gateway that does something wrong tries again every 5 s at the soonest: with 12 faults a minute to spare one
    /// that is set up badly gets nobody behind its address banned.
    #[must_use]
    pub fn points(self) -> u32 {
        match self {
            Self::Connections | Self::Handshakes | Self::Sessions => CROWD_POINTS,
            Self::Garbage | Self::BadHello | Self::SlowHello | Self::BadFrame | Self::Unproven => FAULT_POINTS,
            Self::StrangeHello => STRANGE_HELLO_POINTS,
            Self::Broken => BROKEN_POINTS,
            Self::ShareRate | Self::RefusedShares => 5 * FAULT_POINTS,
            // Slowed down, the whole pool's own trouble, or said already.
            Self::Banned
            | Self::EarlyBytes
            | Self::EarlyFrames
            | Self::Bytes
            | Self::Frames
            | Self::Answers
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
