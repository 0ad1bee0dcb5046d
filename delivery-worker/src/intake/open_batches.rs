//! Storing the frames of one batch, until they are stored or the stop comes.

use async_nats::jetstream::Message;
use tokio::time::Instant;

use crate::intake::bulky::Bulky;
use crate::intake::consume::acks::Acks;
use crate::intake::consume::room::Place;
use crate::intake::early::Early;
use crate::intake::write::UNKNOWN_VERSION_DELAY;
use crate::intake::{Intake, RETRY_PAUSE};

impl Intake {
    /// Stores a batch and acknowledges it. Meanwhile nobody else is offered its frames: their deliveries may have begun.
    pub(super) async fn take_in(
        &self,
        acks: &Acks,
        batch: Vec<Message>,
        _place: Place,
        early: Early,
        bulky: &Bulky,
    ) -> Ended {
        let storing = Box::pin(self.store(acks, &batch, &early, bulky));
        let outcome = acks.keep_during(&batch, storing).await;
        self.writer.end(&early).await;
        Ended { batch, outcome }
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again; false when the stop came first.
    async fn store(
        &self,
        acks: &Acks,
        batch: &[Message],
        early: &Early,
        bulky: &Bulky,
    ) -> anyhow::Result<bool> {
        let begun = Instant::now();
        loop {
            match self.writer.take(&acks.stream, batch, Some(early)).await {
                Ok(taken) => {
                    for message in taken.for_others {
                        acks.give_back(message, Some(UNKNOWN_VERSION_DELAY)).await;
                    }
                    for bundle in taken.bulky {
                        bulky.take(acks, bundle).await;
                    }
                    acks.acknowledge(&taken.done, begun.elapsed()).await?;
                    return Ok(true);
                }
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, frames = batch.len(), "cannot store events, trying again");
                }
                Err(error) => return Err(error.into()),
            }
            let pause = tokio::time::sleep(RETRY_PAUSE);
            if bulky.stop().run_until_cancelled(pause).await.is_none() {
                return Ok(false);
            }
        }
    }
}

/// A batch that is no longer being stored.
pub(super) struct Ended {
    batch: Vec<Message>,
    /// Whether it was stored.
    outcome: anyhow::Result<bool>,
}

impl Ended {
    /// Adds the frames to `held` unless they were stored.
    pub(super) fn keep(self, held: &mut Vec<Message>) -> anyhow::Result<()> {
        if !matches!(self.outcome, Ok(true)) {
            held.extend(self.batch);
        }
        self.outcome.map(drop)
    }
}
