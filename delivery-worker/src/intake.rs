//! Taking frames out of the streams. A frame is acknowledged only after the commit of its events, so a worker that
//! dies in between loses nothing: another one gets the frame, and storing it again changes nothing.
//!
//! Memory is bounded whatever waits in a stream: of each, [`PREFETCH_BYTES`] and half as much again may be on its
//! way or wait here, and one [batch](crate::batch) is being stored.

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

use crate::batch::{MAX_BATCH_FRAMES, next_batch};
use crate::bulky::Bulky;
use crate::chores;
use crate::crash::{self, Point};
use crate::leftovers::Leftovers;
use crate::storing::Storing;
use crate::streams::event_streams;

/// The readiness condition that intake fulfils.
pub const STREAMS_FOUND: &str = "event streams";

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

/// How long giving frames back may take: NATS may be away.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

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
        // One for all streams: it bounds what the worker holds.
        let bulky = Bulky::new(self.storing.clone(), tasks.clone(), self.ack_wait);
        while !tasks.stop().is_cancelled() {
            let looking = self.discover(&mut known, &mut leftovers, &bulky, &readiness);
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
        bulky: &Bulky,
        readiness: &Readiness,
    ) -> anyhow::Result<()> {
        let jetstream = self.nats.jetstream();
        let streams = event_streams(&jetstream).await?;
        for Info { config, .. } in &streams {
            if known.insert(config.name.clone()) {
                readiness.set(STREAMS_FOUND, true);
                let (intake, readiness) = (self.clone(), readiness.clone());
                let consuming = intake.consume(config.name.clone(), readiness, bulky.clone());
                bulky.tasks().spawn_long_lived("intake", consuming);
            }
        }
        leftovers.take_in(&jetstream, &self.storing, &streams).await
    }

    /// Consumes one stream until the stop. A consumer that was deleted is made again.
    ///
    /// # Errors
    /// When the stream was deleted: nothing that is accepted for it would ever be delivered.
    async fn consume(self, name: String, readiness: Readiness, bulky: Bulky) -> anyhow::Result<()> {
        let stop = bulky.stop().clone();
        let jetstream = self.nats.jetstream();
        tracing::info!(stream = name, "consuming");
        while !stop.is_cancelled() {
            let outcome = match stop.run_until_cancelled(self.messages(&jetstream, &name)).await {
                None => return Ok(()),
                Some(Ok(mut messages)) => {
                    let mut held = Vec::new();
                    let outcome = self
                        .consume_messages(&name, &mut messages, &mut held, &bulky)
                        .await;
                    self.give_back(messages, held).await;
                    outcome
                }
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
        messages: &mut pull::Stream,
        held: &mut Vec<Message>,
        bulky: &Bulky,
    ) -> anyhow::Result<()> {
        loop {
            let next = next_batch(messages, |message| message.payload.len());
            let Some((batch, outcome)) = bulky.stop().run_until_cancelled(next).await else {
                return Ok(());
            };
            crash::reach(Point::Fetched);
            *held = batch;
            if !self.take_in(name, held, bulky).await? {
                return Ok(());
            }
            let is_full = held.len() >= MAX_BATCH_FRAMES;
            held.clear();
            outcome?;
            if !is_full {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Lets other workers have at once what is held and what the server sent ahead. They would wait for
    /// [`Self::ack_wait`] otherwise, and ordered deliveries with them.
    async fn give_back(&self, mut messages: pull::Stream, mut held: Vec<Message>) {
        while let Some(Some(Ok(message))) = messages.next().now_or_never() {
            held.push(message);
        }
        // Ends the subscription: the frames would come back to it.
        drop(messages);
        let giving = async {
            for message in &held {
                // Without it they come again all the same, when the time for their acknowledgement is over.
                let _ = message.ack_with(AckKind::Nak(None)).await;
            }
            self.nats.client.flush().await
        };
        if !matches!(tokio::time::timeout(GIVE_BACK_TIMEOUT, giving).await, Ok(Ok(()))) {
            tracing::debug!(frames = held.len(), "frames could not be given back");
        }
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again and keeps the frames; false
    /// when the stop came first.
    async fn take_in(&self, stream: &str, batch: &[Message], bulky: &Bulky) -> anyhow::Result<bool> {
        loop {
            match self.storing.store(stream, batch).await {
                Ok(handled) => {
                    for message in handled.bulky {
                        bulky.take(stream, message).await;
                    }
                    for message in handled.done {
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
            if bulky
                .stop()
                .run_until_cancelled(tokio::time::sleep(RETRY_PAUSE))
                .await
                .is_none()
            {
                return Ok(false);
            }
        }
    }
}

fn is_stream_gone(error: &anyhow::Error) -> bool {
    let Some(ConsumerErrorKind::JetStream(error)) =
        error.downcast_ref::<ConsumerError>().map(ConsumerError::kind)
    else {
        return false;
    };
    error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND
}
