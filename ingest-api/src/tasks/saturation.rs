//! The signal by which replicas of this service are added: how near it is to the first of its limits.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use shared::server::Slots;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How often it is measured.
const INTERVAL: Duration = Duration::from_secs(1);

/// Over how many measurements the use of the processor is smoothed: a second of it says little.
const SMOOTHED_OVER: f64 = 5.0;

/// Measures until the stop.
///
/// # Errors
/// Never; it returns a result because it runs as a long-lived task.
pub(crate) async fn follow(app: Arc<App>, connections: Slots, stop: CancellationToken) -> anyhow::Result<()> {
    let mut processor = Processor::new();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let used = [
            ("publish_queue", app.publisher.used()),
            ("body_buffer", app.bodies.used()),
            ("connections", connections.used()),
            ("processor", processor.used()),
        ];
        let mut most = 0_f64;
        for (resource, used) in used {
            metrics::gauge!("penstock_ingest_resource_saturation", "resource" => resource).set(used);
            most = most.max(used);
        }
        metrics::gauge!("penstock_ingest_saturation").set(most.min(1.0));
        app.store.show_pools();
        metrics::gauge!("penstock_http_connections").set(connections.open());
        metrics::gauge!("penstock_http_max_connections").set(connections.most());
    }
    Ok(())
}

/// The use of the processor, of all the cores that this process may use.
struct Processor {
    cores: f64,
    last: (Instant, Duration),
    smoothed: f64,
}

impl Processor {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            cores: f64::from(u32::try_from(cores).unwrap_or(1)),
            last: (Instant::now(), spent()),
            smoothed: 0.0,
        }
    }

    fn used(&mut self) -> f64 {
        let (at, before) = std::mem::replace(&mut self.last, (Instant::now(), spent()));
        let busy = self.last.1.saturating_sub(before).as_secs_f64();
        let could = (self.last.0 - at).as_secs_f64() * self.cores;
        if could > 0.0 {
            self.smoothed += (busy / could - self.smoothed) / SMOOTHED_OVER;
        }
        self.smoothed
    }
}

/// Processor time that this process has spent.
fn spent() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let time = |time: TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    time(usage.user_time()) + time(usage.system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_use_of_the_processor() {
        let mut processor = Processor::new();
        let started = Instant::now();
        while spent() < processor.last.1 + Duration::from_millis(50) {
            assert!(started.elapsed() < Duration::from_mins(1), "no time is counted");
        }
        let used = processor.used();
        assert!(used > 0.0 && used <= 1.0, "{used}");
    }
}
