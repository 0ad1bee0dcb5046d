//! Publishing by group commit.
//!
//! JetStream syncs every message to disk, and one sync costs the same for one event as for hundreds. So each
//! stream has one task that keeps one frame in flight; the events that arrive meanwhile gather, and the
//! frame's acknowledgement releases all its requests and sends what has gathered as the next frame. Under load the next
//! one waits a moment until it is as large as the one before: a frame costs this service, NATS and the workers many
//! times what an event in it costs. A system that is not under [load](crate::publish::load) sends frames of one event, at once.
//!
//! Imports `config`. Knows no HTTP.

pub(crate) mod error;
mod arrivals;
mod load;
pub(crate) mod gathering;
pub(crate) mod send;
pub(crate) mod tally;
pub(crate) mod lane;
pub(crate) mod wedge;
pub(crate) mod streams;

use std::sync::Arc;
use std::time::Duration;

use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::Readiness;
use shared::wire::frame::EncodedEvent;
use shared::wire::stream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::publish::arrivals::{Arrivals, Pending};
use crate::publish::error::PublishError;
use crate::publish::gathering::Gathering;
use crate::publish::lane::Sending;
use crate::publish::tally::Tally;
use crate::publish::wedge::Watched;

/// What an event costs in memory beyond its bytes.
const QUEUE_OVERHEAD: usize = 256;

/// Hands events to the tasks that publish them.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    partitions: Arc<[Arc<Arrivals>]>,
    // Bounds the queues in bytes, whatever the size of the events.
    room: Arc<Semaphore>,
    room_bytes: u32,
    timeout: Duration,
}

impl Publisher {
    /// Starts one publishing task for each partition, and what watches whether their streams store anything. The `replicas` take
    /// shares of the same load.
    pub(crate) fn start(
        config: &Config,
        nats: &Nats,
        replicas: &Replicas,
        readiness: Readiness,
        tasks: &Tasks,
    ) -> Self {
        let (mut partitions, mut watched) = (Vec::new(), Vec::new());
        for partition in 0..config.streams.event_streams {
            let arrivals = Arc::<Arrivals>::default();
            let (subject, tally) = (stream::subject(partition), Arc::<Tally>::default());
            let sending = Sending::new(nats, subject.clone(), tally.clone());
            let gathering = Gathering::new(arrivals.clone(), replicas.clone());
            let lane = lane(gathering, sending, tasks.stop().clone());
            tasks.spawn_long_lived("publisher", lane);
            partitions.push(arrivals);
            watched.push(Watched::new(stream::name(partition), subject, tally));
        }
        let watching = wedge::watch(watched, nats.clone(), readiness, tasks.stop().clone());
        tasks.spawn_long_lived("storage watch", watching);
        Self {
            partitions: partitions.into(),
            room: Arc::new(Semaphore::new(config.publish.publish_queue_bytes as usize)),
            room_bytes: config.publish.publish_queue_bytes,
            timeout: config.publish.publish_timeout,
        }
    }

    /// How much of the queue is taken, from 0 to 1.
    pub(crate) fn used(&self) -> f64 {
        let free = u32::try_from(self.room.available_permits()).unwrap_or(u32::MAX);
        1.0 - f64::from(free) / f64::from(self.room_bytes)
    }

    /// Hands an event over. The events of one ordering key are published in the order in which they are handed over.
    pub(crate) fn enqueue(&self, event: EncodedEvent) -> Enqueued {
        Enqueued(self.try_enqueue(event))
    }

    fn try_enqueue(&self, event: EncodedEvent) -> Result<Answer, PublishError> {
        let cost = u32::try_from(event.len() + QUEUE_OVERHEAD).map_err(|_| PublishError::QueueFull)?;
        let room = self
            .room
            .clone()
            .try_acquire_many_owned(cost)
            .map_err(|_| PublishError::QueueFull)?;
        let count =
            u32::try_from(self.partitions.len()).expect("the configuration allows 256 streams at most");
        let partition = event.spread().partition(count);
        let (answer, answered) = oneshot::channel();
        let arrived = Instant::now();
        self.partitions[partition as usize].push(Pending {
            event,
            arrived,
            deadline: arrived + self.timeout,
            answer,
            _room: room,
        })?;
        Ok(answered)
    }
}

/// Comes when an event's frame was acknowledged, or given up.
type Answer = oneshot::Receiver<Result<(), PublishError>>;

/// An event that was handed over, or could not be.
#[derive(Debug)]
pub(crate) struct Enqueued(Result<Answer, PublishError>);

impl Enqueued {
    /// Returns when the stream has the event on disk. A refusal is counted.
    ///
    /// # Errors
    /// [`PublishError`].
    pub(crate) async fn stored(self) -> Result<(), PublishError> {
        let outcome = match self.0 {
            Ok(answer) => answer.await.unwrap_or(Err(PublishError::Stopping)),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            metrics::counter!("penstock_publish_refusals_total", "reason" => error.code()).increment(1);
        }
        outcome
    }
}

/// One stream's publishing task.
async fn lane(mut gathering: Gathering, mut sending: Sending, stop: CancellationToken) -> anyhow::Result<()> {
    while let Some(mut frame) = gathering.next_frame(&stop).await {
        let outcome = sending.publish(&mut frame).await;
        for pending in frame {
            // A request that gave up has dropped its end; its event is stored all the same.
            let _ = pending.answer.send(outcome);
        }
    }
    Ok(())
}
