//! What the server hears of frames.
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
use shared::process::nats::{Connection, Nats};
use tokio::time::Instant;

use crate::crash::{self, Point};
use crate::intake::consume::turns::Turns;

/// When storing took longer than this, the consumer is read before anything is acknowledged: its stream may have been deleted and
/// made again.
const HELD_LONG: Duration = Duration::from_millis(250);

pub(super) const CONNECTION_GONE: &str = "the connection that frames came by is gone";

/// Tells the server what became of frames, over the connection that brought them. Clones are for frames that are stored in tasks
/// of their own.
#[derive(Clone, Debug)]
pub(crate) struct Acks {
    /// The stream's name.
    pub stream: String,
    pub(super) nats: Nats,
    pub(super) connection: Connection,
    pub(super) consumer: Arc<Consumer<pull::Config>>,
    pub(super) turns: Turns,
    /// How often the server hears that frames are worked on: a third of the time that a worker may hold one without a word.
    pub(super) keep_interval: Duration,
}

impl Acks {
    /// Whether the connection that brought the frames is still there.
    pub(super) fn is_current(&self) -> bool {
        self.nats.connection().as_ref() == Some(&self.connection)
    }

    /// Acknowledges frames, when storing them `took` this long.
    ///
    /// # Errors
    /// When the connection or the consumer is another one by now: then none is acknowledged. The frames that it names come again.
    pub(crate) async fn acknowledge<'a>(
        &self,
        stored: &[&'a Message],
        took: Duration,
    ) -> Result<(), NotAcknowledged<'a, Message>> {
        if let Err(error) = self.check(took).await {
            let frames = stored.to_vec();
            return Err(NotAcknowledged { frames, error });
        }
        log("frames are acknowledged", &self.stream, stored.iter().copied());
        each(stored, acknowledge).await
    }

    /// Whether frames may be acknowledged that were stored for so long.
    async fn check(&self, took: Duration) -> anyhow::Result<()> {
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

/// Frames that are stored and could not be acknowledged.
#[derive(Debug)]
pub(crate) struct NotAcknowledged<'a, T> {
    /// The frames.
    pub frames: Vec<&'a T>,
    /// Why, of the first one.
    pub error: anyhow::Error,
}

async fn acknowledge(message: &Message) -> anyhow::Result<()> {
    let sent = message.ack().await;
    sent.map_err(anyhow::Error::from_boxed)
        .context("cannot acknowledge")?;
    crash::reach(Point::Acknowledged);
    Ok(())
}

/// Acknowledges each frame, whatever comes of those before it.
async fn each<'a, T, Acknowledged>(
    frames: &[&'a T],
    acknowledge: impl Fn(&'a T) -> Acknowledged,
) -> Result<(), NotAcknowledged<'a, T>>
where
    Acknowledged: Future<Output = anyhow::Result<()>>,
{
    let (mut left, mut first) = (Vec::new(), None);
    for &frame in frames {
        if let Err(error) = acknowledge(frame).await {
            left.push(frame);
            first.get_or_insert(error);
        }
    }
    match first {
        None => Ok(()),
        Some(error) => Err(NotAcknowledged { frames: left, error }),
    }
}

/// Logs the sequence numbers of frames, for whoever looks for a lost one. At a level that is off, as usual, this costs a
/// comparison.
pub(super) fn log<'a>(what: &str, stream: &str, frames: impl IntoIterator<Item = &'a Message>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let sequences = frames.into_iter().filter_map(|frame| frame.info().ok());
    let sequences: Vec<_> = sequences.map(|info| info.stream_sequence.to_string()).collect();
    tracing::debug!(stream, sequences = sequences.join(" "), "{what}");
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use anyhow::anyhow;

    use super::*;

    #[tokio::test]
    async fn only_frames_that_could_not_be_acknowledged_are_left_with_the_first_reason() {
        let if_even = |number: &u32| {
            let is_even = number.is_multiple_of(2);
            ready(is_even.then_some(()).ok_or_else(|| anyhow!("{number} is odd")))
        };
        let left = each(&[&2_u32, &3, &4, &5, &6], if_even).await.unwrap_err();
        assert_eq!(left.frames, [&3, &5]);
        assert_eq!(left.error.to_string(), "3 is odd");
        each(&[&2_u32, &4], if_even).await.unwrap();
    }
}
