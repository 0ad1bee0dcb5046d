//! How long attempts took, in few numbers: how many of them lie in each of twenty steps. So the counts of workers and of hours
//! can be added up, and still tell about how long most attempts took.

use std::time::Duration;

/// How many steps there are. Four make a decade; the last one has no end.
pub const STEPS: usize = ENDS.len() + 1;

/// Where the steps end, in microseconds: from a millisecond to half a minute, the longest time that an attempt may take.
const ENDS: [u64; 19] = [
    1_000, 1_778, 3_162, 5_623, 10_000, 17_783, 31_623, 56_234, 100_000, 177_828, 316_228, 562_341,
    1_000_000, 1_778_279, 3_162_278, 5_623_413, 10_000_000, 17_782_794, 31_622_777,
];

/// The step in which a duration lies.
pub fn step(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    ENDS.partition_point(|end| *end <= micros)
}

/// About how many milliseconds `percent` of 100 durations do not exceed: within a step they count as evenly spread. `None` when
/// there are none. Counts beyond the last step are passed over.
pub fn percentile(counts: &[u64], percent: u64) -> Option<u64> {
    let counts = &counts[..counts.len().min(STEPS)];
    let total: u64 = counts.iter().sum();
    // From 1.
    let place = total.saturating_mul(percent).div_ceil(100).max(1);
    let mut before = 0;
    for (step, &count) in counts.iter().enumerate() {
        if before + count >= place {
            return Some(within(step, 2 * (place - before) - 1, 2 * count));
        }
        before += count;
    }
    None
}

/// Where a step is so far that `part` of `whole` lies behind, in milliseconds: at least one.
fn within(step: usize, part: u64, whole: u64) -> u64 {
    let last = ENDS[ENDS.len() - 1];
    let begin = step.checked_sub(1).map_or(0, |before| ENDS[before]);
    let end = ENDS.get(step).copied().unwrap_or(2 * last);
    let thousandths = part.saturating_mul(1_000) / whole;
    let micros = begin + (end - begin) * thousandths / 1_000;
    micros.div_ceil(1_000).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(millis: &[u64]) -> [u64; STEPS] {
        let mut counts = [0; STEPS];
        for millis in millis {
            counts[step(Duration::from_millis(*millis))] += 1;
        }
        counts
    }

    #[test]
    fn a_duration_lies_in_the_step_that_begins_with_it_or_before() {
        let steps = [0, 999, 1_000, 1_777, 1_778, 10_000, 31_622_776, 31_622_777]
            .map(|micros| step(Duration::from_micros(micros)));
        assert_eq!(steps, [0, 0, 1, 1, 2, 5, 18, 19]);
        assert_eq!(step(Duration::MAX), STEPS - 1);
    }

    #[test]
    fn half_and_nearly_all_of_the_durations_are_below_their_percentiles() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[0; STEPS], 50), None);
        let counts = counted(&[[12; 18].as_slice(), &[700, 25_000]].concat());
        assert_eq!(percentile(&counts, 50), Some(15));
        assert_eq!(percentile(&counts, 95), Some(782));
        assert_eq!(percentile(&counts, 100), Some(24_703));
    }

    proptest! {
        #[test]
        fn what_one_duration_is_told_as_is_in_its_step(millis in 0u64..100_000, percent in 1u64..=100) {
            let told = percentile(&counted(&[millis]), percent).expect("there is one");
            prop_assert!(told >= 1);
            // To the next millisecond.
            let lowest = step(Duration::from_millis(told - 1));
            let its_own = step(Duration::from_millis(millis));
            prop_assert!(lowest <= its_own && its_own <= step(Duration::from_millis(told)), "{told}");
        }

        #[test]
        fn no_counts_make_it_panic_and_more_percent_are_never_less(
            counts in proptest::collection::vec(0u64..1 << 40, 0..25),
            (one, other) in (0u64..=100, 0u64..=100),
        ) {
            let (lower, higher) = (percentile(&counts, one.min(other)), percentile(&counts, one.max(other)));
            prop_assert!(lower <= higher, "{lower:?} {higher:?}");
        }
    }
}
