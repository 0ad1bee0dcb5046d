//! Taking frames out of the streams. A frame is acknowledged only after the commit of its events, so a worker that
//! dies in between loses nothing: another one gets the frame, and storing it again changes nothing.
//!
//! Memory is bounded whatever waits in a stream: of each, [`PREFETCH_BYTES`](crate::intake::session) and half as much again may be on its
//! way or wait here, and one [batch](crate::intake::batch) is being stored.

pub(crate) mod session;
pub(crate) mod batch;
pub(crate) mod frame;
pub(crate) mod decode;
pub(crate) mod put_off;
pub(crate) mod plan;
pub(crate) mod write;
pub(crate) mod isolate;
pub(crate) mod bulky;
pub(crate) mod leftovers;
pub(crate) mod streams;

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, Info};
use async_nats::jetstream::{self, Message};
use shared::process::nats::Nats;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::Readiness;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chores;
use crate::crash::{self, Point};
use crate::intake::batch::MAX_BATCH_FRAMES;
use crate::intake::bulky::Bulky;
use crate::intake::leftovers::Leftovers;
use crate::intake::session::{Acks, Session};
use crate::intake::streams::event_streams;
use crate::intake::write::Writer;

/// The readiness condition that intake fulfils.
pub(crate) const STREAMS_FOUND: &str = "event streams";

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
pub(crate) struct Intake {
    /// The connection to NATS.
    pub nats: Nats,
    /// What is done with them.
    pub writer: Writer,
    /// How long a worker may hold a frame.
    pub ack_wait: Duration,
}

impl Intake {
    /// Consumes every event stream until the stop; streams that appear later are found.
    ///
    /// # Errors
    /// When Postgres refuses a statement for another reason than being away. Each stream is a task of its own.
    pub(crate) async fn run(self, tasks: Tasks, readiness: Readiness) -> anyhow::Result<()> {
        let mut known = HashSet::new();
        let mut leftovers = Leftovers::default();
        // One for all streams: it bounds what the worker holds.
        let bulky = Bulky::new(self.writer.clone(), tasks.clone(), self.ack_wait);
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
        leftovers.take_in(&jetstream, &self.writer, &streams).await
    }

    /// Consumes one stream until the stop. A consumer that was deleted is made again.
    ///
    /// # Errors
    /// When the stream was deleted: nothing that is accepted for it would ever be delivered.
    async fn consume(self, name: String, readiness: Readiness, bulky: Bulky) -> anyhow::Result<()> {
        let stop = bulky.stop().clone();
        tracing::info!(stream = name, "consuming");
        while !stop.is_cancelled() {
            let outcome = match stop
                .run_until_cancelled(Session::open(&self.nats, &name, self.ack_wait))
                .await
            {
                None => return Ok(()),
                Some(Ok(mut session)) => {
                    let mut held = Vec::new();
                    let outcome = self.consume_session(&mut session, &mut held, &bulky).await;
                    self.close(session, held, &stop).await;
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

    async fn consume_session(
        &self,
        session: &mut Session,
        held: &mut Vec<Message>,
        bulky: &Bulky,
    ) -> anyhow::Result<()> {
        loop {
            let Some(next) = bulky.stop().run_until_cancelled(session.next_batch()).await else {
                return Ok(());
            };
            let (batch, outcome) = next?;
            crash::reach(Point::Fetched);
            *held = batch;
            if !self.take_in(&mut session.acks, held, bulky).await? {
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

    /// Ends a session with what is held and what the server sent ahead. Other workers get it at once, over the connection
    /// that it came by; they would wait for [`Self::ack_wait`] otherwise, and ordered deliveries with them. When that
    /// connection is gone it is stored here and not acknowledged: it comes again, which changes nothing.
    async fn close(&self, session: Session, held: Vec<Message>, stop: &CancellationToken) {
        let stream = session.acks.stream.clone();
        let Some(frames) = session.close(held).await else {
            return;
        };
        for batch in frames.chunks(MAX_BATCH_FRAMES) {
            let taking = self.writer.take(&stream, batch);
            if let Some(Err(error)) = stop.run_until_cancelled(taking).await {
                tracing::debug!(%error, "frames of a connection that is gone wait until they come again");
                return;
            }
        }
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again and keeps the frames; false
    /// when the stop came first.
    async fn take_in(&self, acks: &mut Acks, batch: &[Message], bulky: &Bulky) -> anyhow::Result<bool> {
        let begun = Instant::now();
        loop {
            match self.writer.take(&acks.stream, batch).await {
                Ok(taken) => {
                    for message in taken.bulky {
                        bulky.take(acks, message).await;
                    }
                    acks.acknowledge(&taken.done, begun.elapsed()).await?;
                    return Ok(true);
                }
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, frames = batch.len(), "cannot store events, trying again");
                    acks.keep(batch).await;
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
