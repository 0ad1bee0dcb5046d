//! When a failed delivery is tried again: a pure function of the policy, the attempt, its outcome and chance.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

/// Longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The schedule. The defaults reach about three days.
///
/// The wait after attempt *n* is drawn evenly between the ceilings of the step before and of this one, where
/// the ceiling is `min(max, initial × factor^(n-1))`: as much jitter as exponential waits can have while each
/// is longer than the last and none is zero.
#[derive(Args, Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Longest wait after the first attempt.
    #[arg(long, env, value_name = "RETRY_INITIAL", default_value = "5s", value_parser = parse_duration)]
    pub retry_initial: Duration,

    /// How many times longer each wait is than the one before.
    #[arg(long, env, value_name = "RETRY_FACTOR", default_value_t = 4.0, value_parser = factor)]
    pub retry_factor: f64,

    /// Longest wait.
    #[arg(long, env, value_name = "RETRY_MAX", default_value = "10h", value_parser = parse_duration)]
    pub retry_max: Duration,

    /// Attempts after which a delivery is dead.
    #[arg(long, env, value_name = "RETRY_ATTEMPTS", default_value_t = 18,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub retry_attempts: u32,

    /// Age, since the event was stored, after which a delivery that fails again is dead.
    #[arg(long, env, value_name = "RETRY_MAX_AGE", default_value = "5days", value_parser = parse_duration)]
    pub retry_max_age: Duration,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (1.0..=100.0).contains(&factor) => Ok(factor),
        _ => Err("must be a number from 1 to 100".to_owned()),
    }
}

/// What an attempt came to, as far as the schedule cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// It failed; the receiver may have said when to come back.
    Failed {
        /// From the answer's `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is done.
    Delivered,
    /// It is tried again after this time.
    RetryIn(Duration),
    /// It is given up, and kept.
    Dead,
}

impl RetryPolicy {
    /// Decides what becomes of a delivery after its `attempt`th attempt (from 1), at `age`. `random` is drawn
    /// evenly from 0 to 1.
    pub fn next(&self, attempt: u32, verdict: Verdict, age: Duration, random: f64) -> Next {
        let retry_after = match verdict {
            Verdict::Delivered => return Next::Delivered,
            Verdict::Failed { retry_after } => retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
        };
        if attempt >= self.retry_attempts || age >= self.retry_max_age {
            return Next::Dead;
        }
        Next::RetryIn(self.wait(attempt, random).max(retry_after))
    }

    /// The same waits, and never dead.
    #[must_use]
    pub fn without_end(self) -> Self {
        Self {
            retry_attempts: u32::MAX,
            retry_max_age: Duration::MAX,
            ..self
        }
    }

    fn wait(&self, attempt: u32, random: f64) -> Duration {
        let ceiling = self.ceiling(attempt);
        let floor = ceiling / self.retry_factor;
        Duration::from_secs_f64(floor + (ceiling - floor) * random.clamp(0.0, 1.0))
    }

    /// Seconds.
    fn ceiling(&self, attempt: u32) -> f64 {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let exponential = self.retry_initial.as_secs_f64() * self.retry_factor.powi(exponent);
        exponential.min(self.retry_max.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: RetryPolicy = RetryPolicy {
        retry_initial: Duration::from_secs(5),
        retry_factor: 4.0,
        retry_max: Duration::from_secs(36_000),
        retry_attempts: 18,
        retry_max_age: Duration::from_secs(5 * 86_400),
    };
    const FAILED: Verdict = Verdict::Failed { retry_after: None };

    fn waits(policy: &RetryPolicy, random: f64) -> Vec<Duration> {
        (1..)
            .map_while(
                |attempt| match policy.next(attempt, FAILED, Duration::ZERO, random) {
                    Next::RetryIn(wait) => Some(wait),
                    _ => None,
                },
            )
            .collect()
    }

    #[test]
    fn the_defaults_reach_about_three_days() {
        let total: Duration = waits(&DEFAULT, 0.5).iter().sum();
        assert!(
            (2.5..3.0).contains(&(total.as_secs_f64() / 86_400.0)),
            "{total:?}"
        );
        let longest: Vec<_> = waits(&DEFAULT, 1.0)
            .iter()
            .map(Duration::as_secs)
            .take(9)
            .collect();
        assert_eq!(longest, [5, 20, 80, 320, 1_280, 5_120, 20_480, 36_000, 36_000]);
    }

    fn policies() -> impl Strategy<Value = RetryPolicy> {
        (1u64..100_000, 1.0f64..100.0, 1u64..100_000_000, 1u32..100).prop_map(
            |(initial, factor, max, attempts)| RetryPolicy {
                retry_initial: Duration::from_millis(initial),
                retry_factor: factor,
                retry_max: Duration::from_millis(max),
                retry_attempts: attempts,
                ..DEFAULT
            },
        )
    }

    proptest! {
        #[test]
        fn waits_grow_until_the_longest_and_never_pass_it(
            policy in policies(),
            randoms in proptest::collection::vec(0.0f64..=1.0, 100),
        ) {
            let mut last = Duration::ZERO;
            for attempt in 1..policy.retry_attempts {
                let random = randoms[attempt as usize % randoms.len()];
                let Next::RetryIn(wait) = policy.next(attempt, FAILED, Duration::ZERO, random) else {
                    return Err(TestCaseError::fail("gave up early"));
                };
                prop_assert!(wait <= policy.retry_max + Duration::from_nanos(1));
                let at_the_longest = policy.ceiling(attempt) >= policy.retry_max.as_secs_f64();
                prop_assert!(at_the_longest || wait + Duration::from_nanos(2) >= last, "{last:?} {wait:?}");
                last = wait;
            }
            prop_assert_eq!(policy.next(policy.retry_attempts, FAILED, Duration::ZERO, 0.0), Next::Dead);
        }

        #[test]
        fn retry_after_is_honoured_within_a_day(policy in policies(), seconds in 0u64..1 << 40, random in 0.0f64..=1.0) {
            let verdict = Verdict::Failed { retry_after: Some(Duration::from_secs(seconds)) };
            if let Next::RetryIn(wait) = policy.next(1, verdict, Duration::ZERO, random) {
                prop_assert!(wait >= Duration::from_secs(seconds.min(86_400)));
                prop_assert!(wait <= policy.retry_max.max(MAX_RETRY_AFTER));
            }
        }

        #[test]
        fn without_an_end_no_delivery_is_given_up(policy in policies(), attempt in 1u32..100_000, seconds in 0u64..1 << 40) {
            let next = policy.without_end().next(attempt, FAILED, Duration::from_secs(seconds), 0.5);
            prop_assert!(matches!(next, Next::RetryIn(_)));
        }

        #[test]
        fn an_old_delivery_that_fails_is_dead_and_a_success_never(policy in policies(), attempt in 1u32..100, random in 0.0f64..=1.0) {
            prop_assert_eq!(policy.next(attempt, FAILED, policy.retry_max_age, random), Next::Dead);
            prop_assert_eq!(policy.next(attempt, Verdict::Delivered, policy.retry_max_age, random), Next::Delivered);
        }
    }
}
