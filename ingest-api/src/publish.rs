//! Publishing by group commit.
//!
//! JetStream syncs every message to disk, and one sync costs the same for one event as for hundreds. So each
//! stream has one task that keeps one frame in flight; the events that arrive meanwhile gather, and the
//! frame's acknowledgement releases all its requests and sends what has gathered as the next frame. Under load the next
//! one waits a moment until it is as large as the one before: a frame costs this service, NATS and the workers about
//! ten times what an event in it costs. A system that is not under load sends frames of one event, at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishError as AckError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use shared::frame::{self, EncodedEvent};
use shared::id::OrgId;
use shared::nats::Nats;
use shared::shutdown::Tasks;
use shared::stream;
use shared::telemetry::Readiness;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{PublishConfig, StreamsConfig};
use crate::error::ApiError;

/// The readiness condition that [`keep_streams`] fulfils.
pub const STREAMS_READY: &str = "event streams";

/// How long one send waits for its acknowledgement before the same frame, with the same id, is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(900);

/// Pause before a frame is sent again that the server has refused or nobody has received.
const RESEND_PAUSE: Duration = Duration::from_millis(50);

/// How often a frame that is ready lets others go first, as long as more events come.
const MAX_YIELDS: usize = 4;

/// A frame of so many events tells of load, and the next one may wait so long until it has as many: the shortest time
/// that the runtime's timers know.
const LOADED: usize = 4;
const MAX_WAIT: Duration = Duration::from_millis(1);

/// What an event costs in memory beyond its bytes.
const QUEUE_OVERHEAD: usize = 256;

/// Why an event was not accepted. It may have been stored all the same when it `timed out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// No acknowledgement in time: NATS is away or overloaded.
    TimedOut,
    /// The stream is at its byte limit, or NATS at its disk limit.
    Full,
    /// Too much is waiting to be published already.
    QueueFull,
    /// The service is stopping.
    Stopping,
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let (reason, retry_after) = match error {
            PublishError::TimedOut => ("the event stream does not answer", 2),
            PublishError::Full => ("the event stream is full; deliveries are behind", 5),
            PublishError::QueueFull => ("too many events are waiting to be stored", 1),
            PublishError::Stopping => ("this replica is stopping", 1),
        };
        metrics::counter!("publish_refusals_total", "reason" => reason).increment(1);
        Self::Unavailable { reason, retry_after }
    }
}

/// One event that waits for its frame's acknowledgement.
#[derive(Debug)]
struct Pending {
    event: EncodedEvent,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), PublishError>>,
    _room: OwnedSemaphorePermit,
}

/// Hands events to the tasks that publish them.
#[derive(Clone, Debug)]
pub struct Publisher {
    partitions: Arc<[mpsc::UnboundedSender<Pending>]>,
    // What bounds the queues: a count of bytes, whatever the events' sizes.
    room: Arc<Semaphore>,
    timeout: Duration,
}

impl Publisher {
    /// Starts one publishing task for each partition.
    pub fn start(config: &PublishConfig, partitions: u32, nats: &Nats, tasks: &Tasks) -> Self {
        let senders = (0..partitions).map(|partition| {
            let (sender, events) = mpsc::unbounded_channel();
            let lane = Lane {
                subject: stream::subject(partition),
                jetstream: nats.jetstream(),
                connections: nats.connections(),
                nats: nats.clone(),
                events,
                gathered: VecDeque::new(),
            };
            tasks.spawn_long_lived("publisher", lane.run(tasks.stop().clone()));
            sender
        });
        Self {
            partitions: senders.collect(),
            room: Arc::new(Semaphore::new(config.publish_queue_bytes as usize)),
            timeout: config.publish_timeout,
        }
    }

    /// Publishes an event; returns when the stream has it on disk.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, org_id: OrgId, event: EncodedEvent) -> Result<(), PublishError> {
        self.enqueue(org_id, event)?
            .await
            .unwrap_or(Err(PublishError::Stopping))
    }

    /// Publishes events of one organisation, in their order; each has an outcome of its own.
    pub async fn publish_all(
        &self,
        org_id: OrgId,
        events: Vec<EncodedEvent>,
    ) -> Vec<Result<(), PublishError>> {
        let waiting: Vec<_> = events
            .into_iter()
            .map(|event| self.enqueue(org_id, event))
            .collect();
        let mut outcomes = Vec::with_capacity(waiting.len());
        for answered in waiting {
            outcomes.push(match answered {
                Ok(answered) => answered.await.unwrap_or(Err(PublishError::Stopping)),
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    fn enqueue(&self, org_id: OrgId, event: EncodedEvent) -> Result<Answer, PublishError> {
        let cost = u32::try_from(event.len() + QUEUE_OVERHEAD).map_err(|_| PublishError::QueueFull)?;
        let room = self
            .room
            .clone()
            .try_acquire_many_owned(cost)
            .map_err(|_| PublishError::QueueFull)?;
        let count =
            u32::try_from(self.partitions.len()).expect("the configuration allows 256 streams at most");
        let partition = stream::partition(org_id, count);
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            event,
            deadline: Instant::now() + self.timeout,
            answer,
            _room: room,
        };
        self.partitions[partition as usize]
            .send(pending)
            .map_err(|_| PublishError::Stopping)?;
        Ok(answered)
    }
}

/// Comes when an event's frame was acknowledged, or given up.
type Answer = oneshot::Receiver<Result<(), PublishError>>;

/// One stream's publishing task.
struct Lane {
    subject: String,
    jetstream: jetstream::Context,
    nats: Nats,
    connections: watch::Receiver<u64>,
    events: mpsc::UnboundedReceiver<Pending>,
    gathered: VecDeque<Pending>,
}

impl Lane {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut arrived = Vec::new();
        // Events in the last frame.
        let mut last = 0;
        loop {
            if self.gathered.is_empty() {
                let received = stop
                    .run_until_cancelled(self.events.recv_many(&mut arrived, frame::MAX_EVENTS))
                    .await;
                if received.is_none() {
                    return Ok(());
                }
                self.gathered.extend(arrived.drain(..));
            }
            self.gather().await;
            if last >= LOADED {
                self.wait_for(last).await;
            }
            let frame = self.next_frame();
            if frame.is_empty() {
                continue;
            }
            last = frame.len();
            let outcome = self.publish(&frame).await;
            for pending in frame {
                // A request that gave up has dropped its end; its event is stored all the same.
                let _ = pending.answer.send(outcome);
            }
        }
    }

    /// Gathers what has arrived, and lets the runtime first do whatever it has to do, as long as that brings more.
    /// Every frame costs the server a sync: under load fewer and larger ones leave more of the machine to the
    /// requests. An event that comes alone is held up for microseconds.
    async fn gather(&mut self) {
        for _ in 0..MAX_YIELDS {
            let before = self.gathered.len();
            tokio::task::yield_now().await;
            while let Ok(pending) = self.events.try_recv() {
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
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(pending)) => self.gathered.push_back(pending),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Takes the oldest events that fit into a frame; those past their deadline are answered instead.
    fn next_frame(&mut self) -> Vec<Pending> {
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

    /// Sends one frame until it is acknowledged or its oldest event's deadline has come. Every send carries the
    /// same id, so that the stream stores the frame once.
    async fn publish(&mut self, frame: &[Pending]) -> Result<(), PublishError> {
        let started = Instant::now();
        let deadline = frame
            .iter()
            .map(|pending| pending.deadline)
            .min()
            .unwrap_or(started);
        let message = Message::new(frame);
        metrics::histogram!("publish_frame_events")
            .record(f64::from(u32::try_from(frame.len()).unwrap_or(u32::MAX)));
        loop {
            let outcome = timeout_at(deadline, self.send_once(&message)).await;
            match outcome {
                Ok(Sent::Acknowledged) => {
                    metrics::histogram!("publish_duration_seconds").record(started.elapsed());
                    return Ok(());
                }
                Ok(Sent::Full) => return Err(PublishError::Full),
                Ok(Sent::Unknown) => metrics::counter!("publish_resends_total").increment(1),
                Err(_) => return Err(PublishError::TimedOut),
            }
        }
    }

    async fn send_once(&mut self, message: &Message) -> Sent {
        // A command that is queued while the connection is away would go out long after its requests were
        // answered 503; so wait here instead.
        self.connections.mark_unchanged();
        if !self.nats.is_connected() {
            let _ = self.connections.changed().await;
        }
        let acknowledged = async {
            let publish = PublishMessage::build()
                .payload(message.payload.clone())
                .headers(message.headers.clone());
            self.jetstream
                .send_publish(self.subject.clone(), publish)
                .await?
                .await
        };
        let outcome = tokio::select! {
            outcome = acknowledged => outcome,
            // The server that had the frame is gone, and its acknowledgement with it.
            _ = self.connections.changed() => return Sent::Unknown,
            () = tokio::time::sleep(RESEND_AFTER) => return Sent::Unknown,
        };
        match outcome {
            Ok(_) => Sent::Acknowledged,
            Err(error) if is_full(&error) => Sent::Full,
            Err(error) => {
                if error.kind() != PublishErrorKind::TimedOut {
                    tracing::warn!(%error, subject = self.subject, "a frame was not stored, sending it again");
                }
                tokio::time::sleep(RESEND_PAUSE).await;
                Sent::Unknown
            }
        }
    }
}

enum Sent {
    Acknowledged,
    Full,
    Unknown,
}

fn is_full(error: &AckError) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    let code = source.map(jetstream::Error::error_code);
    matches!(
        code,
        Some(ErrorCode::STREAM_STORE_FAILED | ErrorCode::INSUFFICIENT_RESOURCES)
    )
}

/// A frame, ready to be sent any number of times.
struct Message {
    payload: Bytes,
    headers: HeaderMap,
}

impl Message {
    fn new(frame: &[Pending]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(frame::VERSION_HEADER, frame::VERSION);
        headers.insert(NATS_MESSAGE_ID, Uuid::new_v4().to_string());
        Self {
            payload: frame::encode(frame.iter().map(|pending| &pending.event)),
            headers,
        }
    }
}

/// Creates the event streams, and again after every reconnection: the server may be a new, empty one.
pub async fn keep_streams(
    config: StreamsConfig,
    nats: Nats,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let jetstream = nats.jetstream();
    let mut connections = nats.connections();
    while !stop.is_cancelled() {
        connections.mark_unchanged();
        match create_streams(&config, &jetstream).await {
            Ok(()) => {
                readiness.set(STREAMS_READY, true);
                let _ = stop.run_until_cancelled(connections.changed()).await;
            }
            Err(error) => {
                if nats.is_connected() {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "cannot create the event streams, trying again"
                    );
                }
                let pause = tokio::time::sleep(RESEND_PAUSE * 4);
                tokio::select! {
                    () = pause => {}
                    _ = connections.changed() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
    Ok(())
}

async fn create_streams(config: &StreamsConfig, jetstream: &jetstream::Context) -> anyhow::Result<()> {
    for partition in 0..config.event_streams {
        let replicas = usize::from(config.event_stream_replicas);
        let stream = stream::config(partition, replicas, config.event_stream_max_bytes);
        jetstream.create_or_update_stream(stream).await?;
    }
    Ok(())
}
