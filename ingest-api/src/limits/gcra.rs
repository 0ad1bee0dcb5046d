//! One limit, without a clock and without others: the generic cell rate algorithm, and the headers that tell
//! clients where they stand.

use std::io::Write as _;
use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// The window of every limit.
const WINDOW: Duration = Duration::from_mins(1);
/// The same in nanoseconds.
pub const WINDOW_NANOS: u64 = 60_000_000_000;

/// What an organisation has left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What an organisation may use.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many requests an organisation may make in a minute; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limit {
    per_minute: u64,
}

impl Limit {
    /// At least 1, and at most one a nanosecond.
    pub fn per_minute(requests: u64) -> Self {
        Self {
            per_minute: requests.clamp(1, WINDOW_NANOS),
        }
    }

    /// Requests a minute.
    pub fn get(self) -> u64 {
        self.per_minute
    }

    /// What one of `replicas` may admit when they cannot tell each other, at least 1.
    #[must_use]
    pub fn share(self, replicas: u32) -> Self {
        Self::per_minute(self.per_minute / u64::from(replicas.max(1)))
    }

    /// Nanoseconds that one request takes out of the window.
    fn interval(self) -> u64 {
        // A limit comes from other replicas too, so it is not trusted to be what `per_minute` makes it.
        (WINDOW_NANOS / self.per_minute.max(1)).max(1)
    }
}

/// What became of one request, and what the organisation has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub admitted: bool,
    /// Requests that would be admitted now.
    pub remaining: u64,
    /// Admitted: time until the whole limit is there again. Refused: time until this request would be admitted.
    pub reset: Duration,
    /// What the organisation is held to.
    pub limit: Limit,
}

impl Decision {
    /// Whole seconds until [`reset`](Self::reset), at least 1 unless it is now.
    pub fn reset_seconds(&self) -> u64 {
        self.reset
            .as_nanos()
            .div_ceil(1_000_000_000)
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// The refusal of what a request needs beyond its admission, which took one and will take one again when
    /// the request is repeated.
    #[must_use]
    pub fn for_a_repeat(self) -> Self {
        let reset = self.reset + Duration::from_nanos(self.limit.interval());
        Self { reset, ..self }
    }

    /// Adds the `RateLimit` and `RateLimit-Policy` headers (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        // The draft: `Retry-After`, whatever it is there for, must not come before the end of `t`.
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let reset = self.reset_seconds().min(retry_after.unwrap_or(u64::MAX));
        let (most, window) = (self.limit.per_minute, WINDOW.as_secs());
        let policy = header_value(format_args!("\"default\";q={most};w={window}"));
        let state = header_value(format_args!("\"default\";r={};t={reset}", self.remaining));
        headers.insert(RATE_LIMIT_POLICY, policy);
        headers.insert(RATE_LIMIT, state);
    }
}

/// A header of quotes and at most two numbers, with one allocation: every answer has two of them.
fn header_value(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut buffer = [0; 64];
    let mut rest = buffer.as_mut_slice();
    rest.write_fmt(text).expect("two numbers fit into 64 bytes");
    let left = rest.len();
    let written = &buffer[..buffer.len() - left];
    HeaderValue::from_bytes(written).expect("digits and quotes are header characters")
}

/// The generic cell rate algorithm. `arrival` is the theoretical arrival time: when, in nanoseconds, the
/// window would be empty again. Returns its new value; a refused request leaves it as it was.
///
/// Source: ATM Forum, *Traffic Management Specification 4.0*, "virtual scheduling".
pub fn gcra(arrival: u64, now: u64, limit: Limit, cost: u64) -> (u64, Decision) {
    let start = arrival.max(now);
    let next = start.saturating_add(limit.interval().saturating_mul(cost));
    let end = now.saturating_add(WINDOW_NANOS);
    let admitted = next <= end;
    let arrival = if admitted { next } else { start };
    let decision = Decision {
        admitted,
        remaining: end.saturating_sub(arrival) / limit.interval(),
        reset: Duration::from_nanos(if admitted { arrival - now } else { next - end }),
        limit,
    };
    (arrival, decision)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the pattern, no window of a minute admits more than the burst and what a minute refills.
        #[test]
        fn the_limit_holds_over_every_pattern_of_requests(
            per_minute in 1u64..500,
            gaps in proptest::collection::vec((0u64..2_000_000_000, 1u64..4), 1..400),
        ) {
            let limit = Limit::per_minute(per_minute);
            let (mut arrival, mut now, mut admitted) = (0, 0, Vec::new());
            for (gap, cost) in gaps {
                now += gap;
                let (next, decision) = gcra(arrival, now, limit, cost);
                prop_assert!(decision.remaining <= per_minute + 1);
                if decision.admitted {
                    admitted.push((now, cost));
                } else {
                    prop_assert_eq!(next, arrival.max(now));
                    let later = now + u64::try_from(decision.reset.as_nanos()).unwrap();
                    prop_assert!(cost > per_minute || gcra(arrival, later, limit, cost).1.admitted);
                }
                arrival = next;
            }
            for (start, _) in &admitted {
                let in_window = admitted.iter().filter(|(at, _)| (*start..start + WINDOW_NANOS).contains(at));
                let sum: u64 = in_window.map(|(_, cost)| cost).sum();
                prop_assert!(sum <= 2 * per_minute + 1, "{sum} in a minute of {per_minute}");
            }
        }

        #[test]
        fn a_fresh_organisation_may_use_its_whole_limit_at_once(per_minute in 1u64..2_000, now in 0u64..1 << 50) {
            let limit = Limit::per_minute(per_minute);
            let mut arrival = 0;
            for left in (0..per_minute).rev() {
                let (next, decision) = gcra(arrival, now, limit, 1);
                prop_assert!(decision.admitted && decision.remaining >= left);
                arrival = next;
            }
        }
    }

    #[test]
    fn the_time_in_the_header_is_never_later_than_retry_after() {
        let (_, decision) = gcra(0, 0, Limit::per_minute(60), 30);
        let text = |retry_after: Option<u64>| {
            let mut headers: HeaderMap = retry_after
                .map(|seconds| (RETRY_AFTER, seconds.into()))
                .into_iter()
                .collect();
            decision.write_headers(&mut headers);
            headers[RATE_LIMIT].to_str().unwrap().to_owned()
        };
        assert_eq!(text(None), r#""default";r=30;t=30"#);
        assert_eq!(text(Some(2)), r#""default";r=30;t=2"#);
        assert_eq!(text(Some(60)), r#""default";r=30;t=30"#);
    }

    #[test]
    fn a_used_up_limit_says_when_to_come_back() {
        let limit = Limit::per_minute(60);
        let (arrival, first) = gcra(0, 0, limit, 60);
        assert_eq!(
            (first.admitted, first.remaining, first.reset_seconds()),
            (true, 0, 60)
        );
        let (_, second) = gcra(arrival, 0, limit, 1);
        assert_eq!(
            (second.admitted, second.remaining, second.reset_seconds()),
            (false, 0, 1)
        );
    }
}
