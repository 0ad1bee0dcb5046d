//! When an endpoint that keeps failing is left alone, and when it is given up: a pure function of its failures.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;
use shared::process::config::integer_within;

/// The circuit breaker of every endpoint.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failed attempts in a row, 1 to 1000000, after which an endpoint's circuit opens: its deliveries wait in the table, and
    /// one at a time is sent as a probe.
    #[arg(long, env, value_name = "CIRCUIT_FAILURES", default_value_t = 10,
          value_parser = integer_within::<u32>(1..=1_000_000))]
    pub circuit_failures: u32,

    /// Shortest pause before a probe. The pause grows with the time for which the endpoint has failed.
    #[arg(long, env, value_name = "CIRCUIT_PAUSE", default_value = "30s", value_parser = parse_duration)]
    pub circuit_pause: Duration,

    /// Longest pause before a probe.
    #[arg(long, env, value_name = "CIRCUIT_PAUSE_MAX", default_value = "5m", value_parser = parse_duration)]
    pub circuit_pause_max: Duration,

    /// How long an endpoint may do nothing but fail before it is disabled. Its owner is told after half of it.
    #[arg(long, env, value_name = "DISABLE_AFTER", default_value = "5days", value_parser = parse_duration)]
    pub disable_after: Duration,
}

/// What follows from an endpoint's failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// It is sent whatever is due.
    Closed,
    /// No delivery is sent for this time, and then one probe.
    Open(Duration),
    /// It is to be disabled.
    GivenUp,
}

impl Breaker {
    /// Judges an endpoint whose last `failures` attempts failed, the first of them `failing_for` ago.
    ///
    /// An open circuit pauses for as long as the endpoint has failed already, within the two bounds: each pause is
    /// about twice the one before.
    pub fn judge(&self, failures: u32, failing_for: Duration) -> Circuit {
        if failures < self.circuit_failures {
            Circuit::Closed
        } else if failing_for >= self.disable_after {
            Circuit::GivenUp
        } else {
            Circuit::Open(failing_for.min(self.circuit_pause_max).max(self.circuit_pause))
        }
    }

    /// Whether the owner of an endpoint with an open circuit should know that it will be disabled.
    pub fn warns(&self, failing_for: Duration) -> bool {
        failing_for >= self.disable_after / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Breaker = Breaker {
        circuit_failures: 10,
        circuit_pause: Duration::from_secs(30),
        circuit_pause_max: Duration::from_mins(5),
        disable_after: Duration::from_hours(5 * 24),
    };

    #[test]
    fn pauses_double_from_the_shortest_to_the_longest() {
        let mut failing_for = Duration::ZERO;
        let pauses: Vec<_> = (10..16)
            .map(|failures| {
                let Circuit::Open(pause) = DEFAULT.judge(failures, failing_for) else {
                    panic!("the circuit is not open after {failures} failures");
                };
                failing_for += pause;
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [30, 30, 60, 120, 240, 300]);
    }

    proptest! {
        #[test]
        fn a_circuit_opens_at_the_limit_and_not_before(limit in 1u32..1_000, failures in 0u32..2_000) {
            let breaker = Breaker { circuit_failures: limit, ..DEFAULT };
            let circuit = breaker.judge(failures, Duration::ZERO);
            prop_assert_eq!(circuit == Circuit::Closed, failures < limit);
        }

        #[test]
        fn pauses_never_shrink_and_stay_within_their_bounds(one in 0u64..432_000, more in 0u64..432_000) {
            let pause = |seconds| match DEFAULT.judge(10, Duration::from_secs(seconds)) {
                Circuit::Open(pause) => Some(pause),
                _ => None,
            };
            let (first, second) = (pause(one), pause(one + more));
            if let (Some(first), Some(second)) = (first, second) {
                prop_assert!(DEFAULT.circuit_pause <= first && first <= second);
                prop_assert!(second <= DEFAULT.circuit_pause_max);
            }
            prop_assert_eq!(second.is_none(), one + more >= 432_000);
        }

        #[test]
        fn before_an_endpoint_is_disabled_its_owner_may_be_told(limit in 2u64..1_000_000) {
            let breaker = Breaker { disable_after: Duration::from_secs(limit), ..DEFAULT };
            let told = |millis| {
                let failing_for = Duration::from_millis(millis);
                (breaker.warns(failing_for), breaker.judge(10, failing_for) == Circuit::GivenUp)
            };
            prop_assert_eq!(told(limit * 500 - 1), (false, false));
            prop_assert_eq!(told(limit * 500), (true, false));
            prop_assert_eq!(told(limit * 1_000), (true, true));
        }

        #[test]
        fn few_failures_never_disable_an_endpoint_however_long_ago_the_first_was(
            failures in 0u32..10,
            seconds in 0u64..1 << 40,
        ) {
            prop_assert_eq!(DEFAULT.judge(failures, Duration::from_secs(seconds)), Circuit::Closed);
        }
    }
}
