//! Producers that do not stop while something is being killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use shared::domain::id::EventId;
use tokio::task::JoinSet;

use crate::transcript::transcript;
use crate::wait::until;
use crate::world::api::{Event, Producer, accepted};

/// Pause between two events of one producer: it makes them a stream and not a flood.
const PAUSE: Duration = Duration::from_millis(5);

/// What producers were told.
#[derive(Debug, Default)]
pub struct Sent {
    /// Each event that was answered 202, with its payload.
    pub accepted: Vec<(EventId, Vec<u8>)>,
    /// The other answers, as [`transcript`] writes them.
    pub refused: Vec<String>,
    /// Why requests got no answer.
    pub unanswered: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: Mutex<Sent>,
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Producers that send one event after the other, each with another payload, until they are stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts `count` producers that are all like `producer`.
    pub fn start(producer: &Producer, count: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        for number in 0..count {
            tasks.spawn(produce(producer.clone(), number, shared.clone()));
        }
        Self { shared, tasks }
    }

    /// Waits until this many more events are accepted.
    pub async fn accepts(&self, more: usize) {
        self.has(more, "accepted events", |sent| sent.accepted.len())
            .await;
    }

    /// Waits until one more event is refused.
    pub async fn is_refused(&self) {
        self.has(1, "refused events", |sent| sent.refused.len()).await;
    }

    /// Waits until one more request gets no answer.
    pub async fn is_unanswered(&self) {
        self.has(1, "unanswered requests", |sent| sent.unanswered.len())
            .await;
    }

    /// Ends the producers after their answers and returns what they were told.
    pub async fn stop(mut self) -> Sent {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("producers do not panic");
        }
        std::mem::take(&mut *self.shared.sent())
    }

    async fn has(&self, more: usize, what: &str, count: impl Fn(&Sent) -> usize) {
        let before = count(&self.shared.sent());
        until(&format!("{more} more {what} than {before}"), async || {
            let now = count(&self.shared.sent());
            if now >= before + more {
                Ok(())
            } else {
                Err(now.to_string())
            }
        })
        .await;
    }
}

async fn produce(producer: Producer, number: usize, shared: Arc<Shared>) {
    for count in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let event = Event::new(
            "load.sent",
            format!(r#"{{"producer":{number}, "count":{count}}}"#),
        );
        match producer.try_send(&event).await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                let id = accepted(answer).await;
                shared.sent().accepted.push((id, event.data.into_bytes()));
            }
            Ok(answer) => {
                let refusal = transcript(answer).await;
                shared.sent().refused.push(refusal);
            }
            Err(error) => shared.sent().unanswered.push(format!("{error:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
