//! Storing the frames of one batch, until they are stored or the stop comes.

use async_nats::jetstream::Message;
use tokio::time::Instant;

use crate::intake::bulky::Bulky;
use crate::intake::consume::acks::{Acks, NotAcknowledged};
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
        let ended = acks.keep_during(&batch, storing).await;
        self.writer.end(&early).await;
        ended
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again, until the stop. Then it tries once more if events
    /// have begun: nobody else would know of the answers of their receivers.
    async fn store(&self, acks: &Acks, batch: &[Message], early: &Early, bulky: &Bulky) -> Ended {
        let begun = Instant::now();
        let mut is_last = false;
        loop {
            match self.writer.take(&acks.stream, batch, Some(early)).await {
                Ok(taken) => {
                    for message in taken.for_others {
                        acks.give_back(message, Some(UNKNOWN_VERSION_DELAY)).await;
                    }
                    for bundle in taken.bulky {
                        bulky.take(acks, bundle).await;
                    }
                    let acknowledged = acks.acknowledge(&taken.done, begun.elapsed()).await;
                    return Ended::stored(acknowledged);
                }
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, frames = batch.len(), "cannot store events, trying again");
                }
                Err(error) => return Ended::not_stored(batch, Err(error.into())),
            }
            let pause = tokio::time::sleep(RETRY_PAUSE);
            if bulky.stop().run_until_cancelled(pause).await.is_none() {
                if is_last || !early.is_unstored() {
                    return Ended::not_stored(batch, Ok(()));
                }
                is_last = true;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// A batch that is no longer being stored.
pub(super) struct Ended {
    /// Its frames that are neither acknowledged nor in other hands.
    left: Vec<Message>,
    /// Why it has failed, if it has.
    outcome: anyhow::Result<()>,
}

impl Ended {
    /// One that was stored. What could not be acknowledged of it is left.
    fn stored(acknowledged: Result<(), NotAcknowledged<'_, Message>>) -> Self {
        match acknowledged {
            Ok(()) => Self {
                left: Vec::new(),
                outcome: Ok(()),
            },
            Err(NotAcknowledged { frames, error }) => Self {
                left: frames.into_iter().cloned().collect(),
                outcome: Err(error),
            },
        }
    }

    /// One of which nothing is acknowledged.
    fn not_stored(batch: &[Message], outcome: anyhow::Result<()>) -> Self {
        let left = batch.to_vec();
        Self { left, outcome }
    }

    /// Adds the frames that are left to `held`.
    pub(super) fn keep(self, held: &mut Vec<Message>) -> anyhow::Result<()> {
        held.extend(self.left);
        self.outcome
    }
}
