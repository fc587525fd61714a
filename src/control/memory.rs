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
    let mut told = Told::default();
    let mut is_read = true;
    loop {
        ticks.tick().await;
        let Some(resident) = resident_bytes() else {
            // Without a descriptor left for it, perhaps; the next look may find one.
            if is_read {
                tracing::warn!("/proc/self/statm cannot be read: memory is not held to its limit");
            }
            is_read = false;
            continue;
        };
        is_read = true;
        let pressure = Pressure::of(resident, limit);
        memory.resident_bytes.set(resident);
        memory.pressure.set(pressure as u64);
        if pressure != told.last {
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
        told.tell(&pool, pressure);
    }
}

/// What the shards were told last.
#[derive(Default)]
struct Told {
    last: Pressure,
    /// Shards that had no room for it, by index.
    left_out: Vec<usize>,
}

impl Told {
    /// Tells all shards what has changed, and each second anew while sessions close for it; else those that have not heard it yet:
    /// one that missed that the pressure is over would turn everybody away for good.
    fn tell(&mut self, pool: &Pool, pressure: Pressure) {
        let command = ShardCommand::Pressure(pressure);
        let is_for_all = pressure != self.last || pressure >= Pressure::CloseIdle;
        self.last = pressure;
        self.left_out = match is_for_all {
            true => pool.order(&command),
            false => pool.order_these(&command, std::mem::take(&mut self.left_out)),
        };
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
    use std::sync::atomic::Ordering;

    use super::super::tests::StandIn;
    use super::*;

    #[test]
    fn a_shard_that_had_no_room_hears_of_it_as_soon_as_it_has() {
        use Pressure::{CloseIdle, None, RefuseNew};
        let shards = StandIn::new(2);
        let pool = shards.pool();
        let heard = || {
            shards.heard(|command| match command {
                ShardCommand::Pressure(pressure) => Some(*pressure),
                _ => Option::None,
            })
        };
        let mut told = Told::default();
        told.tell(&pool, None);
        assert_eq!(heard(), [vec![], vec![]], "that is what they know");
        told.tell(&pool, RefuseNew);
        told.tell(&pool, RefuseNew);
        assert_eq!(heard(), [vec![RefuseNew], vec![RefuseNew]], "once");
        told.tell(&pool, CloseIdle);
        told.tell(&pool, CloseIdle);
        assert_eq!(heard(), [vec![CloseIdle; 2], vec![CloseIdle; 2]], "each time");
        shards.full[1].store(true, Ordering::Relaxed);
        told.tell(&pool, None);
        told.tell(&pool, None);
        assert_eq!(heard(), [vec![None], vec![]]);
        shards.full[1].store(false, Ordering::Relaxed);
        told.tell(&pool, None);
        told.tell(&pool, None);
        assert_eq!(heard(), [vec![], vec![None]], "and once");
    }

    #[test]
    fn a_process_holds_memory() {
        let resident = resident_bytes().expect("Linux has it");
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }
}
