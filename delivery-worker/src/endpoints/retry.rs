//! When a failed delivery is tried again: a pure function of the policy, the attempt, its outcome and chance.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

/// Longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// No wait is shorter: what fails must not come back at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Longest wait after an attempt that could not be made. It is drawn evenly between half of it and this.
const NOT_TRIED_WAIT: Duration = Duration::from_secs(4);

/// No wait is longer, whatever the policy says: the time of the next attempt must be one that Postgres can hold.
const LONGEST_WAIT: Duration = Duration::from_hours(365 * 24);

/// The schedule. The defaults reach about three days.
///
/// The wait after attempt *n* is drawn evenly between a `factor`-th of the ceiling and the ceiling, which is
/// `min(max, initial × factor^(n-1))`: as much jitter as exponential waits can have while none is zero and each is
/// longer than the last, until the ceiling is `max`.
#[derive(Args, Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_field_names, reason = "they are named as their variables")]
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
    /// Nothing was sent: this worker was short of something of its own.
    NotTried,
    /// It failed; the receiver may have said when to come back.
    Failed {
        /// From the answer's `Retry-After`.
        retry_after: Option<Duration>,
        /// It has too much to do: the next wait is one step longer than it would be.
        overloaded: bool,
    },
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is done.
    Delivered,
    /// It is tried again after this time.
    RetryIn(Duration),
    /// It is tried after this time, as if it had not been claimed.
    PutOff(Duration),
    /// It is given up, and kept.
    Dead,
}

impl RetryPolicy {
    /// Decides what becomes of a delivery after its `attempt`th attempt (from 1), at `age`. `random` is drawn
    /// evenly from 0 to 1.
    pub fn next(&self, attempt: u32, verdict: Verdict, age: Duration, random: f64) -> Next {
        let (retry_after, step) = match verdict {
            Verdict::Delivered => return Next::Delivered,
            // What is short for longer than a delivery may take will not come back in time.
            Verdict::NotTried if age >= self.retry_max_age => return Next::Dead,
            Verdict::NotTried => {
                return Next::PutOff(NOT_TRIED_WAIT.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0));
            }
            Verdict::Failed {
                retry_after,
                overloaded,
            } => (
                retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
                attempt.saturating_add(overloaded.into()),
            ),
        };
        if attempt >= self.retry_attempts || age >= self.retry_max_age {
            return Next::Dead;
        }
        Next::RetryIn(self.wait(step, random).max(retry_after))
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

    fn wait(&self, step: u32, random: f64) -> Duration {
        let ceiling = self.ceiling(step);
        let floor = ceiling / self.retry_factor;
        let wait = Duration::from_secs_f64(floor + (ceiling - floor) * random.clamp(0.0, 1.0));
        wait.max(SHORTEST_WAIT)
    }

    /// Seconds.
    fn ceiling(&self, step: u32) -> f64 {
        let exponent = i32::try_from(step.saturating_sub(1)).unwrap_or(i32::MAX);
        let exponential = self.retry_initial.as_secs_f64() * self.retry_factor.powi(exponent);
        exponential.min(self.retry_max.min(LONGEST_WAIT).as_secs_f64())
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
    const FAILED: Verdict = Verdict::Failed {
        retry_after: None,
        overloaded: false,
    };
    const OVERLOADED: Verdict = Verdict::Failed {
        retry_after: None,
        overloaded: true,
    };

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

    /// What an operator or an endpoint's owner may set, at its bounds too.
    fn policies() -> impl Strategy<Value = RetryPolicy> {
        let millis = || prop_oneof![1u64..1_000, 1u64..100_000_000, Just(u64::MAX / 2_000)];
        let factors = prop_oneof![Just(1.0), 1.0f64..3.0, 1.0f64..=100.0];
        (millis(), factors, millis(), 1u32..=1_000, millis()).prop_map(
            |(initial, factor, max, attempts, age)| RetryPolicy {
                retry_initial: Duration::from_millis(initial),
                retry_factor: factor,
                retry_max: Duration::from_millis(max),
                retry_attempts: attempts,
                retry_max_age: Duration::from_millis(age),
            },
        )
    }

    fn wait(
        policy: &RetryPolicy,
        attempt: u32,
        verdict: Verdict,
        random: f64,
    ) -> Result<Duration, TestCaseError> {
        match policy.next(attempt, verdict, Duration::ZERO, random) {
            Next::RetryIn(wait) => Ok(wait),
            other => Err(TestCaseError::fail(format!("{other:?} after attempt {attempt}"))),
        }
    }

    /// As far as arithmetic with doubles of these sizes is exact.
    fn about(wait: Duration) -> Duration {
        wait.mul_f64(1e-9) + Duration::from_nanos(2)
    }

    proptest! {
        #[test]
        fn waits_grow_until_the_longest_and_never_pass_it(
            policy in policies(),
            randoms in proptest::collection::vec(0.0f64..=1.0, 100),
        ) {
            let longest = policy.retry_max.min(LONGEST_WAIT);
            let mut last = Duration::ZERO;
            for attempt in 1..policy.retry_attempts {
                let random = randoms[attempt as usize % randoms.len()];
                let wait = wait(&policy, attempt, FAILED, random)?;
                prop_assert!(wait >= SHORTEST_WAIT && wait <= longest + about(longest), "{wait:?}");
                let at_the_longest = policy.ceiling(attempt) >= longest.as_secs_f64();
                prop_assert!(at_the_longest || wait + about(wait) >= last, "{last:?} {wait:?}");
                last = wait;
            }
        }

        #[test]
        fn waits_stay_between_the_ceilings_of_their_step(policy in policies(), attempt in 1u32..100, random in 0.0f64..=1.0) {
            let policy = RetryPolicy { retry_attempts: 100, ..policy };
            let [low, drawn, high] = [0.0, random, 1.0].map(|random| wait(&policy, attempt, FAILED, random));
            let (low, drawn, high) = (low?, drawn?, high?);
            prop_assert!(low <= drawn && drawn <= high);
            let ceiling = Duration::from_secs_f64(policy.ceiling(attempt)).max(SHORTEST_WAIT);
            prop_assert!(high <= ceiling + about(ceiling) && high + about(ceiling) >= ceiling);
        }

        #[test]
        fn a_delivery_is_dead_at_its_last_attempt_or_at_its_age_and_not_before(
            policy in policies(),
            random in 0.0f64..=1.0,
            verdict in prop_oneof![Just(FAILED), Just(OVERLOADED)],
        ) {
            let before = policy.retry_max_age.saturating_sub(Duration::from_nanos(1));
            let last = policy.retry_attempts;
            prop_assert_eq!(policy.next(last, verdict, Duration::ZERO, random), Next::Dead);
            prop_assert_eq!(policy.next(u32::MAX, verdict, before, random), Next::Dead);
            if last > 1 {
                prop_assert_eq!(policy.next(1, verdict, policy.retry_max_age, random), Next::Dead);
                let next = policy.next(last - 1, verdict, before, random);
                prop_assert!(matches!(next, Next::RetryIn(_)), "{next:?}");
            }
            prop_assert_eq!(policy.next(last, Verdict::Delivered, policy.retry_max_age, random), Next::Delivered);
        }

        #[test]
        fn what_was_not_tried_is_put_off_for_a_moment_until_it_is_too_old(
            policy in policies(),
            attempt in 1u32..2_000,
            random in 0.0f64..=1.0,
        ) {
            let policy = RetryPolicy { retry_max_age: policy.retry_max_age.max(SHORTEST_WAIT), ..policy };
            prop_assert_eq!(policy.next(attempt, Verdict::NotTried, policy.retry_max_age, random), Next::Dead);
            let next = policy.next(attempt, Verdict::NotTried, Duration::ZERO, random);
            let within = |wait| (NOT_TRIED_WAIT / 2..=NOT_TRIED_WAIT).contains(&wait);
            prop_assert!(matches!(next, Next::PutOff(wait) if within(wait)), "{next:?}");
        }

        #[test]
        fn without_an_end_no_delivery_is_given_up(policy in policies(), attempt in 1u32..100_000, seconds in 0u64..1 << 40) {
            let next = policy.without_end().next(attempt, FAILED, Duration::from_secs(seconds), 0.5);
            prop_assert!(matches!(next, Next::RetryIn(_)));
        }

        #[test]
        fn retry_after_is_honoured_within_a_day(
            policy in policies(),
            retry_after in prop_oneof![0u64..200_000, any::<u64>()],
            overloaded: bool,
            random in 0.0f64..=1.0,
        ) {
            let policy = RetryPolicy { retry_attempts: 2, ..policy };
            let retry_after = Duration::from_secs(retry_after);
            let verdict = Verdict::Failed { retry_after: Some(retry_after), overloaded };
            let wait = wait(&policy, 1, verdict, random)?;
            prop_assert!(wait >= retry_after.min(MAX_RETRY_AFTER));
            prop_assert!(wait <= policy.retry_max.min(LONGEST_WAIT).max(MAX_RETRY_AFTER));
        }

        #[test]
        fn an_overloaded_receiver_is_left_alone_for_one_step_more(policy in policies(), attempt in 1u32..100, random in 0.0f64..=1.0) {
            let policy = RetryPolicy { retry_attempts: 102, ..policy };
            prop_assert_eq!(
                wait(&policy, attempt, OVERLOADED, random)?,
                wait(&policy, attempt + 1, FAILED, random)?
            );
        }
    }
}
