//! Gathering events into frames.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::process::replicas::Replicas;
use shared::wire::frame;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::publish::arrivals::{Arrivals, Pending};
use crate::publish::error::PublishError;
use crate::publish::load::{LONG_WAIT, Load, Wait};

/// How often a frame that is ready lets others go first, as long as more events come.
const MAX_YIELDS: usize = 4;

/// The events of one stream that are not in a frame yet.
#[derive(Debug)]
pub(crate) struct Gathering {
    arrivals: Arc<Arrivals>,
    gathered: VecDeque<Pending>,
    load: Load,
}

/// Whoever hands over an event after the end is told so.
impl Drop for Gathering {
    fn drop(&mut self) {
        self.arrivals.close();
    }
}

impl Gathering {
    /// Of events that arrive here, at one of so many replicas.
    pub(crate) fn new(arrivals: Arc<Arrivals>, replicas: Replicas) -> Self {
        Self {
            arrivals,
            gathered: VecDeque::new(),
            load: Load::new(replicas, Instant::now()),
        }
    }

    /// Waits for events and returns the next frame, of at least one. None after the stop.
    pub(crate) async fn next_frame(&mut self, stop: &CancellationToken) -> Option<Vec<Pending>> {
        loop {
            if self.gathered.is_empty() {
                stop.run_until_cancelled(self.arrivals.wait_for(1)).await?;
                self.arrivals.take(1, &mut self.gathered);
            }
            self.gather().await;
            if let Some(wait) = self.load.next_wait() {
                self.wait(wait).await;
            }
            let frame = self.take_frame();
            if !frame.is_empty() {
                self.load.note(frame.len(), Instant::now());
                return Some(frame);
            }
        }
    }

    /// Takes what has arrived, and yields to the runtime as long as that brings more events. Every frame costs NATS a sync, so
    /// under load fewer and larger frames leave more of the machine to requests. A single event is delayed by
    /// microseconds.
    async fn gather(&mut self) {
        for _ in 0..MAX_YIELDS {
            let before = self.gathered.len();
            tokio::task::yield_now().await;
            self.arrivals.take(usize::MAX, &mut self.gathered);
            if self.gathered.len() == before || self.gathered.len() >= frame::MAX_EVENTS {
                return;
            }
        }
    }

    /// Gathers until the frame is as large as those before, and longer if that pays.
    async fn wait(&mut self, wait: Wait) {
        let begun = Instant::now();
        self.gather_until(wait.events, begun + wait.short).await;
        let Some(long) = wait.long else {
            return;
        };
        let (before, mut last) = (self.gathered.len(), Instant::now());
        loop {
            let count = self.gathered.len();
            let until = (last + long.gap).min(begun + LONG_WAIT);
            self.gather_until(frame::MAX_EVENTS, until).await;
            match self.gathered.back() {
                Some(newest) if self.gathered.len() > count => last = newest.arrived,
                _ => break,
            }
        }
        if self.gathered.len() < long.full.max(before + before / 2) {
            self.load.go_without();
        }
    }

    /// Gathers until so many events are there in all, or until then.
    async fn gather_until(&mut self, events: usize, until: Instant) {
        let missing = events.saturating_sub(self.gathered.len());
        let _ = timeout_at(until, self.arrivals.wait_for(missing)).await;
        self.arrivals.take(missing, &mut self.gathered);
    }

    /// Takes the oldest events that fit into a frame; those past their deadline are answered instead.
    fn take_frame(&mut self) -> Vec<Pending> {
        let now = Instant::now();
        let most = self.gathered.len().min(frame::MAX_EVENTS);
        let (mut frame, mut bytes) = (Vec::with_capacity(most), 0);
        while let Some(next) = self.gathered.pop_front() {
            if next.deadline <= now {
                let _ = next.answer.send(Err(PublishError::TimedOut));
                continue;
            }
            bytes += next.event.len();
            if !frame.is_empty() && (bytes > frame::MAX_BYTES || frame.len() == frame::MAX_EVENTS) {
                self.gathered.push_front(next);
                break;
            }
            frame.push(next);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::publish::load::{FRAMES_WITHOUT, FULL, LOADED, SHORT_WAIT};

    fn one_of(count: u32) -> Replicas {
        let replicas = Replicas::default();
        replicas.set(count);
        replicas
    }

    /// Sends events after one another to a replica that is alone, each so long after the one before, and returns the sizes of
    /// the frames.
    async fn frame_sizes(pauses: &[Duration]) -> Vec<usize> {
        frame_sizes_of(1, pauses).await
    }

    /// The same at one of so many replicas.
    async fn frame_sizes_of(replicas: u32, pauses: &[Duration]) -> Vec<usize> {
        let arrivals = Arc::<Arrivals>::default();
        let room = Arc::new(Semaphore::new(pauses.len()));
        let mut gathering = Gathering::new(arrivals.clone(), one_of(replicas));
        let stop = CancellationToken::new();
        let end = stop.clone();
        let sending = async move {
            for pause in pauses {
                if !pause.is_zero() {
                    tokio::time::sleep(*pause).await;
                }
                arrivals.push(Pending::sample(&room)).expect("somebody gathers");
            }
            tokio::time::sleep(SHORT_WAIT * 10).await;
            end.cancel();
        };
        let gathering = async {
            let mut sizes = Vec::new();
            while let Some(frame) = gathering.next_frame(&stop).await {
                sizes.push(frame.len());
            }
            sizes
        };
        tokio::join!(sending, gathering).1
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_large_frame_the_next_waits_until_it_is_as_large_and_no_longer_than_a_moment() {
        let (together, soon, late) = (Duration::ZERO, SHORT_WAIT / 10, SHORT_WAIT * 10);
        let large = [together; LOADED];
        let few = [late, soon, late];
        assert_eq!(frame_sizes(&[&large[..], &few].concat()).await, [LOADED, 2, 1]);
        let as_many = [late, soon, together, together];
        let sizes = frame_sizes(&[&large[..], &as_many].concat()).await;
        assert_eq!(sizes, [LOADED, LOADED]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_sends_an_event_it_waits_for_the_stop() {
        const MOST_POLLS: usize = 100;
        let (mut gathering, stop) = (
            Gathering::new(Arc::default(), one_of(1)),
            CancellationToken::new(),
        );
        let mut polls = 0;
        let busy = poll_fn(|_| {
            polls += 1;
            if polls > MOST_POLLS {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            _ = gathering.next_frame(&stop) => panic!("nobody has sent an event"),
            () = busy => panic!("it looks for events again and again"),
            // The clock stands still while somebody has something to do.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        stop.cancel();
        assert!(gathering.next_frame(&stop).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_small_frame_the_next_goes_at_once() {
        let (together, soon) = (Duration::ZERO, SHORT_WAIT / 10);
        let sizes = frame_sizes(&[together, together, together, soon, soon]).await;
        assert_eq!(sizes, [3, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_grow_while_many_events_come_and_not_while_few_do() {
        let start = [Duration::ZERO; LOADED];
        // So many events every millisecond, which is as fine as the runtime's clock is.
        let steady = |events: usize| {
            let mut each = vec![Duration::ZERO; events];
            each[0] = Duration::from_millis(1);
            [&start[..], &each.repeat(200)].concat()
        };
        let many = frame_sizes(&steady(5)).await;
        let last = &many[many.len() - 20..many.len() - 1];
        assert!(last.iter().all(|size| *size >= 15), "{many:?}");
        let few = frame_sizes(&steady(1)).await;
        assert!(few.iter().all(|size| *size < FULL), "{few:?}");
        assert!(few.len() > 100, "{few:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_grow_at_each_of_two_replicas_that_have_the_load_of_one_together() {
        let (together, later) = (Duration::ZERO, Duration::from_millis(2));
        let each = [later, together, together].repeat(200);
        let alone = frame_sizes_of(1, &each).await;
        assert!(alone.iter().all(|size| *size == 3), "{alone:?}");
        let one_of_two = frame_sizes_of(2, &each).await;
        let last = &one_of_two[one_of_two.len() - 20..one_of_two.len() - 1];
        assert!(last.iter().all(|size| *size >= 6), "{one_of_two:?}");
    }

    /// Senders that each wait for their answer send together again and again.
    #[tokio::test(start_paused = true)]
    async fn senders_that_wait_for_the_frame_are_not_kept_waiting() {
        for replicas in [1, 2, 4] {
            let waited = time_of_senders(replicas).await;
            assert!(waited <= LONG_WAIT, "{replicas}: {waited:?}");
        }
    }

    /// How long such senders wait in all.
    async fn time_of_senders(replicas: u32) -> Duration {
        const SENDERS: usize = 32;
        let arrivals = Arc::<Arrivals>::default();
        let mut gathering = Gathering::new(arrivals.clone(), one_of(replicas));
        let room = Arc::new(Semaphore::new(SENDERS));
        let begun = Instant::now();
        for _ in 0..FRAMES_WITHOUT {
            for _ in 0..SENDERS {
                // The frame before has freed its room.
                arrivals.push(Pending::sample(&room)).expect("somebody gathers");
            }
            let frame = gathering.next_frame(&CancellationToken::new()).await;
            assert_eq!(frame.map(|frame| frame.len()), Some(SENDERS));
        }
        begun.elapsed()
    }
}
