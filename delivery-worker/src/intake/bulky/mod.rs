//! Bulky frames: their events go to so many endpoints that storing them takes seconds. They are stored beside the others, a few
//! at a time and in parts, and their owners take [turns](crate::intake::bulky::line). So the frames of one organisation hold
//! nobody else up.
//!
//! `put_off` finds them in a batch, and `line` gives them their turns: [write](crate::intake::write) imports both. This file
//! imports `write` and `consume`.

pub(crate) mod line;
pub(crate) mod put_off;

use std::time::Duration;

use async_nats::jetstream::Message;
use shared::process::shutdown::Tasks;
use shared::shares::Owner;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::intake::RETRY_PAUSE;
use crate::intake::bulky::line::{Line, Place};
use crate::intake::consume::session::Acks;
use crate::intake::write::Writer;

/// A frame that finds no place in the line goes back to its stream, and is offered again after this pause.
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

    /// Stores and acknowledges a frame in a task of its own, or gives it back when the line has no place for its `owner`.
    pub(crate) async fn take(&self, acks: &Acks, message: &Message, owner: Owner) {
        match self.line.enter(owner) {
            Some(place) => {
                let (this, acks, message) = (self.clone(), acks.clone(), message.clone());
                self.tasks.spawn("bulky frame", async move {
                    this.store(acks, &message, place).await;
                });
            }
            None => acks.give_back(message, Some(PAUSE)).await,
        }
    }

    /// Stores and acknowledges a frame, or gives it back: when Postgres refuses it, or when the stop comes first.
    async fn store(&self, acks: Acks, message: &Message, place: Place) {
        let begun = Instant::now();
        let storing = Box::pin(self.try_until_stored(&acks.stream, message, &place));
        let storing = acks.keep_during(std::slice::from_ref(message), storing);
        let stored = self.tasks.stop().run_until_cancelled(storing).await;
        match stored {
            // After an error the frame comes again, and storing it again changes nothing.
            Some(true) => {
                if let Err(error) = acks.acknowledge(&[message], begun.elapsed()).await {
                    tracing::debug!(stream = acks.stream, %error, "a bulky frame could not be acknowledged");
                }
            }
            Some(false) => acks.give_back(message, Some(PAUSE)).await,
            None => acks.give_back(message, None).await,
        }
    }

    /// Stores a frame, and tries again while Postgres is away. False when Postgres refuses it.
    async fn try_until_stored(&self, stream: &str, message: &Message, place: &Place) -> bool {
        loop {
            match self.writer.take_whole(stream, message, place).await {
                Ok(()) => return true,
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, "cannot store a bulky frame, trying again");
                }
                Err(error) => {
                    tracing::error!(%error, stream, "cannot store a bulky frame");
                    return false;
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
