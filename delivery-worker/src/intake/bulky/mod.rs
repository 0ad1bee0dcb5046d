//! Frames with events that go to so many endpoints that storing them takes seconds. They are stored beside the others,
//! a few at a time and in parts, so that one batch of one organisation holds nobody else up, and their owners take
//! [turns](crate::intake::bulky::line).
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

use crate::intake::bulky::line::{Line, Place};
use crate::intake::consume::session::Acks;
use crate::intake::write::Writer;

/// What finds no place in the line goes back to its stream, and is offered again after this pause.
const PAUSE: Duration = Duration::from_secs(2);

/// Pause before trying again what Postgres could not do.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Stores such frames.
#[derive(Clone, Debug)]
pub(crate) struct Bulky {
    writer: Writer,
    tasks: Tasks,
    line: Line,
}

impl Bulky {
    /// Within `tasks`.
    pub(crate) fn new(writer: Writer, tasks: Tasks) -> Self {
        Self {
            writer,
            tasks,
            line: Line::new(),
        }
    }

    /// The tasks that it belongs to.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Cancelled when the worker is to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        self.tasks.stop()
    }

    /// Stores and acknowledges a frame of an owner in a task of its own, or gives it back when there are enough of them.
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

    async fn store(&self, acks: Acks, message: &Message, place: Place) {
        let begun = Instant::now();
        let storing = Box::pin(self.store_until_it_is(&acks.stream, message, &place));
        let storing = acks.keep_during(std::slice::from_ref(message), storing);
        let stored = self.tasks.stop().run_until_cancelled(storing).await;
        match stored {
            // An error means that it comes again, and storing it again changes nothing.
            Some(true) => {
                if let Err(error) = acks.acknowledge(&[message], begun.elapsed()).await {
                    tracing::debug!(stream = acks.stream, %error, "a bulky frame could not be acknowledged");
                }
            }
            Some(false) => acks.give_back(message, Some(PAUSE)).await,
            None => acks.give_back(message, None).await,
        }
    }

    /// Tries again while Postgres is away. False when it refuses.
    async fn store_until_it_is(&self, stream: &str, message: &Message, place: &Place) -> bool {
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
