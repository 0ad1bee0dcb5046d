//! Bulky frames: their events go to so many endpoints, or there are so many of them, that storing them takes seconds. They are
//! stored beside the others, a few at a time and in parts, and their owners take [turns](crate::intake::bulky::line). So the
//! frames of one organisation hold nobody else up.
//!
//! `put_off` finds them in a batch, and `line` gives them their turns: [write](crate::intake::write) imports both. This file
//! imports `write` and `consume`.

pub(crate) mod line;
pub(crate) mod put_off;

use std::time::Duration;

use async_nats::jetstream::Message;
use shared::process::shutdown::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::intake::RETRY_PAUSE;
use crate::intake::bulky::line::{Line, Place};
use crate::intake::bulky::put_off::Bundle;
use crate::intake::consume::acks::Acks;
use crate::intake::write::Writer;

/// Frames that find no place in the line go back to their stream, and are offered again after this pause.
const PAUSE: Duration = Duration::from_secs(2);

/// Stores bulky frames.
#[derive(Clone, Debug)]
pub(crate) struct Bulky {
    writer: Writer,
    tasks: Tasks,
    line: Line,
}

impl Bulky {
    /// Stores its frames in `tasks`.
    pub(crate) fn new(writer: Writer, tasks: Tasks) -> Self {
        Self {
            writer,
            tasks,
            line: Line::new(),
        }
    }

    /// The tasks in which frames are stored.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Cancelled when the worker is to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        self.tasks.stop()
    }

    /// Stores and acknowledges frames in a task of their own, or gives them back when the line has no place for their owner.
    pub(crate) async fn take(&self, acks: &Acks, bundle: Bundle<'_>) {
        match self.line.enter(bundle.owner) {
            Some(place) => {
                let messages: Vec<_> = bundle.messages.into_iter().cloned().collect();
                let (this, acks) = (self.clone(), acks.clone());
                self.tasks.spawn("bulky frames", async move {
                    this.store(acks, &messages, place).await;
                });
            }
            None => give_back(acks, bundle.messages, Some(PAUSE)).await,
        }
    }

    /// Stores and acknowledges frames, or gives them back: when Postgres refuses one, or when the stop comes first. A statement
    /// that runs then ends: Postgres would go on with it, and nobody would start the deliveries that it leases.
    async fn store(&self, acks: Acks, messages: &[Message], place: Place) {
        let begun = Instant::now();
        let storing = Box::pin(self.try_until_stored(&acks.stream, messages, &place));
        let stored = tokio::select! {
            // So that the end is in line before the next turn.
            biased;
            _ = place.end(self.tasks.stop()) => None,
            stored = acks.keep_during(messages, storing) => Some(stored),
        };
        match stored {
            // After an error the frames come again, and storing them again changes nothing.
            Some(true) => {
                let messages: Vec<_> = messages.iter().collect();
                if let Err(left) = acks.acknowledge(&messages, begun.elapsed()).await {
                    let (error, frames) = (left.error, left.frames.len());
                    tracing::debug!(stream = acks.stream, frames, %error, "bulky frames could not be acknowledged");
                }
            }
            Some(false) => give_back(&acks, messages, Some(PAUSE)).await,
            None => give_back(&acks, messages, None).await,
        }
    }

    /// Stores frames, and tries again while Postgres is away. False when Postgres refuses one.
    async fn try_until_stored(&self, stream: &str, messages: &[Message], place: &Place) -> bool {
        loop {
            match self.writer.take_whole(stream, messages, place).await {
                Ok(()) => return true,
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, "cannot store bulky frames, trying again");
                }
                Err(error) => {
                    tracing::error!(%error, stream, "cannot store bulky frames");
                    return false;
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

async fn give_back(acks: &Acks, messages: impl IntoIterator<Item = &Message>, pause: Option<Duration>) {
    for message in messages {
        acks.give_back(message, pause).await;
    }
}
