//! Judging a whole run: what producers were told, what the tables hold and what the receiver got must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shared::domain::id::EventId;
use sqlx::PgPool;

use crate::flow::{Answered, Outcome};
use crate::servers::receiver::Receiver;
use crate::servers::sink::Sink;
use crate::servers::webhook::Receipt;
use crate::wait::{DEADLINE, until_none_left};
use crate::world::World;
use crate::world::api::Organization;

/// A number of arrivals, by event.
type Places = BTreeMap<EventId, usize>;

/// Everything that happened to the events of one organisation with one endpoint. For a payload its digest may
/// stand, in all accounts alike.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Each event that was answered 202, with the payload that was sent.
    pub accepted: Vec<(EventId, Vec<u8>)>,
    /// The payloads of the requests that were answered otherwise or not at all: their events may be stored all the same. None when
    /// their sender has not kept them.
    pub unaccepted: Option<BTreeSet<Vec<u8>>>,
    /// Those of the accepted events that have an ordering key, at an ordered endpoint.
    pub ordered: Vec<Ordered>,
    /// Each row of `events`, with its payload.
    pub stored: Vec<(EventId, Vec<u8>)>,
    /// Each row of `deliveries`, with its status.
    pub deliveries: Vec<(EventId, String)>,
    /// Each webhook that arrived.
    pub received: Vec<Receipt>,
}

/// An accepted event with an ordering key.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The event.
    pub id: EventId,
    /// Its key.
    pub key: String,
    /// When its request was sent.
    pub sent: Instant,
    /// When its 202 came.
    pub answered: Instant,
}

impl Ordered {
    /// Whether it has arrived before an event that certainly comes before it in the stream had been taken. Either may be repeated at any
    /// time: only its first arrival counts, and the first answer to the other that was a success. `first` says how many webhooks arrived
    /// before that arrival, and `taken` how many before that answer.
    fn is_early(&self, of_key: &[&Self], first: &Places, taken: &Places) -> bool {
        let Some(arrived) = first.get(&self.id) else {
            return false;
        };
        let mut before = of_key.iter().filter(|other| other.answered <= self.sent);
        before.any(|other| taken.get(&other.id).is_none_or(|by_then| by_then > arrived))
    }
}

/// What became of the accepted events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events that were answered 202.
    pub accepted: usize,
    /// Those of them that are in `events`.
    pub stored: usize,
    /// Those of them whose delivery is `delivered`.
    pub delivered: usize,
    /// Those of them whose delivery is `dead`.
    pub dead: usize,
    /// Those of them whose delivery is `pending`.
    pub pending: usize,
    /// Stored events that nobody was told of: their producers got a refusal or no answer.
    pub unanswered: usize,
    /// Not stored, or without a delivery, or `delivered` although no webhook was answered with success.
    pub lost: BTreeSet<EventId>,
    /// Stored twice, with two deliveries, or more than one webhook was answered with success.
    pub duplicated: BTreeSet<EventId>,
    /// Stored or delivered with other bytes than were sent, or two events under one id. An event that nobody was told of must have the
    /// payload of one of the requests without a 202.
    pub altered: BTreeSet<EventId>,
    /// Arrived before an event of the same ordering key was taken whose 202 had come when they were sent.
    pub misordered: BTreeSet<EventId>,
}

impl Verdict {
    /// Every accepted event was delivered, once, as it was sent, and in order.
    pub fn is_flawless(&self) -> bool {
        let faults = [&self.lost, &self.duplicated, &self.altered, &self.misordered];
        self.delivered == self.accepted && faults.iter().all(|ids| ids.is_empty())
    }
}

impl History {
    /// Compares the accounts.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict {
            misordered: self.misordered(),
            ..Verdict::default()
        };
        let mut sent = BTreeMap::new();
        for (id, data) in &self.accepted {
            if sent.insert(*id, data).is_some_and(|other| other != data) {
                verdict.altered.insert(*id);
            }
        }
        verdict.accepted = sent.len();
        let is_as_sent = |id: &EventId, data: &Vec<u8>| match (sent.get(id), &self.unaccepted) {
            (Some(sent), _) => *sent == data,
            (None, Some(payloads)) => payloads.contains(data),
            (None, None) => true,
        };

        let mut stored = BTreeMap::<_, usize>::new();
        for (id, data) in &self.stored {
            *stored.entry(*id).or_default() += 1;
            if !is_as_sent(id, data) {
                verdict.altered.insert(*id);
            }
        }
        let mut taken = BTreeMap::<_, usize>::new();
        for receipt in &self.received {
            *taken.entry(receipt.id).or_default() += usize::from(receipt.taken);
            if !is_as_sent(&receipt.id, &receipt.data) {
                verdict.altered.insert(receipt.id);
            }
        }
        let twice = stored.iter().chain(&taken).filter(|&(_, &count)| count > 1);
        verdict.duplicated = twice.map(|(id, _)| *id).collect();
        let mut deliveries = BTreeMap::new();
        for (id, status) in &self.deliveries {
            if deliveries.insert(*id, status.as_str()).is_some() && sent.contains_key(id) {
                verdict.duplicated.insert(*id);
            }
        }
        verdict.unanswered = stored.keys().filter(|id| !sent.contains_key(id)).count();

        for id in sent.keys() {
            let arrived = taken.get(id).is_some_and(|&count| count > 0);
            let is_stored = stored.contains_key(id);
            verdict.stored += usize::from(is_stored);
            let found = match deliveries.get(id).copied() {
                Some("delivered") => {
                    verdict.delivered += 1;
                    arrived
                }
                Some("dead") => {
                    verdict.dead += 1;
                    true
                }
                Some("pending") => {
                    verdict.pending += 1;
                    true
                }
                _ => false,
            };
            if !found || !is_stored {
                verdict.lost.insert(*id);
            }
        }
        verdict
    }

    fn misordered(&self) -> BTreeSet<EventId> {
        let (mut first, mut taken) = (Places::new(), Places::new());
        for (place, receipt) in self.received.iter().enumerate() {
            first.entry(receipt.id).or_insert(place);
            if receipt.taken {
                let by_then = receipt.arrived_by_then.max(place + 1);
                let least = taken.entry(receipt.id).or_insert(by_then);
                *least = by_then.min(*least);
            }
        }
        let mut keys = BTreeMap::<_, Vec<_>>::new();
        for event in &self.ordered {
            keys.entry(&event.key).or_default().push(event);
        }
        let all = keys
            .values()
            .flat_map(|of_key| of_key.iter().map(move |event| (event, of_key)));
        all.filter(|(event, of_key)| event.is_early(of_key, &first, &taken))
            .map(|(event, _)| event.id)
            .collect()
    }
}

impl World {
    /// Waits until the streams are empty and every delivery is finished.
    pub async fn settle(&self) {
        self.settle_with(DEADLINE).await;
    }

    /// The same where workers may come no further for longer than [`DEADLINE`].
    pub async fn settle_with(&self, patience: Duration) {
        self.streams_are_drained_with(patience).await;
        until_none_left(patience, "every delivery to be finished", async || {
            let query = sqlx::query_scalar("select count(*) from deliveries where status = 'pending'");
            let pending: Result<i64, _> = query.fetch_one(&self.database).await;
            let pending = pending.map_err(|error| error.to_string())?;
            Ok((pending.unsigned_abs(), "pending".to_owned()))
        })
        .await;
    }

    /// Waits until the world is settled and returns all that has happened.
    pub async fn history(&self, accepted: Vec<(EventId, Vec<u8>)>, receiver: &Receiver) -> History {
        self.settle().await;
        History {
            accepted,
            stored: read(&self.database, "select id, data from events").await,
            deliveries: read(&self.database, "select event_id, status from deliveries").await,
            received: receiver.webhooks().iter().map(Receipt::from).collect(),
            ..History::default()
        }
    }

    /// What has happened so far to an organisation's events, all of which [`Flow`](crate::Flow)s have sent, at an ordered endpoint
    /// whose receiver is a [`Sink`]. In it stand the payloads' digests.
    pub async fn digested_history(
        &self,
        organization: &Organization,
        answers: &[Answered],
        sink: &Sink,
    ) -> History {
        let stored = sqlx::query_as("select id, sha256(data) from events where org_id = $1");
        let stored = stored.bind(organization.id).fetch_all(&self.database).await;
        let others = answers.iter().filter(|answer| !answer.is_accepted());
        History {
            accepted: accepted(answers)
                .map(|(id, answer)| (id, answer.digest.clone()))
                .collect(),
            unaccepted: Some(others.map(|answer| answer.digest.clone()).collect()),
            ordered: accepted(answers).filter_map(ordered).collect(),
            stored: stored.expect("Postgres runs"),
            deliveries: read(&self.database, "select event_id, status from deliveries").await,
            received: sink.receipts(),
        }
    }
}

fn accepted(answers: &[Answered]) -> impl Iterator<Item = (EventId, &Answered)> {
    answers.iter().filter_map(|answer| match answer.outcome {
        Outcome::Accepted(id) => Some((id, answer)),
        Outcome::Refused { .. } | Outcome::Unanswered(_) => None,
    })
}

/// What is known of the place of an accepted event in the order of its key, if it has one.
fn ordered((id, answer): (EventId, &Answered)) -> Option<Ordered> {
    Some(Ordered {
        id,
        key: answer.ordering_key.clone()?,
        sent: answer.sent,
        answered: answer.sent + answer.took,
    })
}

async fn read<T>(database: &PgPool, query: &'static str) -> Vec<(EventId, T)>
where
    (EventId, T): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    let rows = sqlx::query_as(query).fetch_all(database).await;
    rows.expect("Postgres runs")
}
