//! Gathering events into frames.

use std::collections::VecDeque;
use std::time::Duration;

use shared::wire::frame::{self, EncodedEvent};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::publish::error::PublishError;

/// How often a frame that is ready lets others go first, as long as more events come.
const MAX_YIELDS: usize = 4;

/// A frame of this many events shows load. Then the next one may wait this long to become as large: the shortest time that
/// the runtime's timers can wait.
const LOADED: usize = 4;
const MAX_WAIT: Duration = Duration::from_millis(1);

/// One event that waits for its frame's acknowledgement.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The event.
    pub event: EncodedEvent,
    /// When its request is answered at the latest.
    pub deadline: Instant,
    /// Where its request waits.
    pub answer: oneshot::Sender<Result<(), PublishError>>,
    /// Its share of what may wait; freed with it.
    pub _room: OwnedSemaphorePermit,
}

/// The events of one stream that are not in a frame yet.
#[derive(Debug)]
pub(crate) struct Gathering {
    arriving: mpsc::UnboundedReceiver<Pending>,
    gathered: VecDeque<Pending>,
    /// Events in the last frame.
    last: usize,
}

impl Gathering {
    /// Of events that arrive here.
    pub(crate) fn new(arriving: mpsc::UnboundedReceiver<Pending>) -> Self {
        Self {
            arriving,
            gathered: VecDeque::new(),
            last: 0,
        }
    }

    /// Waits for events and returns the next frame, of at least one. None after the stop.
    pub(crate) async fn next_frame(&mut self, stop: &CancellationToken) -> Option<Vec<Pending>> {
        loop {
            if self.gathered.is_empty() {
                match stop.run_until_cancelled(self.arriving.recv()).await? {
                    Some(first) => self.gathered.push_back(first),
                    // Nobody is left who could send one.
                    None => stop.cancelled().await,
                }
            }
            self.gather().await;
            if self.last >= LOADED {
                self.wait_for(self.last).await;
            }
            let frame = self.take_frame();
            if !frame.is_empty() {
                self.last = frame.len();
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
            while let Ok(pending) = self.arriving.try_recv() {
                self.gathered.push_back(pending);
            }
            if self.gathered.len() == before || self.gathered.len() >= frame::MAX_EVENTS {
                return;
            }
        }
    }

    /// Gathers until `count` events are there, for [`MAX_WAIT`] at most.
    async fn wait_for(&mut self, count: usize) {
        let deadline = Instant::now() + MAX_WAIT;
        while self.gathered.len() < count {
            match timeout_at(deadline, self.arriving.recv()).await {
                Ok(Some(pending)) => self.gathered.push_back(pending),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Takes the oldest events that fit into a frame; those past their deadline are answered instead.
    fn take_frame(&mut self) -> Vec<Pending> {
        let now = Instant::now();
        let (mut frame, mut bytes) = (Vec::new(), 0);
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
    use std::sync::Arc;

    use shared::domain::event::Event;
    use tokio::sync::Semaphore;

    use super::*;

    /// Sends events after one another, each so long after the one before, and returns the sizes of the frames.
    async fn frame_sizes(pauses: &[Duration]) -> Vec<usize> {
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(pauses.len()));
        let mut gathering = Gathering::new(arriving);
        let stop = CancellationToken::new();
        let end = stop.clone();
        let sending = async move {
            for pause in pauses {
                if !pause.is_zero() {
                    tokio::time::sleep(*pause).await;
                }
                let event = EncodedEvent::new(&Event::sample());
                let pending = Pending {
                    event,
                    deadline: Instant::now() + Duration::from_secs(1),
                    answer: oneshot::channel().0,
                    _room: room.clone().try_acquire_owned().expect("there is room"),
                };
                arrivals.send(pending).expect("somebody gathers");
            }
            tokio::time::sleep(MAX_WAIT * 10).await;
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
        let (together, soon, late) = (Duration::ZERO, MAX_WAIT / 10, MAX_WAIT * 10);
        let large = [together; LOADED];
        let few = [late, soon, late];
        assert_eq!(frame_sizes(&[&large[..], &few].concat()).await, [LOADED, 2, 1]);
        let as_many = [late, soon, together, together];
        let sizes = frame_sizes(&[&large[..], &as_many].concat()).await;
        assert_eq!(sizes, [LOADED, LOADED]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_small_frame_the_next_goes_at_once() {
        let (together, soon) = (Duration::ZERO, MAX_WAIT / 10);
        let sizes = frame_sizes(&[together, together, together, soon, soon]).await;
        assert_eq!(sizes, [3, 1, 1]);
    }
}
