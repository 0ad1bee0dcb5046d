//! A session: one stream's frames as they come over one connection, and what the server hears of them.
//!
//! An acknowledgement names a sequence number of the stream, and the server removes whichever frame has it. That may be another
//! frame by then: the server was started again without its streams, or the stream was made again. So an acknowledgement is sent
//! only over the connection that brought the frame, and after a long wait only to the same consumer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use shared::process::nats::{Connection, Connections, Nats};
use shared::wire::stream;
use tokio::time::Instant;

use crate::crash::{self, Point};
use crate::intake::consume::batch::{next_batch, take_all};
use crate::intake::consume::pull::Frames;
use crate::intake::consume::streams::event_streams;
use crate::intake::consume::turns::Turns;

/// When storing took longer than this, the consumer is read before anything is acknowledged: its stream may have been deleted and
/// made again.
const HELD_LONG: Duration = Duration::from_millis(250);

/// How long the end of the subscription may take, and giving frames back. NATS may be away.
const END_TIMEOUT: Duration = Duration::from_millis(500);
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

const CONNECTION_GONE: &str = "the connection that frames came by is gone";

/// See the [module](self).
pub(crate) struct Session {
    /// Tells the server what became of the frames.
    pub acks: Acks,
    /// The stream's last frame when the session began.
    pub known_through: u64,
    connections: Connections,
    frames: Frames,
    /// When the server is to hear next that the frames that wait are worked on.
    keep_at: Instant,
}

/// Tells the server what became of frames, over the connection that brought them. Clones are for frames that are stored in tasks
/// of their own.
#[derive(Clone, Debug)]
pub(crate) struct Acks {
    /// The stream's name.
    pub stream: String,
    nats: Nats,
    connection: Connection,
    consumer: Arc<Consumer<pull::Config>>,
    turns: Turns,
    /// How often the server hears that frames are worked on: a third of the time that a worker may hold one without a word.
    keep_interval: Duration,
}

impl Session {
    /// Waits for a connection and begins to consume a stream over it. The consumer is made if it is not there.
    ///
    /// # Errors
    /// When the stream is not there, or NATS does not answer.
    pub(crate) async fn open(
        nats: &Nats,
        name: &str,
        ack_wait: Duration,
        turns: &Turns,
    ) -> anyhow::Result<Self> {
        let mut connections = nats.connections();
        let connection = loop {
            nats.until_connected(&mut connections).await;
            if let Some(connection) = nats.connection() {
                break connection;
            }
        };
        let config = stream::consumer(ack_wait);
        let jetstream = nats.jetstream();
        let consumer: Consumer<pull::Config> = jetstream.create_consumer_on_stream(config, name).await?;
        let streams = event_streams(&jetstream).await?;
        let info = streams.iter().find(|info| info.config.name == name);
        let known_through = info.context("the stream is not listed")?.state.last_sequence;
        let consumer = Arc::new(consumer);
        let turn = turns.of(name, Instant::now());
        let frames = Frames::open(nats, consumer.clone(), turn).await?;
        let acks = Acks {
            stream: name.to_owned(),
            nats: nats.clone(),
            connection,
            consumer,
            turns: turns.clone(),
            keep_interval: ack_wait / 3,
        };
        Ok(Self {
            acks,
            known_through,
            connections,
            frames,
            keep_at: Instant::now(),
        })
    }

    /// The next frames, no earlier than `not_before`, and the error that came after them. More frames are asked for only if the
    /// worker `has_room` for them. May be dropped while it waits.
    ///
    /// # Errors
    /// When the connection was made again, or NATS does not answer.
    pub(crate) async fn next_batch(
        &mut self,
        not_before: Instant,
        has_room: bool,
    ) -> anyhow::Result<(Vec<Message>, anyhow::Result<()>)> {
        // Frames that are asked for now come during the pause.
        self.ask(has_room).await?;
        tokio::time::sleep_until(not_before).await;
        loop {
            self.ask(has_room).await?;
            let wake_at = self.frames.wake_at(has_room);
            tokio::select! {
                // Frames that have come are taken before a request counts as unanswered.
                biased;
                () = self.connections.changed() => {
                    ensure!(self.acks.is_current(), CONNECTION_GONE);
                }
                (batch, outcome) = next_batch(&mut self.frames, |message| message.payload.len()) => {
                    if !batch.is_empty() || outcome.is_err() {
                        log("frames came", &self.acks.stream, &batch);
                        return Ok((batch, outcome));
                    }
                }
                () = tokio::time::sleep_until(wake_at) => self.frames.check()?,
            }
        }
    }

    /// Takes no frames and never returns. It tells the server again and again that those that have come are worked on, so that it
    /// offers them to nobody else: whoever got them too would begin them again. May be dropped while it waits.
    pub(crate) async fn keep(&mut self) -> Infallible {
        loop {
            tokio::time::sleep_until(self.keep_at).await;
            if self.acks.is_current() {
                for message in self.frames.waiting() {
                    let _ = message.ack_with(AckKind::Progress).await;
                }
            }
            self.keep_at = Instant::now() + self.acks.keep_interval;
        }
    }

    /// Sends a request for frames, if one is due.
    async fn ask(&mut self, has_room: bool) -> anyhow::Result<()> {
        if let Some(request) = self.frames.due(has_room) {
            // Frames that come over another connection belong to another session.
            ensure!(self.acks.is_current(), CONNECTION_GONE);
            self.frames.ask(request).await?;
        }
        Ok(())
    }

    /// Ends the session. Gives back the frames that are `held` and those that the server sent ahead, or returns them when their
    /// connection is gone.
    pub(crate) async fn close(mut self, mut held: Vec<Message>) -> Option<Vec<Message>> {
        if self.acks.is_current() {
            let _ = tokio::time::timeout(END_TIMEOUT, self.frames.end()).await;
        }
        held.extend(take_all(&mut self.frames));
        if !self.acks.is_current() {
            return Some(held);
        }
        // If it has not ended in time: the frames would come back to the subscription.
        drop(self.frames);
        let giving = async {
            for message in &held {
                // A frame that is not given back comes again too, when the time for its acknowledgement is over.
                let _ = message.ack_with(AckKind::Nak(None)).await;
            }
            self.acks.nats.client.flush().await
        };
        if !matches!(tokio::time::timeout(GIVE_BACK_TIMEOUT, giving).await, Ok(Ok(()))) {
            tracing::debug!(frames = held.len(), "frames could not be given back");
        }
        None
    }
}

impl Acks {
    /// Whether the connection that brought the frames is still there.
    fn is_current(&self) -> bool {
        self.nats.connection().as_ref() == Some(&self.connection)
    }

    /// Acknowledges frames, when storing them `took` this long.
    ///
    /// # Errors
    /// When the connection or the consumer is another one by now. Then the frames come again.
    pub(crate) async fn acknowledge(&self, stored: &[&Message], took: Duration) -> anyhow::Result<()> {
        if took > HELD_LONG {
            let created = self.consumer.cached_info().created;
            let now = self
                .consumer
                .get_info()
                .await
                .context("cannot read the consumer")?;
            ensure!(
                now.created == created,
                "the consumer was made again while frames were stored"
            );
        }
        ensure!(self.is_current(), CONNECTION_GONE);
        log("frames are acknowledged", &self.stream, stored.iter().copied());
        for message in stored {
            message
                .ack()
                .await
                .map_err(anyhow::Error::from_boxed)
                .context("cannot acknowledge")?;
            crash::reach(Point::Acknowledged);
        }
        Ok(())
    }

    /// Does `work` on frames, and meanwhile tells the server again and again that they are worked on, so that it offers them to
    /// nobody else. The work does not wait while that cannot be told.
    pub(crate) async fn keep_during<T>(&self, frames: &[Message], work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.keep(frames) => match never {},
        }
    }

    /// Never returns. It tells the server over a later connection too, because a server that was started again goes on counting
    /// the time. If another frame has this sequence number there, that frame is only held a little longer.
    async fn keep(&self, frames: &[Message]) -> Infallible {
        let mut tick = tokio::time::interval_at(Instant::now() + self.keep_interval, self.keep_interval);
        let mut connections = self.nats.connections();
        connections.mark_unchanged();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = connections.changed() => {}
            }
            if self.nats.connection().is_some() {
                for message in frames {
                    let _ = message.ack_with(AckKind::Progress).await;
                }
            }
        }
    }

    /// Gives a frame back, to be offered again after `pause`, to other workers if there are any. If the server does not hear it,
    /// the frame comes again when the time for its acknowledgement is over.
    pub(crate) async fn give_back(&self, message: &Message, pause: Option<Duration>) {
        self.turns.stand_aside(Instant::now(), pause.unwrap_or_default());
        if self.is_current() {
            let _ = message.ack_with(AckKind::Nak(pause)).await;
        }
    }
}

/// Logs the sequence numbers of frames, for whoever looks for a lost one. At a level that is off, as usual, this costs a
/// comparison.
fn log<'a>(what: &str, stream: &str, frames: impl IntoIterator<Item = &'a Message>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let sequences = frames.into_iter().filter_map(|frame| frame.info().ok());
    let sequences: Vec<_> = sequences.map(|info| info.stream_sequence.to_string()).collect();
    tracing::debug!(stream, sequences = sequences.join(" "), "{what}");
}
