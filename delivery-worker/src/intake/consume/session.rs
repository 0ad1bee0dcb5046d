//! A session: one stream's frames as they come over one connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use shared::process::nats::{Connections, Nats};
use shared::wire::stream;
use tokio::time::Instant;

use crate::intake::consume::acks::{Acks, CONNECTION_GONE, log};
use crate::intake::consume::batch::{next_batch, take_all};
use crate::intake::consume::in_hand::InHand;
use crate::intake::consume::pull::Frames;
use crate::intake::consume::streams::event_streams;
use crate::intake::consume::turns::Turns;

/// How long the end of the subscription may take, and giving frames back. NATS may be away.
const END_TIMEOUT: Duration = Duration::from_millis(500);
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Waits until the connection is gone. May return only when there is another one. May be dropped while it waits.
    pub(crate) async fn gone(&mut self) {
        while self.acks.is_current() {
            self.connections.changed().await;
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
    /// connection is gone. What a batch has `in_hand` has come again, and is left to it.
    pub(crate) async fn close(mut self, mut held: Vec<Message>, in_hand: &InHand) -> Option<Vec<Message>> {
        if self.acks.is_current() {
            let _ = tokio::time::timeout(END_TIMEOUT, self.frames.end()).await;
        }
        let mut sent_ahead = take_all(&mut self.frames);
        let _hand = in_hand.take(&mut sent_ahead);
        held.extend(sent_ahead);
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
