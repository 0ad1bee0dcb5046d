//! Doing a chore again and again.

use std::time::Duration;

use shared::db::limited::within;
use shared::process::replicas::{LATER, Replicas};
use tokio_util::sync::CancellationToken;

use super::pass_over;

/// How long a round of a chore may take, unless it has a limit of its own. Only the last statement is lost then.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// Does `chore` at once and then at every `interval` until the stop. What fails because Postgres is away, or takes longer
/// than `limit`, is logged and left to the next time.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away: the worker is broken.
pub(super) async fn repeat(
    name: &'static str,
    interval: Duration,
    limit: Duration,
    stop: CancellationToken,
    chore: impl AsyncFn() -> Result<(), sqlx::Error>,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let round = stop.run_until_cancelled(within(limit, chore())).await;
        done(name, round)?;
    }
    Ok(())
}

/// The same for a `chore` that one worker is enough for, and that says whether it found work. When it did, the next round comes
/// after `interval`. Otherwise it comes later the more `workers` there are: all together then look about as often as one that is
/// alone.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away: the worker is broken.
pub(super) async fn take_turns(
    name: &'static str,
    interval: Duration,
    workers: Replicas,
    stop: CancellationToken,
    chore: impl AsyncFn() -> Result<bool, sqlx::Error>,
) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let round = stop.run_until_cancelled(within(LIMIT, chore())).await;
        let pause = if done(name, round)? == Some(true) {
            interval
        } else {
            idle_pause(interval, &workers, rand::random())
        };
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

/// The pause after a round without work. The `random` number, from 0 to 1, makes it a quarter shorter or longer when there are
/// several `workers`: those that were started together would all look at the same time.
fn idle_pause(interval: Duration, workers: &Replicas, random: f64) -> Duration {
    let pause = workers.pause(interval);
    if workers.count() == 1 {
        return pause;
    }
    pause.mul_f64(0.75 + random / 2.0).min(interval + LATER)
}

/// What came of a round; `None` when it was interrupted, by the stop or because Postgres is away.
fn done<T>(name: &'static str, round: Option<Result<T, sqlx::Error>>) -> anyhow::Result<Option<T>> {
    match round.transpose() {
        Ok(done) => Ok(done),
        Err(error) => pass_over(name, error.into()).map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn workers(count: u32) -> Replicas {
        let workers = Replicas::default();
        workers.set(count);
        workers
    }

    #[test]
    fn a_worker_that_is_alone_looks_at_every_interval() {
        for count in [0, 1] {
            assert_eq!(idle_pause(SECOND, &workers(count), 0.9), SECOND);
        }
    }

    #[test]
    fn several_workers_without_work_look_together_about_as_often_as_one() {
        for count in [2, 3, 4] {
            assert_eq!(idle_pause(SECOND, &workers(count), 0.5), SECOND * count);
        }
        let pauses = [0.0, 1.0].map(|random| idle_pause(SECOND, &workers(4), random));
        assert_eq!(pauses, [SECOND * 3, SECOND * 5]);
    }

    #[test]
    fn no_look_comes_much_later_however_many_workers_are_counted() {
        for interval in [SECOND, Duration::from_hours(1)] {
            for count in [100, u32::MAX] {
                for random in [0.5, 1.0] {
                    assert_eq!(idle_pause(interval, &workers(count), random), interval + LATER);
                }
            }
        }
    }
}
