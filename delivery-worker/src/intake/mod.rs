//! Intake: takes frames out of the streams, and stores their events and deliveries. A frame is acknowledged only after the commit
//! of its events. So a worker that dies in between loses nothing: another one gets the frame, and storing it again changes
//! nothing.
//!
//! `consume` gets frames from NATS. The loop in this file takes them in batches, and `open_batches` has each batch stored: `decode`
//! reads the events, `plan` finds their deliveries, `write` writes both, and `start` starts what may start. `early` starts first
//! attempts before they are written. `isolate` finds what cannot be stored. Beside the loop, `bulky` stores frames with very many
//! deliveries, and `leftovers` those that no worker will be given.
//!
//! Memory is bounded whatever waits in a stream. Of each stream, three times [`PREFETCH_BYTES`](crate::intake::consume::pull) may
//! be on its way or wait here: that of two full requests and of two that renew them. At most [`MAX_OPEN`]
//! [batches](crate::intake::consume::batch) of it are being stored, and those of all streams have a common
//! [room](crate::intake::consume::room). Bulky frames wait in a [line](crate::intake::bulky::line) that has an end.
//!
//! Imports `store`, `endpoints` and `send`, and one function each of `record` and `chores`.

pub(crate) mod consume;
pub(crate) mod frame;
pub(crate) mod decode;
pub(crate) mod early;
pub(crate) mod plan;
mod trace;
pub(crate) mod write;
mod start;
mod open_batches;
pub(crate) mod isolate;
pub(crate) mod bulky;
pub(crate) mod leftovers;

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::stream::Info;
use shared::process::nats::Nats;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::Readiness;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chores;
use crate::crash::{self, Point};
use crate::intake::bulky::Bulky;
use crate::intake::consume::batch::MAX_BATCH_FRAMES;
use crate::intake::consume::in_hand::InHand;
use crate::intake::consume::pause;
use crate::intake::consume::room::BatchRoom;
use crate::intake::consume::session::Session;
use crate::intake::consume::streams::{event_streams, is_stream_gone};
use crate::intake::consume::turns::Turns;
use crate::intake::leftovers::Leftovers;
use crate::intake::open_batches::OpenBatches;
use crate::intake::write::Writer;

/// The readiness condition that intake fulfils when it consumes its first stream.
pub(crate) const STREAMS_FOUND: &str = "event streams";

/// How often new streams and leftovers are looked for, and how often until the first stream is there.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
const FIRST_DISCOVERY_INTERVAL: Duration = Duration::from_millis(100);

/// The most batches of one stream that are being stored, or wait for the receivers of early attempts. Those of former sessions
/// count too.
const MAX_OPEN: usize = 32;

/// When this many of them wait for anything but [answers](crate::intake::early::patient), no more frames are asked for: another
/// worker can take them. A worker that is alone asks on.
const MANY_BUSY: usize = 8;

/// Pause before trying again what NATS or Postgres could not do.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Takes frames out of the streams.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    /// The connection to NATS.
    pub nats: Nats,
    /// Stores the frames.
    pub writer: Writer,
    /// How long a worker may hold a frame before NATS offers it to others.
    pub ack_wait: Duration,
    /// Which worker takes the frames of which stream.
    pub turns: Turns,
    /// What the batches of all streams may take.
    pub room: BatchRoom,
}

impl Intake {
    /// Consumes every event stream until the stop; streams that appear later are found.
    ///
    /// # Errors
    /// When Postgres refuses a statement for another reason than being away. Each stream is consumed in a task of its own.
    pub(crate) async fn run(self, tasks: Tasks, readiness: Readiness) -> anyhow::Result<()> {
        let mut known = HashSet::new();
        let mut leftovers = Leftovers::new(self.ack_wait);
        // One for all streams: it bounds what the worker holds.
        let bulky = Bulky::new(self.writer.clone(), tasks.clone());
        while !tasks.stop().is_cancelled() {
            let storing = leftovers.storing();
            let stopped = async {
                tasks.stop().cancelled().await;
                storing.lock().await
            };
            let looking = Box::pin(self.discover(&mut known, &mut leftovers, &bulky, &readiness));
            tokio::select! {
                // So that the stop is in line before the next frame.
                biased;
                _ = stopped => break,
                looked = looking => if let Err(error) = looked {
                    chores::pass_over("stream discovery", error)?;
                },
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

    /// Begins to consume streams that are new, and takes in what is left over in all.
    async fn discover(
        &self,
        known: &mut HashSet<String>,
        leftovers: &mut Leftovers,
        bulky: &Bulky,
        readiness: &Readiness,
    ) -> anyhow::Result<()> {
        let jetstream = self.nats.jetstream();
        let streams = event_streams(&jetstream).await?;
        self.turns.set_streams(streams.len());
        for Info { config, .. } in &streams {
            if known.insert(config.name.clone()) {
                let intake = self.clone();
                let consuming = intake.consume(config.name.clone(), readiness.clone(), bulky.clone());
                bulky.tasks().spawn_long_lived("intake", consuming);
            }
        }
        leftovers.take_in(&jetstream, &self.writer, &streams).await
    }

    /// Consumes one stream until the stop, and waits for the end of its batches.
    ///
    /// # Errors
    /// When the stream was deleted: nothing that is accepted for it would ever be delivered.
    async fn consume(self, name: String, readiness: Readiness, bulky: Bulky) -> anyhow::Result<()> {
        let mut batches = OpenBatches::default();
        let consumed = self
            .consume_sessions(&name, &mut batches, &bulky, &readiness)
            .await;
        if consumed.as_ref().is_err_and(is_stream_gone) {
            readiness.set(STREAMS_FOUND, false);
        }
        consumed.and(batches.end().await)
    }

    /// Consumes one stream until the stop, over one connection after another. A consumer that was deleted is made again.
    async fn consume_sessions<'a>(
        &'a self,
        name: &str,
        batches: &mut OpenBatches<'a>,
        bulky: &'a Bulky,
        readiness: &Readiness,
    ) -> anyhow::Result<()> {
        let stop = bulky.stop();
        while !stop.is_cancelled() {
            let opening = Session::open(&self.nats, name, self.ack_wait, &self.turns);
            let opening = Box::pin(stop.run_until_cancelled(opening));
            let outcome = match batches.beside(opening).await? {
                None => return Ok(()),
                Some(Ok(mut session)) => {
                    tracing::info!(stream = name, "consuming");
                    readiness.set(STREAMS_FOUND, true);
                    let mut held = Vec::new();
                    let outcome = self
                        .consume_session(&mut session, &mut held, batches, bulky)
                        .await;
                    let closing = Box::pin(self.close(session, held, batches.in_hand(), stop));
                    batches.beside_to_its_end(closing).await?;
                    outcome
                }
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = outcome {
                // A server that began anew gets its streams from ingest-api.
                if is_stream_gone(&error) && batches.len() == 0 {
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
                let pause = tokio::time::sleep(RETRY_PAUSE);
                let pause = Box::pin(stop.run_until_cancelled(pause));
                batches.beside(pause).await?;
            }
        }
        Ok(())
    }

    /// Takes batches and stores them. At the end, what is left of those of this session is added to `held`. When the connection is
    /// gone, those that are open go on.
    async fn consume_session<'a>(
        &'a self,
        session: &mut Session,
        held: &mut Vec<Message>,
        batches: &mut OpenBatches<'a>,
        bulky: &'a Bulky,
    ) -> anyhow::Result<()> {
        batches.begin_session();
        let (acks, known_through) = (session.acks.clone(), session.known_through);
        let (mut next_at, mut outcome) = (Instant::now(), Ok(()));
        while outcome.is_ok() {
            let open = batches.len();
            let has_room = self.turns.is_alone() || batches.busy() < MANY_BUSY;
            let next = async {
                tokio::select! {
                    biased;
                    // Frames that have come wait until a batch ends.
                    () = self.room.free(open), if open < MAX_OPEN => {}
                    never = session.keep() => match never {},
                }
                session.next_batch(next_at, has_room).await
            };
            tokio::select! {
                () = bulky.stop().cancelled() => break,
                Some(ended) = batches.next(held) => outcome = ended,
                next = next => match next {
                    Ok((frames, then)) => {
                        crash::reach(Point::Fetched);
                        next_at = Instant::now() + pause::after(&frames);
                        let batch = batches.batch(frames, &self.room, known_through);
                        batches.push(Box::pin(self.take_in(acks.clone(), batch, bulky)));
                        outcome = then;
                    }
                    Err(error) => outcome = Err(error),
                },
            }
        }
        while batches.has_of_session() {
            tokio::select! {
                biased;
                () = session.gone() => break,
                Some(ended) = batches.next(held) => outcome = outcome.and(ended),
            }
        }
        outcome
    }

    /// Ends a session and gives back the frames that are held or were sent ahead, over the connection that brought them. Otherwise
    /// they and ordered deliveries would wait for [`Self::ack_wait`]. When that connection is gone, the frames are stored here and
    /// not acknowledged: they come again, which changes nothing. At the stop a statement that runs ends, and what it leases starts.
    async fn close(&self, session: Session, held: Vec<Message>, in_hand: InHand, stop: &CancellationToken) {
        let stream = session.acks.stream.clone();
        let Some(frames) = session.close(held, &in_hand).await else {
            return;
        };
        let is_time_left = |_: &&[Message]| !stop.is_cancelled();
        for batch in frames.chunks(MAX_BATCH_FRAMES).take_while(is_time_left) {
            if let Err(error) = self.writer.take(&stream, batch, None).await {
                tracing::debug!(%error, "frames whose connection is gone could not be stored, and come again");
                return;
            }
        }
    }
}
