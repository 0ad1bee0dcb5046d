//! Pauses after batches, in which frames gather: one statement does the work of several. A frame that comes alone does not
//! meet one.
//!
//! A worker that is alone pauses 0.5 ms for each event of the batch, 3 ms at least and 8 ms at most. At 2 000 events a second
//! or more its batches grow until they hold the events of 8 ms, 16 or more. At fewer the pause comes to 3 ms. At 200 a second one
//! event comes in 5 ms, and seldom meets it.
//!
//! Of `n` workers each gets every n-th frame. By the same rule each of four would store the 1.5 events of 3 ms again and again,
//! and a statement costs nearly the same for 1.5 events as for 16. So a batch of `b` events stands for `n × b`: so many came to
//! all workers since the batch before. If that is one in [`APART`] or more, the pause is [`APART`] for each of them. Otherwise it
//! is that of a worker that is alone. At 2 000 a second it grows: the 1.5 events of 3 ms stand for 6 and make it 4.5 ms, their
//! 2.25 events make it 6.75 ms, and so on. At 200 a second each of two workers gets one event in 10 ms. It stands for two, which
//! would have had to come within 1.5 ms, so the pause is 3 ms.
//!
//! The longest pause is 12 ms with two workers and 16 ms with more; an event waits for half of it. At 2 000 a second a batch
//! then holds 12 events with two workers, and 8 with four. A count of workers that is out of date costs such waits, or some
//! processor time.

use std::time::Duration;

use async_nats::jetstream::Message;
use shared::process::replicas::Replicas;
use shared::wire;
use tokio::time::Instant;

use crate::intake::batch::MAX_BATCH_FRAMES;

/// The pause of a worker that is alone: for each event, and at least and at most.
const PER_EVENT: Duration = Duration::from_micros(500);
const SHORTEST: Duration = Duration::from_millis(3);
const LONGEST: Duration = Duration::from_millis(8);

/// Several workers are under load when the events of all come this long after one another, or faster: at 1 333 a second.
const APART: Duration = Duration::from_micros(750);

/// How much longer each further worker makes the longest pause, and up to what.
const LONGER: Duration = Duration::from_millis(4);
const LONGEST_OF_MANY: Duration = Duration::from_millis(16);

/// The pauses of one stream.
#[derive(Debug)]
pub(crate) struct Pauses {
    workers: Replicas,
    /// When the last batch came.
    last: Option<Instant>,
}

impl Pauses {
    /// Of a worker that is one of so many.
    pub(crate) fn new(workers: Replicas) -> Self {
        Self { workers, last: None }
    }

    /// How long the next batch gathers after one that comes `now`.
    pub(crate) fn after(&mut self, batch: &[Message], now: Instant) -> Duration {
        let since = self.last.replace(now).map(|last| now - last);
        if batch.len() >= MAX_BATCH_FRAMES {
            return Duration::ZERO;
        }
        let events: usize = batch
            .iter()
            .map(|message| wire::frame::count(&message.payload))
            .sum();
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        pause(events, since, self.workers.count())
    }
}

/// The pause after a batch of `events` which came `since` the one before; None is the first one.
fn pause(events: u32, since: Option<Duration>, workers: u32) -> Duration {
    let of_all = APART.saturating_mul(events.saturating_mul(workers));
    if workers <= 1 || since.is_none_or(|since| since > of_all) {
        return PER_EVENT.saturating_mul(events).clamp(SHORTEST, LONGEST);
    }
    let longest = LONGEST.saturating_add(LONGER.saturating_mul(workers - 1));
    of_all.clamp(SHORTEST, longest.min(LONGEST_OF_MANY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The pauses after twenty batches at so many events a second in all. Each worker takes its share of them, and waits for one
    /// at least.
    fn pauses(per_second: u32, workers: u32) -> Vec<Duration> {
        let one_event = Duration::from_secs(1) * workers / per_second;
        let mut since = one_event;
        let next = |_| {
            let of_all = since.as_micros() * u128::from(per_second) / 1_000_000;
            let events = u32::try_from(of_all / u128::from(workers)).unwrap();
            let pause = pause(events.max(1), Some(since), workers);
            since = pause.max(one_event);
            pause
        };
        (0..20).map(next).collect()
    }

    #[test]
    fn a_worker_that_is_alone_pauses_by_the_events_of_its_batch_whenever_it_came() {
        for since in [None, Some(millis(1)), Some(millis(10_000))] {
            for (events, expected) in [(0, 3), (1, 3), (6, 3), (10, 5), (16, 8), (u32::MAX, 8)] {
                assert_eq!(pause(events, since, 1), millis(expected), "{events} {since:?}");
            }
            assert_eq!(pause(7, since, 1), Duration::from_micros(3_500));
        }
    }

    #[test]
    fn several_workers_count_the_events_of_all_and_wait_for_fuller_batches() {
        for (workers, longest) in [(2, 12), (3, 16), (4, 16), (100, 16), (u32::MAX, 16)] {
            assert_eq!(pause(u32::MAX, Some(millis(3)), workers), millis(longest));
        }
        assert_eq!(pause(4, Some(millis(3)), 2), millis(6));
        assert_eq!(pause(2, Some(millis(3)), 4), millis(6));
        assert_eq!(pauses(2_000, 2).last(), Some(&millis(12)));
        assert_eq!(pauses(4_000, 4).last(), Some(&millis(16)));
    }

    #[test]
    fn at_a_low_rate_the_pause_is_the_shortest_with_any_number_of_workers() {
        for workers in [1, 2, 3, 4, 8, 64] {
            let each = pauses(200, workers);
            assert!(each.iter().all(|pause| *pause == SHORTEST), "{workers}: {each:?}");
        }
    }

    #[test]
    fn what_comes_at_once_and_then_nothing_makes_no_pause_longer() {
        for workers in [2, 3, 4, 8, 64] {
            // Ten events in one request, each second.
            assert_eq!(pause(10, Some(millis(1_000)), workers), millis(5));
            assert_eq!(
                pause(10, None, workers),
                millis(5),
                "the first batch shows nothing"
            );
        }
    }
}
