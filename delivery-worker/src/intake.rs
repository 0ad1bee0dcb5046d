//! Taking frames out of the streams. A frame is acknowledged only after the commit of its events, so a worker that
//! dies in between loses nothing: another one gets the frame, and storing it again changes nothing.
//!
//! Memory is bounded whatever waits in a stream: of each, [`PREFETCH_BYTES`] and half as much again may be on its
//! way or wait here, and one batch of less than [`MAX_BATCH_BYTES`] and one frame is being stored.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, Info};
use async_nats::jetstream::{self, AckKind, Message};
use futures_util::{FutureExt as _, StreamExt as _};
use shared::nats::Nats;
use shared::shutdown::Tasks;
use shared::stream;
use shared::telemetry::Readiness;
use tokio_util::sync::CancellationToken;

use crate::chores;
use crate::crash::{self, Point};
use crate::leftovers::Leftovers;
use crate::storing::Storing;
use crate::streams::event_streams;

/// The readiness condition that intake fulfils.
pub const STREAMS_FOUND: &str = "event streams";

/// Most frames, and about the most bytes, that are stored in one statement.
const MAX_BATCH_FRAMES: usize = 64;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Bytes of frames that the server sends ahead.
const PREFETCH_BYTES: usize = 4 << 20;

/// How long one request for frames stays open, and how often the server says that it is still there.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);

/// How often new streams and leftovers are looked for, and how often until the first stream is there.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
const FIRST_DISCOVERY_INTERVAL: Duration = Duration::from_millis(100);

/// A pause after each batch, in which frames gather: under load one statement does the work of several. A frame that comes
/// alone does not meet it.
const PAUSE: Duration = Duration::from_millis(2);

/// Pause before trying again what NATS or Postgres could not do.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Takes frames out of the streams.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The connection to NATS.
    pub nats: Nats,
    /// What is done with them.
    pub storing: Storing,
    /// How long a worker may hold a frame.
    pub ack_wait: Duration,
}

impl Intake {
    /// Consumes every event stream until the stop; streams that appear later are found.
    ///
    /// # Errors
    /// When Postgres refuses a statement for another reason than being away. Each stream is a task of its own.
    pub async fn run(self, tasks: Tasks, readiness: Readiness) -> anyhow::Result<()> {
        let mut known = HashSet::new();
        let mut leftovers = Leftovers::default();
        while !tasks.stop().is_cancelled() {
            let looking = self.discover(&mut known, &mut leftovers, &tasks, &readiness);
            if let Some(Err(error)) = tasks.stop().run_until_cancelled(looking).await {
                chores::pass_over("stream discovery", error)?;
            }
            let pause = if known.is_empty() {
                FIRST_DISCOVERY_INTERVAL
            } else {
                DISCOVERY_INTERVAL
            };
            let _ = tasks.stop().run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        Ok(())
    }

    async fn discover(
        &self,
        known: &mut HashSet<String>,
        leftovers: &mut Leftovers,
        tasks: &Tasks,
        readiness: &Readiness,
    ) -> anyhow::Result<()> {
        let jetstream = self.nats.jetstream();
        let streams = event_streams(&jetstream).await?;
        for Info { config, .. } in &streams {
            if known.insert(config.name.clone()) {
                readiness.set(STREAMS_FOUND, true);
                let (intake, readiness) = (self.clone(), readiness.clone());
                let consuming = intake.consume(config.name.clone(), readiness, tasks.stop().clone());
                tasks.spawn_long_lived("intake", consuming);
            }
        }
        leftovers.take_in(&jetstream, &self.storing, &streams).await
    }

    /// Consumes one stream until the stop. A consumer that was deleted is made again.
    ///
    /// # Errors
    /// When the stream was deleted: nothing that is accepted for it would ever be delivered.
    async fn consume(
        self,
        name: String,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let jetstream = self.nats.jetstream();
        tracing::info!(stream = name, "consuming");
        while !stop.is_cancelled() {
            let outcome = match stop.run_until_cancelled(self.messages(&jetstream, &name)).await {
                None => return Ok(()),
                Some(Ok(messages)) => self.consume_messages(&name, messages, &stop).await,
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = outcome {
                if is_stream_gone(&error) {
                    readiness.set(STREAMS_FOUND, false);
                    return Err(error.context(format!("the stream {name} is gone")));
                }
                if error.is::<sqlx::Error>() {
                    return Err(error);
                }
                tracing::warn!(
                    stream = name,
                    error = format!("{error:#}"),
                    "intake was interrupted, starting again"
                );
                let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
            }
        }
        Ok(())
    }

    async fn messages(&self, jetstream: &jetstream::Context, name: &str) -> anyhow::Result<pull::Stream> {
        let config = stream::consumer(self.ack_wait);
        let consumer: Consumer<pull::Config> = jetstream.create_consumer_on_stream(config, name).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(MAX_BATCH_FRAMES)
            .max_bytes_per_batch(PREFETCH_BYTES)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await?;
        Ok(messages)
    }

    async fn consume_messages(
        &self,
        name: &str,
        mut messages: pull::Stream,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        while let Some(batch) = stop.run_until_cancelled(next_batch(&mut messages)).await {
            let batch = batch?;
            crash::reach(Point::Fetched);
            if !self.take_in(name, &batch, stop).await? {
                return Ok(());
            }
            if batch.len() < MAX_BATCH_FRAMES {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again and keeps the frames; false
    /// when the stop came first.
    async fn take_in(
        &self,
        stream: &str,
        batch: &[Message],
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        loop {
            match self.storing.store(stream, batch).await {
                Ok(acknowledged) => {
                    for message in acknowledged {
                        message
                            .ack()
                            .await
                            .map_err(anyhow::Error::from_boxed)
                            .context("cannot acknowledge")?;
                        crash::reach(Point::Acknowledged);
                    }
                    return Ok(true);
                }
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, frames = batch.len(), "cannot store events, trying again");
                    for message in batch {
                        let _ = message.ack_with(AckKind::Progress).await;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(RETRY_PAUSE))
                .await
                .is_none()
            {
                return Ok(false);
            }
        }
    }
}

/// The next frame, and those that are there already.
async fn next_batch(messages: &mut pull::Stream) -> anyhow::Result<Vec<Message>> {
    let first = messages.next().await.context("the stream of frames ended")??;
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH_FRAMES && bytes < MAX_BATCH_BYTES {
        // An error ends the stream and comes again with the next call.
        let Some(Some(Ok(message))) = messages.next().now_or_never() else {
            break;
        };
        bytes += message.payload.len();
        batch.push(message);
    }
    Ok(batch)
}

fn is_stream_gone(error: &anyhow::Error) -> bool {
    let Some(ConsumerErrorKind::JetStream(error)) =
        error.downcast_ref::<ConsumerError>().map(ConsumerError::kind)
    else {
        return false;
    };
    error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND
}
