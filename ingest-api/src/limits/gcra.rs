//! One limit, without a clock and without others: the generic cell rate algorithm.

use std::time::Duration;

use crate::domain::accounts::limit::{Limit, WINDOW_NANOS};

/// The decision on one request, and what the organisation, or its tenant, has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub admitted: bool,
    /// Requests that would be admitted now.
    pub remaining: u64,
    /// Admitted: time until the whole limit is there again. Refused: time until this request would be admitted.
    pub reset: Duration,
    /// The limit that it was decided by.
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

    /// Of two decisions on one request, a refusal, or that with less remaining.
    #[must_use]
    pub fn nearer(self, other: Self) -> Self {
        let place = |decision: &Self| (decision.admitted, decision.remaining);
        std::cmp::min_by_key(self, other, place)
    }

    /// The refusal of a batch's further cost. Admission took one request and takes one again when the batch is repeated, so
    /// the reset is later by one.
    #[must_use]
    pub fn for_a_repeat(self) -> Self {
        let reset = self.reset + Duration::from_nanos(self.limit.interval());
        Self { reset, ..self }
    }
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

    /// Whoever asks for as much as there is, minute after minute.
    #[test]
    fn the_readme_says_what_the_first_minute_holds_and_what_every_further_one_does() {
        const LIMIT: u64 = 600;
        let limit = Limit::per_minute(LIMIT);
        let mut arrival = 0;
        let minutes = [0_u64, 1, 2].map(|minute| {
            let mut admitted = 0;
            for milli in minute * 60_000..(minute + 1) * 60_000 {
                while let (next, Decision { admitted: true, .. }) = gcra(arrival, milli * 1_000_000, limit, 1)
                {
                    arrival = next;
                    admitted += 1;
                }
            }
            admitted
        });
        let [first, further @ ..] = minutes;
        assert_eq!((first, further), (2 * LIMIT - 1, [LIMIT; 2]));
        let said = format!("({} {:03} at {LIMIT} a minute)", first / 1_000, first % 1_000);
        assert!(include_str!("../../README.md").contains(&said), "{said}");
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
