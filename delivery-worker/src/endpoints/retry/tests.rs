use clap::Parser;
use proptest::prelude::*;

use super::*;

const FAILED: Verdict = Verdict::Failed {
    retry_after: None,
    overloaded: false,
};
const OVERLOADED: Verdict = Verdict::Failed {
    retry_after: None,
    overloaded: true,
};

/// The policy that holds unless an operator sets another.
pub(crate) fn default_policy() -> RetryPolicy {
    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        retry: RetryPolicy,
    }
    Settings::parse_from(["test"]).retry
}

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
    let policy = default_policy();
    let total: Duration = waits(&policy, 0.5).iter().sum();
    assert!(
        (2.5..3.0).contains(&(total.as_secs_f64() / 86_400.0)),
        "{total:?}"
    );
    let longest: Vec<_> = waits(&policy, 1.0)
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
    (millis(), factors, millis(), 1u32..=1_000, millis()).prop_map(|(initial, factor, max, attempts, age)| {
        RetryPolicy {
            retry_initial: Duration::from_millis(initial),
            retry_factor: factor,
            retry_max: Duration::from_millis(max),
            retry_attempts: attempts,
            retry_max_age: Duration::from_millis(age),
        }
    })
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
