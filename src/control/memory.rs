//! Holds the process to the memory it may take: looks once a second, and tells the shards how near it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::pool::Pool;
use crate::guard::Pressure;
use crate::shard::ShardCommand;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for as long as the runtime lives. `limit`: in bytes; 0 for none, then it only measures.
pub(super) async fn watch(pool: Arc<Pool>, limit: u64) {
    let memory = pool.telemetry.memory.clone();
    memory.limit_bytes.set(limit);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Pressure::None;
    loop {
        ticks.tick().await;
        let Some(resident) = resident_bytes() else {
            tracing::warn!("/proc/self/statm cannot be read: memory is not held to its limit");
            return;
        };
        let pressure = Pressure::of(resident, limit);
        memory.resident_bytes.set(resident);
        memory.pressure.set(pressure as u64);
        if pressure != last {
            let (resident_mib, limit_mib) = (resident >> 20, limit >> 20);
            if pressure == Pressure::None {
                tracing::info!(resident_mib, limit_mib, "memory is below its limit again");
            } else {
                tracing::warn!(
                    resident_mib,
                    limit_mib,
                    does = pressure.label(),
                    "memory is near its limit"
                );
            }
        }
        // Each second anew while sessions close for it. A full inbox hears of it the next time.
        if pressure != last || pressure >= Pressure::CloseIdle {
            pool.order(&ShardCommand::Pressure(pressure));
        }
        last = pressure;
    }
}

/// What the system counts for this process, its libraries' pages included.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_holds_memory() {
        let resident = resident_bytes().expect("Linux has it");
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }
}
