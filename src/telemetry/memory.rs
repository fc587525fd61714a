//! What the control plane measures of the process's memory.

use super::counter::Gauge;

/// Only the control plane writes it.
#[derive(Debug, Default)]
pub struct MemoryTelemetry {
    /// Resident, as the system counts it.
    pub resident_bytes: Gauge,
    /// What it may be; 0 for no limit.
    pub limit_bytes: Gauge,
    /// [`crate::guard::Pressure`] as a number, 0 to 3.
    pub pressure: Gauge,
}
