//! The batches of one stream that are being stored. Several are at once, because one may wait for receivers.
//!
//! A batch that cannot be stored for long, be it because of one of its frames, outlives its session: when the connection is gone it
//! goes on beside the next session, which brings other frames at once. Its own are acknowledged over no other connection. They
//! come again when it has ended, which changes nothing.

use async_nats::jetstream::Message;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::intake::bulky::Bulky;
use crate::intake::consume::acks::{Acks, NotAcknowledged};
use crate::intake::consume::in_hand::{Hand, InHand};
use crate::intake::consume::room::{BatchRoom, Place};
use crate::intake::early::Early;
use crate::intake::early::patient::Patient;
use crate::intake::write::UNKNOWN_VERSION_DELAY;
use crate::intake::{Intake, RETRY_PAUSE};

/// See the [module](self).
#[derive(Default)]
pub(super) struct OpenBatches<'a> {
    running: FuturesUnordered<BoxFuture<'a, Ended>>,
    in_hand: InHand,
    patient: Patient,
    /// The number of the session, and how many of its batches are open.
    session: u64,
    of_session: usize,
}

/// Frames that are stored together.
pub(super) struct Batch {
    frames: Vec<Message>,
    early: Early,
    session: u64,
    place: Place,
    hand: Hand,
}

/// A batch that is no longer being stored.
pub(super) struct Ended {
    /// Its frames that are neither acknowledged nor in other hands.
    left: Vec<Message>,
    /// Why it has failed, if it has.
    outcome: anyhow::Result<()>,
    session: u64,
}

impl<'a> OpenBatches<'a> {
    /// Begins a session: batches that are open are of a former one.
    pub(super) fn begin_session(&mut self) {
        self.session += 1;
        self.of_session = 0;
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// How many wait for anything but answers.
    pub(super) fn busy(&self) -> usize {
        self.len().saturating_sub(self.patient.count())
    }

    /// Whether one of this session is open.
    pub(super) fn has_of_session(&self) -> bool {
        self.of_session > 0
    }

    /// The frames that they have.
    pub(super) fn in_hand(&self) -> InHand {
        self.in_hand.clone()
    }

    /// A batch of those frames that no other one has. `known_through` was the stream's last frame when the session began.
    pub(super) fn batch(&self, mut frames: Vec<Message>, room: &BatchRoom, known_through: u64) -> Batch {
        let hand = self.in_hand.take(&mut frames);
        Batch {
            place: room.take(frames.iter().map(|frame| frame.payload.len()).sum()),
            early: Early::new(known_through, self.patient.clone()),
            session: self.session,
            frames,
            hand,
        }
    }

    /// Adds a batch of this session.
    pub(super) fn push(&mut self, storing: BoxFuture<'a, Ended>) {
        self.of_session += 1;
        self.running.push(storing);
    }

    /// Waits until a batch ends, and returns what came of it; `None` when none is open. What is left of one of this session is added
    /// to `held`, to be given back. May be dropped while it waits.
    pub(super) async fn next(&mut self, held: &mut Vec<Message>) -> Option<anyhow::Result<()>> {
        let ended = self.running.next().await?;
        if ended.session != self.session {
            return Some(ended.refusal());
        }
        self.of_session = self.of_session.saturating_sub(1);
        held.extend(ended.left);
        Some(ended.outcome)
    }

    /// Does `work`, between two sessions. Meanwhile the batches go on.
    ///
    /// # Errors
    /// When Postgres refuses one of them for another reason than being away. Then `work` is dropped.
    pub(super) async fn beside<T>(&mut self, mut work: impl Future<Output = T> + Unpin) -> anyhow::Result<T> {
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(ended) = self.running.next() => ended.refusal()?,
            }
        }
    }

    /// The same of work that stores frames: Postgres would go on with a statement that is dropped, and nobody would start the
    /// deliveries that it leases.
    ///
    /// # Errors
    /// The same, when the work is done.
    pub(super) async fn beside_to_its_end<T>(
        &mut self,
        mut work: impl Future<Output = T> + Unpin,
    ) -> anyhow::Result<T> {
        let outcome = self.beside(&mut work).await;
        if outcome.is_err() {
            work.await;
        }
        outcome
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// When Postgres refuses one of them for another reason than being away.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.running.next().await {
            outcome = outcome.and(ended.refusal());
        }
        outcome
    }
}

impl Ended {
    /// One that was stored. What could not be acknowledged of it is left.
    fn stored(session: u64, acknowledged: Result<(), NotAcknowledged<'_, Message>>) -> Self {
        let (left, outcome) = match acknowledged {
            Ok(()) => (Vec::new(), Ok(())),
            Err(NotAcknowledged { frames, error }) => (frames.into_iter().cloned().collect(), Err(error)),
        };
        Self {
            left,
            outcome,
            session,
        }
    }

    /// One of which nothing is acknowledged.
    fn not_stored(batch: &Batch, outcome: anyhow::Result<()>) -> Self {
        Self {
            left: batch.frames.clone(),
            outcome,
            session: batch.session,
        }
    }

    /// What matters of a batch of a former session: only a refusal of Postgres. Its frames come again.
    fn refusal(self) -> anyhow::Result<()> {
        let Err(error) = self.outcome else {
            return Ok(());
        };
        if error.is::<sqlx::Error>() {
            return Err(error);
        }
        tracing::info!(
            frames = self.left.len(),
            error = format!("{error:#}"),
            "a batch has outlived its connection, its frames come again"
        );
        Ok(())
    }
}

impl Intake {
    /// Stores a batch and acknowledges it. Meanwhile nobody else is offered its frames: their deliveries may have begun.
    pub(super) async fn take_in(&self, acks: Acks, batch: Batch, bulky: &Bulky) -> Ended {
        let storing = Box::pin(self.store(&acks, &batch, bulky));
        let ended = acks.keep_during(&batch.frames, storing).await;
        self.writer.end(&batch.early).await;
        drop((batch.place, batch.hand));
        ended
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again, until the stop. Then it tries once more if events
    /// have begun: nobody else would know of the answers of their receivers.
    async fn store(&self, acks: &Acks, batch: &Batch, bulky: &Bulky) -> Ended {
        let (frames, early) = (&batch.frames, &batch.early);
        let begun = Instant::now();
        let mut is_last = false;
        loop {
            match self.writer.take(&acks.stream, frames, Some(early)).await {
                Ok(taken) => {
                    for message in taken.for_others {
                        acks.give_back(message, Some(UNKNOWN_VERSION_DELAY)).await;
                    }
                    for bundle in taken.bulky {
                        bulky.take(acks, bundle).await;
                    }
                    let acknowledged = acks.acknowledge(&taken.done, begun.elapsed()).await;
                    return Ended::stored(batch.session, acknowledged);
                }
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, frames = frames.len(), "cannot store events, trying again");
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

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::task::yield_now;

    use super::*;

    /// A batch that Postgres refuses.
    fn refused() -> Ended {
        Ended {
            left: Vec::new(),
            outcome: Err(sqlx::Error::PoolClosed.into()),
            session: 0,
        }
    }

    #[tokio::test]
    async fn frames_that_are_being_stored_between_two_sessions_are_stored_although_a_batch_is_refused() {
        let mut batches = OpenBatches::default();
        batches.push(Box::pin(ready(refused())));
        let mut is_stored = false;
        let storing = Box::pin(async {
            yield_now().await;
            is_stored = true;
        });
        let outcome = batches.beside_to_its_end(storing).await;
        assert!(outcome.unwrap_err().is::<sqlx::Error>());
        assert!(is_stored);
    }
}
