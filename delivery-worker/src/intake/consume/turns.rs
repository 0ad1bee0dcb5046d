//! Which worker takes the frames of a stream.
//!
//! Storing a batch costs nearly the same for one event as for sixteen. If each of `n` workers took every n-th frame, all of them
//! would store batches that are nearly empty. So each stream has one worker that *listens*: it always has a request for frames
//! open. The others *look*: now and then they ask for frames that lie in the stream and were handed to nobody. A worker that
//! finds some looks again at once: the one that listens is away, stands still or cannot keep up.
//!
//! A worker that gives frames back, because it cannot read them or has enough of their kind, only looks for a while. They are for
//! others, and NATS would offer them to a worker that listens.
//!
//! Workers need not agree about who listens. When two of them do, they share the frames. When none does, looks find them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::process::replicas::Replicas;
use shared::wire::stream;
use tokio::time::Instant;

/// How long a worker listens after a look that was not answered. NATS may keep such a look open, as when the consumer is paused
/// or has handed out all that it may. The next look would only be one more.
const LISTENS: Duration = Duration::from_mins(1);

/// How long a worker stands aside after the frames that it gave back are offered again. This is longer than its last requests
/// stay open.
const STANDS_ASIDE: Duration = Duration::from_secs(5);

/// The pause between two looks, when those of all workers at all streams are taken together.
const LOOK: Duration = Duration::from_millis(40);

/// The longest pause between two looks of one worker at one stream.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What this worker knows of the streams and of the workers that take their frames. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    workers: Replicas,
    /// How many streams there are.
    streams: Arc<AtomicU32>,
    /// Until when this worker leaves listening to others.
    aside_until: Arc<Mutex<Option<Instant>>>,
}

/// This worker's part in one stream.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    /// The stream's number.
    number: u32,
    /// Whether the last look has found frames.
    has_found: bool,
    /// Until when it listens because a look was not answered.
    listens_until: Instant,
}

impl Turns {
    /// Among these workers.
    pub(crate) fn new(workers: Replicas) -> Self {
        Self {
            workers,
            streams: Arc::new(AtomicU32::new(1)),
            aside_until: Arc::default(),
        }
    }

    /// Says how many streams there are.
    pub(crate) fn set_streams(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.streams.store(count, Ordering::Relaxed);
    }

    /// Whether no other worker is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.workers.count() == 1
    }

    /// Only looks from now on, if there are other workers: they are to take the frames that are offered again after `pause`, and
    /// those that are offered later.
    pub(crate) fn stand_aside(&self, now: Instant, pause: Duration) {
        let mut until = self.aside_until();
        *until = (*until).max(Some(now + pause + STANDS_ASIDE));
    }

    fn aside_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.aside_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether listening to a stream is up to this worker.
    fn is_listener_of(&self, stream: u32, now: Instant) -> bool {
        self.workers.owns(stream) && self.aside_until().is_none_or(|until| until <= now)
    }

    /// This worker's part in a stream from `now` on.
    pub(crate) fn of(&self, stream: &str, now: Instant) -> Turn {
        Turn {
            turns: self.clone(),
            // A stream whose name has no number has a listener too.
            number: stream::partition(stream).unwrap_or_default(),
            has_found: false,
            listens_until: now,
        }
    }
}

impl Turn {
    /// Whether this worker listens: it has a request open all the time.
    pub(crate) fn listens(&self, now: Instant) -> bool {
        self.turns.is_alone() || now < self.listens_until || self.turns.is_listener_of(self.number, now)
    }

    /// Notes that a look has found frames.
    pub(crate) fn note_found(&mut self) {
        self.has_found = true;
    }

    /// Notes that a look was not answered.
    pub(crate) fn note_unanswered(&mut self, now: Instant) {
        self.listens_until = now + LISTENS;
    }

    /// The pause between the end of a look and the next one. `random`, from 0 to 1, keeps the looks of several workers apart.
    pub(crate) fn look_pause(&mut self, random: f64) -> Duration {
        if std::mem::take(&mut self.has_found) {
            return Duration::ZERO;
        }
        let streams = self.turns.streams.load(Ordering::Relaxed);
        let lookers = self.turns.workers.count().saturating_sub(1);
        let looks = streams.saturating_mul(lookers).max(1);
        let pause = LOOK.saturating_mul(looks).min(LONGEST_PAUSE);
        pause.mul_f64(0.75 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(workers: u32, place: u32, streams: usize) -> Turns {
        let replicas = Replicas::default();
        replicas.set(workers);
        replicas.set_place(place);
        let turns = Turns::new(replicas);
        turns.set_streams(streams);
        turns
    }

    #[test]
    fn a_worker_that_is_alone_listens_to_every_stream() {
        let (turns, now) = (turns(1, 0, 3), Instant::now());
        assert!(turns.is_alone());
        for stream in ["EVENTS-0", "EVENTS-1", "EVENTS-17", "EVENTS-OF-SOMEBODY"] {
            assert!(turns.of(stream, now).listens(now), "{stream}");
        }
    }

    #[test]
    fn of_several_workers_one_listens_to_each_stream_and_each_has_some_streams() {
        let now = Instant::now();
        let all: Vec<_> = (0..3).map(|place| turns(3, place, 6)).collect();
        let listeners = |stream: &str| -> Vec<_> {
            let listens = |turns: &&Turns| turns.of(stream, now).listens(now);
            let places = all.iter().enumerate().filter(|(_, turns)| listens(turns));
            places.map(|(place, _)| place).collect()
        };
        for (stream, place) in [
            ("EVENTS-0", 0_usize),
            ("EVENTS-1", 1),
            ("EVENTS-2", 2),
            ("EVENTS-3", 0),
        ] {
            assert_eq!(listeners(stream), [place], "{stream}");
        }
    }

    #[test]
    fn a_worker_that_finds_frames_looks_again_at_once_and_never_listens() {
        let now = Instant::now();
        let mut turn = turns(2, 1, 1).of("EVENTS-0", now);
        turn.note_found();
        assert!(!turn.listens(now));
        assert_eq!(turn.look_pause(0.5), Duration::ZERO);
        assert_eq!(turn.look_pause(0.5), LOOK, "the last one has found none");
    }

    #[test]
    fn a_worker_whose_look_is_not_answered_listens_for_a_while() {
        let now = Instant::now();
        let mut turn = turns(2, 1, 1).of("EVENTS-0", now);
        assert!(!turn.listens(now));
        turn.note_unanswered(now);
        assert!(turn.listens(now));
        assert!(!turn.listens(now + LISTENS));
    }

    #[test]
    fn a_worker_that_gave_frames_back_leaves_the_streams_to_others_if_there_are_any() {
        let (pause, now) = (Duration::from_secs(2), Instant::now());
        for (workers, listens) in [(1, true), (2, false)] {
            let turns = turns(workers, 0, 1);
            let turn = turns.of("EVENTS-0", now);
            turns.stand_aside(now, pause);
            assert_eq!(turn.listens(now + pause), listens, "{workers}");
            assert!(turn.listens(now + pause + STANDS_ASIDE));
        }
    }

    #[test]
    fn frames_that_are_offered_again_soon_do_not_shorten_the_wait_for_those_that_come_later() {
        let (pause, now) = (Duration::from_secs(5), Instant::now());
        let turns = turns(2, 0, 1);
        let turn = turns.of("EVENTS-0", now);
        turns.stand_aside(now, pause);
        turns.stand_aside(now, Duration::ZERO);
        assert!(!turn.listens(now + pause));
        assert!(turn.listens(now + pause + STANDS_ASIDE));
    }

    #[test]
    fn a_worker_hears_at_once_that_it_is_the_first_or_is_not_any_more() {
        let (workers, now) = (Replicas::default(), Instant::now());
        let turn = Turns::new(workers.clone()).of("EVENTS-0", now);
        assert!(turn.listens(now));
        workers.set(2);
        workers.set_place(1);
        assert!(!turn.listens(now));
        workers.set_place(0);
        assert!(turn.listens(now));
    }

    #[test]
    fn looks_grow_rarer_with_the_streams_and_the_workers_up_to_a_bound() {
        for (workers, streams, millis) in [
            (2, 0, 40),
            (2, 1, 40),
            (2, 4, 160),
            (4, 2, 240),
            (4, 3, 250),
            (99, 99, 250),
        ] {
            let mut turn = turns(workers, 1, streams).of("EVENTS-0", Instant::now());
            let expected = Duration::from_millis(millis);
            assert_eq!(turn.look_pause(0.5), expected, "{workers} {streams}");
            assert_eq!(turn.look_pause(0.0), expected * 3 / 4);
        }
    }
}
