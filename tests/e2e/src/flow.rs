//! A steady flow of events: so many a second, whatever becomes of them. What is killed meanwhile does not slow it
//! down, as it would slow down producers that wait for their answers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use reqwest::StatusCode;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use shared::domain::id::EventId;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::wait::until;
use crate::world::api::{Event, Producer};

/// Bytes of each event's `data`.
const DATA_BYTES: usize = 1_024;

/// One event in so many has an ordering key, in a flow with keys. The events of a key go to two producers in turn: both numbers
/// are odd.
const KEYED_ONE_IN: usize = 5;

/// Different ordering keys.
const KEYS: usize = 15;

#[derive(Deserialize)]
struct Accepted {
    id: EventId,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 202, with the event's id.
    Accepted(EventId),
    /// Another answer.
    Refused {
        /// Its status.
        status: u16,
        /// Whether it says when to try again.
        retry_after: bool,
    },
    /// None, for this reason.
    Unanswered(String),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Answered {
    /// When it was sent.
    pub sent: Instant,
    /// How long its answer took.
    pub took: Duration,
    /// The number of the producer, which is that of its `ingest-api`.
    pub producer: usize,
    /// The digest of the event's payload.
    pub digest: Vec<u8>,
    /// The event's ordering key.
    pub ordering_key: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Answered {
    /// Whether it was answered 202.
    pub fn is_accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted(_))
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answers: Mutex<Vec<Answered>>,
}

/// Sends different events of 1 KiB at a steady rate to several producers in turn. As a load balancer would, it
/// passes a request whose connection is refused to the next one.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Flow {
    /// Starts to send `per_second` events a second.
    ///
    /// # Panics
    /// Without a producer.
    pub fn start(producers: Vec<Producer>, per_second: u32) -> Self {
        Self::start_with(producers, per_second, event)
    }

    /// The same, and some of the events have ordering keys.
    ///
    /// # Panics
    /// Without a producer.
    pub fn start_with_keys(producers: Vec<Producer>, per_second: u32) -> Self {
        Self::start_with(producers, per_second, event_with_key)
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no tasks of a service")]
    fn start_with(producers: Vec<Producer>, per_second: u32, event: fn(usize) -> Event) -> Self {
        assert!(!producers.is_empty(), "events are sent somewhere");
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(send_all(producers.into(), per_second, event, shared.clone()));
        Self { shared, task }
    }

    /// Waits until each of `producers` has had an event accepted that was sent from now on.
    ///
    /// # Panics
    /// After [`DEADLINE`](crate::DEADLINE).
    pub async fn is_accepted_by(&self, producers: usize) {
        let start = Instant::now();
        until("every producer to be answered 202 again", async || {
            let answers = self.shared.answers();
            let new = answers
                .iter()
                .rev()
                .filter(|answer| answer.sent > start && answer.is_accepted());
            let accepting: HashSet<_> = new.map(|answer| answer.producer).collect();
            if accepting.len() == producers {
                Ok(())
            } else {
                Err(format!("202 by {accepting:?}"))
            }
        })
        .await;
    }

    /// Waits until one more event is refused.
    ///
    /// # Panics
    /// After [`DEADLINE`](crate::DEADLINE).
    pub async fn is_refused(&self) {
        let is_refusal = |answer: &&Answered| matches!(answer.outcome, Outcome::Refused { .. });
        let refused = || self.shared.answers().iter().filter(is_refusal).count();
        let before = refused();
        until("an event to be refused", async || {
            if refused() > before {
                Ok(())
            } else {
                Err(format!("{before} refused"))
            }
        })
        .await;
    }

    /// Sends nothing more and returns all answers, in the order in which they came.
    ///
    /// # Panics
    /// When a request could not be made.
    pub async fn stop(self) -> Vec<Answered> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("requests can be made");
        std::mem::take(&mut *self.shared.answers())
    }
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, Vec<Answered>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send_all(
    producers: Arc<[Producer]>,
    per_second: u32,
    event: fn(usize) -> Event,
    shared: Arc<Shared>,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for number in 0_usize.. {
        tick.tick().await;
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        requests.spawn(send(producers.clone(), number, event(number), shared.clone()));
        while let Some(ended) = requests.try_join_next() {
            ended.expect("requests do not panic");
        }
    }
    while let Some(ended) = requests.join_next().await {
        ended.expect("requests do not panic");
    }
}

async fn send(producers: Arc<[Producer]>, number: usize, event: Event, shared: Arc<Shared>) {
    let digest = Sha256::digest(&event.data).to_vec();
    let sent = Instant::now();
    let mut producer = number % producers.len();
    let mut answer = producers[producer].try_send(&event).await;
    for _ in 1..producers.len() {
        if !answer.as_ref().is_err_and(reqwest_middleware::Error::is_connect) {
            break;
        }
        producer = (producer + 1) % producers.len();
        answer = producers[producer].try_send(&event).await;
    }
    let outcome = match answer {
        Ok(answer) if answer.status() == StatusCode::ACCEPTED => match answer.json().await {
            Ok(Accepted { id }) => Outcome::Accepted(id),
            Err(error) => Outcome::Unanswered(format!("half a 202: {error:?}")),
        },
        Ok(answer) => Outcome::Refused {
            status: answer.status().as_u16(),
            retry_after: answer.headers().contains_key("retry-after"),
        },
        Err(error) => Outcome::Unanswered(format!("{error:?}")),
    };
    let took = sent.elapsed();
    shared.answers().push(Answered {
        sent,
        took,
        producer,
        digest,
        ordering_key: event.ordering_key,
        outcome,
    });
}

/// An event whose payload no other number has, in all of its bytes.
fn event(number: usize) -> Event {
    let noise = HEXLOWER.encode(&Sha256::digest(number.to_le_bytes()));
    let head = format!(r#"{{"number":{number}, "noise":""#);
    let length = DATA_BYTES - head.len() - 2;
    let noise: String = noise.chars().cycle().take(length).collect();
    Event::new("flow.sent", head + &noise + "\"}")
}

/// The same, with an ordering key if it is the turn of this number.
fn event_with_key(number: usize) -> Event {
    let is_keyed = number.is_multiple_of(KEYED_ONE_IN);
    let key = is_keyed.then(|| format!("key-{}", number / KEYED_ONE_IN % KEYS));
    event(number).with_ordering_key(key)
}
