//! Events on their way from their requests to the task that publishes them. It is woken when as many are there as it waits
//! for, and not for each of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::wire::frame::EncodedEvent;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::publish::error::PublishError;

/// One event that waits for its frame's acknowledgement.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The event.
    pub event: EncodedEvent,
    /// When it was handed over.
    pub arrived: Instant,
    /// When its request is answered at the latest.
    pub deadline: Instant,
    /// Where its request waits.
    pub answer: oneshot::Sender<Result<(), PublishError>>,
    /// Its share of what may wait; freed with it.
    pub _room: OwnedSemaphorePermit,
}

/// The events of one stream that have arrived and are not gathered yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    queue: Mutex<Queue>,
    enough: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Pending>,
    /// How many somebody waits for.
    wanted: usize,
    /// Whether nobody takes events any more.
    is_closed: bool,
}

impl Arrivals {
    /// Adds an event.
    ///
    /// # Errors
    /// When nobody takes events any more.
    pub(crate) fn push(&self, event: Pending) -> Result<(), PublishError> {
        let mut queue = self.queue();
        if queue.is_closed {
            return Err(PublishError::Stopping);
        }
        queue.events.push_back(event);
        let is_enough = queue.events.len() == queue.wanted;
        drop(queue);
        if is_enough {
            self.enough.notify_one();
        }
        Ok(())
    }

    /// Waits until `wanted` events are there. Only one may wait at a time.
    pub(super) async fn wait_for(&self, wanted: usize) {
        while !self.has(wanted) {
            self.enough.notified().await;
        }
    }

    fn has(&self, wanted: usize) -> bool {
        let mut queue = self.queue();
        queue.wanted = wanted;
        queue.events.len() >= wanted
    }

    /// Moves the oldest events, at most `most`, to the end of `to`.
    pub(super) fn take(&self, most: usize, to: &mut VecDeque<Pending>) {
        let mut queue = self.queue();
        let count = most.min(queue.events.len());
        to.extend(queue.events.drain(..count));
    }

    /// Takes no more events, and gives those up that are there.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        let given_up = std::mem::take(&mut queue.events);
        drop(queue);
        // Their requests are answered now.
        drop(given_up);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use shared::domain::event::Event;
    use tokio::sync::Semaphore;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    impl Pending {
        /// An event for whose answer nobody waits.
        pub(crate) fn sample(room: &Arc<Semaphore>) -> Self {
            let arrived = Instant::now();
            Self {
                event: EncodedEvent::new(&Event::sample()),
                arrived,
                deadline: arrived + Duration::from_secs(1),
                answer: oneshot::channel().0,
                _room: room.clone().try_acquire_owned().expect("there is room"),
            }
        }
    }

    #[tokio::test]
    async fn who_waits_for_several_is_woken_when_they_are_there_and_takes_no_more_than_wanted() {
        let (arrivals, room) = (Arrivals::default(), Arc::new(Semaphore::new(4)));
        let mut waiting = pin!(arrivals.wait_for(3));
        for _ in 0..3 {
            assert!(waiting.as_mut().now_or_never().is_none());
            arrivals.push(Pending::sample(&room)).expect("it is open");
        }
        waiting.await;
        arrivals.push(Pending::sample(&room)).expect("it is open");
        arrivals.wait_for(4).await;
        let mut taken = VecDeque::new();
        arrivals.take(3, &mut taken);
        assert_eq!(taken.len(), 3);
        arrivals.take(usize::MAX, &mut taken);
        assert_eq!(taken.len(), 4);
        assert!(arrivals.wait_for(1).now_or_never().is_none());
    }

    #[test]
    fn what_nobody_will_take_is_given_up_and_refused() {
        let (arrivals, room) = (Arrivals::default(), Arc::new(Semaphore::new(2)));
        let (answer, mut answered) = oneshot::channel();
        let event = Pending {
            answer,
            ..Pending::sample(&room)
        };
        arrivals.push(event).expect("it is open");
        assert_eq!(answered.try_recv(), Err(TryRecvError::Empty));
        arrivals.close();
        assert_eq!(answered.try_recv(), Err(TryRecvError::Closed));
        let refused = arrivals.push(Pending::sample(&room));
        assert_eq!(refused, Err(PublishError::Stopping));
    }
}
