//! A gateway's place in a driver.

use crate::connection::Connection;
use crate::gateway::Gateway;

/// A gateway and its connection.
pub struct Seat {
    pub gateway: Gateway,
    pub connection: Option<Connection>,
    /// Not to connect before; `u64::MAX` for not at all.
    pub connect_ns: u64,
    pub began_ns: u64,
    /// When the last session was lost.
    pub lost_ns: Option<u64>,
    /// Since a restart ended its session, until it mines again.
    pub away: Option<Away>,
    /// Shares that were due, and those of them that were sent or given up.
    pub due: u64,
    pub issued: u64,
    pub drop_ns: u64,
    pub visit: Visit,
}

/// The pool was restarted under a session, and the gateway does not mine again yet.
#[derive(Debug, Clone, Copy)]
pub struct Away {
    pub since_ns: u64,
    /// The restart that ended it.
    pub restart: usize,
}

/// How far a connection of a storm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    Begun,
    Sent,
}

impl Seat {
    pub fn new(gateway: Gateway) -> Self {
        Self {
            gateway,
            connection: None,
            connect_ns: 0,
            began_ns: 0,
            lost_ns: None,
            away: None,
            due: 0,
            issued: 0,
            drop_ns: u64::MAX,
            visit: Visit::Begun,
        }
    }
}
