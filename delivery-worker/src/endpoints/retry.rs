//! When a failed delivery is tried again: a pure function of the policy, the attempt, its outcome and chance.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;
use shared::process::config::{integer_within, number_within};

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

    /// How many times longer each wait is than the one before, 1 to 100.
    #[arg(long, env, value_name = "RETRY_FACTOR", default_value_t = 4.0, value_parser = factor)]
    pub retry_factor: f64,

    /// Longest wait.
    #[arg(long, env, value_name = "RETRY_MAX", default_value = "10h", value_parser = parse_duration)]
    pub retry_max: Duration,

    /// Attempts after which a delivery is dead, 1 to 1000.
    #[arg(long, env, value_name = "RETRY_ATTEMPTS", default_value_t = 18,
          value_parser = integer_within::<u32>(1..=1_000))]
    pub retry_attempts: u32,

    /// Age, since the event was stored, after which a delivery that fails again is dead.
    #[arg(long, env, value_name = "RETRY_MAX_AGE", default_value = "5days", value_parser = parse_duration)]
    pub retry_max_age: Duration,
}

fn factor(text: &str) -> Result<f64, String> {
    number_within(text, &(1.0..=100.0))
}

/// What the schedule needs to know of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// No request was sent: this worker lacked a resource.
    NotTried,
    /// It failed; the receiver may have said when to come back.
    Failed {
        /// From the answer's `Retry-After`.
        retry_after: Option<Duration>,
        /// The receiver has too much to do: the next wait is one step longer.
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
pub(crate) mod tests;
