//! How the descriptors that this process may open are shared out. Connections to receivers must never take those of
//! Postgres, NATS and the metrics.

use crate::config::Config;
use crate::send::lookups;

/// Kept for the runtime, the logs, NATS, the metrics' clients and the like.
const RESERVE: usize = 64;

/// Most idle connections.
const IDLE: usize = 4_096;

/// How many descriptors webhooks may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Deliveries under way at once. Each has at most one connection.
    pub in_flight: usize,
    /// Connections that nobody uses.
    pub idle: usize,
    /// Look-ups of host names at once. Each takes two descriptors.
    pub lookups: usize,
}

impl Room {
    /// Divides what this process may open. Logs it when that is less than the settings ask for.
    pub(crate) fn of_process(config: &Config) -> Self {
        let (limit, wanted) = (
            shared::process::descriptors::limit(),
            config.dispatch.max_in_flight as usize,
        );
        let room = Self::share(limit, config.database_connections as usize, wanted);
        if room.in_flight < wanted {
            tracing::warn!(
                limit,
                wanted,
                in_flight = room.in_flight,
                "MAX_IN_FLIGHT is more than the limit of open descriptors (ulimit -n) leaves room for"
            );
        }
        room
    }

    fn share(limit: usize, database: usize, wanted: usize) -> Self {
        let free = limit.saturating_sub(RESERVE + database);
        let lookups = (limit / 16).min(free / 4).clamp(1, lookups::SLOTS);
        let connections = free.saturating_sub(2 * lookups);
        let in_flight = wanted.min(connections * 2 / 3).max(1);
        let idle = connections.saturating_sub(in_flight).min(IDLE);
        Self {
            in_flight,
            idle,
            lookups,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_at_once_stays_below_the_limit() {
        for limit in [0, 64, 128, 200, 256, 1_024, 4_096, 65_536, 1 << 20] {
            for wanted in [1, 16, 1_024, 100_000] {
                let room = Room::share(limit, 10, wanted);
                let all = room.in_flight + room.idle + 2 * room.lookups + RESERVE + 10;
                assert!(room.in_flight >= 1 && room.lookups >= 1);
                assert!(all <= limit.max(RESERVE + 13), "{room:?} of {limit}");
            }
        }
    }

    #[test]
    fn a_usual_limit_changes_nothing() {
        let room = Room::share(1 << 20, 10, 1_024);
        assert_eq!(
            (room.in_flight, room.idle, room.lookups),
            (1_024, IDLE, lookups::SLOTS)
        );
    }
}
