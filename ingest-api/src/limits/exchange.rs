//! How replicas keep to one limit together: they tell each other, over core NATS, what they admitted.
//!
//! A replica sends what it admitted since the last time: every exchange interval, sooner when an organisation
//! used a notable share of its limit, and, as a sign of life, at least once a second even when there is nothing
//! to tell. From those signs every replica counts the others. It hears its own messages too, which proves that
//! the connection carries any. Once they fail to return it is cut off: it keeps the count that it had and
//! admits its share of every limit. A replica that falls silent while the connection works has died, or stands
//! on the far side of a split NATS cluster; events can be accepted on one side of such a split only, so its
//! share is not held back.
//!
//! A replica that starts knows of no usage, and would grant every organisation a fresh limit. So the one with
//! the lowest id among those that were there before sends it the state.
//!
//! Messages are not authenticated: one who can write to NATS can exhaust limits, as it could fill the streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use metrics::{counter, gauge};
use shared::process::nats::Nats;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::limiter::{Cluster, RateLimiter, Usage};
use crate::limits::message::{Body, MAX_ENTRIES, Message, ReplicaId};

const SUBJECT: &str = "ingest.rate-limits";

/// The longest time between two messages of a replica.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A replica that was not heard for this long counts as gone.
const SILENCE: Duration = Duration::from_secs(3);

/// The least time between two messages of a replica.
const PACE: Duration = Duration::from_millis(5);

/// Most messages in one welcome: the organisations that are furthest ahead matter most.
const MAX_WELCOMES: usize = 50;

/// The replicas that were heard lately.
#[derive(Debug)]
struct Peers {
    own: ReplicaId,
    heard: HashMap<ReplicaId, Instant>,
    own_heard: Instant,
    known: Cluster,
}

impl Peers {
    fn new(own: ReplicaId, now: Instant) -> Self {
        Self {
            own,
            heard: HashMap::new(),
            own_heard: now,
            known: Cluster::ALONE,
        }
    }

    /// Notes a sign of life. True for a replica that was not there before.
    fn hear(&mut self, from: ReplicaId, now: Instant) -> bool {
        if from == self.own {
            self.own_heard = now;
            return false;
        }
        self.heard.insert(from, now).is_none()
    }

    fn leave(&mut self, from: ReplicaId) {
        self.heard.remove(&from);
    }

    /// Whether this replica welcomes `newcomer`: it has the lowest id of the replicas that were there before.
    fn welcomes(&self, newcomer: ReplicaId) -> bool {
        let mut others = self.heard.keys().filter(|id| **id != newcomer);
        others.all(|id| self.own < *id)
    }

    /// Counts the replicas. While this one is cut off it keeps the last count.
    fn count(&mut self, connected: bool, now: Instant) -> Cluster {
        let cut_off = !connected || now.duration_since(self.own_heard) > SILENCE;
        if cut_off {
            self.known.cut_off = true;
            return self.known;
        }
        if self.known.cut_off {
            // Nobody could be heard: give everyone time to be heard again.
            self.heard.values_mut().for_each(|heard| *heard = now);
        }
        self.heard
            .retain(|_, heard| now.duration_since(*heard) <= SILENCE);
        self.known = Cluster {
            replicas: u32::try_from(self.heard.len()).map_or(u32::MAX, |others| others.saturating_add(1)),
            cut_off: false,
        };
        self.known
    }
}

/// One replica's part in the exchange.
#[derive(Debug)]
pub(crate) struct RateExchange {
    limiter: Arc<RateLimiter>,
    nats: Nats,
    interval: Duration,
    peers: Peers,
    // When the next message is due, and when the last one went out.
    due: Instant,
    sent: Instant,
}

impl RateExchange {
    /// A replica that is alone until it hears others.
    pub(crate) fn new(limiter: Arc<RateLimiter>, nats: Nats, interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            limiter,
            nats,
            interval,
            peers: Peers::new(ReplicaId::generate(), now),
            due: now,
            sent: now.checked_sub(SIGN_OF_LIFE).unwrap_or(now),
        }
    }

    /// Sends and hears usage, until the stop.
    ///
    /// # Errors
    /// When the subscription ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut messages = self.nats.client.subscribe(SUBJECT).await?;
        let mut connections = self.nats.connections();
        let limiter = self.limiter.clone();
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or_else(|| anyhow::anyhow!("the subscription to {SUBJECT} ended"))?;
                    self.hear(&message.payload).await;
                }
                () = limiter.hurried() => self.due = self.due.min(self.sent + PACE),
                () = tokio::time::sleep_until(self.due) => self.tell().await,
                // Others must know at once that this one is there.
                () = connections.changed() => self.tell_now(),
                () = stop.cancelled() => break,
            }
        }
        self.send(Body::Leaving).await;
        Ok(())
    }

    fn tell_now(&mut self) {
        self.sent = self.sent.checked_sub(SIGN_OF_LIFE).unwrap_or(self.sent);
        self.due = Instant::now();
    }

    async fn hear(&mut self, payload: &[u8]) {
        let Some(Message { from, body }) = Message::decode(payload) else {
            counter!("penstock_rate_limit_messages_unread_total").increment(1);
            return;
        };
        let is_new = self.peers.hear(from, Instant::now());
        match body {
            _ if from == self.peers.own => {}
            Body::Admitted(usage) => self.limiter.add(&usage),
            Body::Leaving => self.peers.leave(from),
            Body::Welcome(to, state) if to == self.peers.own => self.limiter.raise(&state),
            Body::Welcome(..) => {}
        }
        self.recount();
        if is_new && self.peers.heard.contains_key(&from) {
            self.welcome(from).await;
            self.tell_now();
        }
    }

    fn recount(&mut self) -> Cluster {
        let cluster = self.peers.count(self.nats.is_connected(), Instant::now());
        self.limiter.set_cluster(cluster);
        gauge!("penstock_rate_limit_replicas").set(cluster.replicas);
        gauge!("penstock_rate_limit_cut_off").set(u8::from(cluster.cut_off));
        cluster
    }

    /// Sends the usage that the others do not know yet. Without other replicas it is dropped.
    async fn tell(&mut self) {
        self.due = Instant::now() + self.interval;
        let cluster = self.recount();
        let mut usage = self.limiter.take_untold(MAX_ENTRIES);
        if cluster.replicas == 1 || cluster.cut_off {
            usage.clear();
        }
        let more = usage.len() == MAX_ENTRIES;
        if !usage.is_empty() || self.sent.elapsed() >= SIGN_OF_LIFE {
            self.send(Body::Admitted(usage)).await;
            self.sent = Instant::now();
        }
        if more {
            self.due = self.sent + PACE;
        }
    }

    async fn welcome(&self, newcomer: ReplicaId) {
        if !self.peers.welcomes(newcomer) {
            return;
        }
        let mut state = self.limiter.state();
        state.sort_unstable_by_key(|usage| std::cmp::Reverse(usage.nanos));
        for part in state.chunks(MAX_ENTRIES).take(MAX_WELCOMES) {
            self.send(Body::Welcome(newcomer, Vec::<Usage>::from(part))).await;
        }
    }

    async fn send(&self, body: Body) {
        // The client would keep the message and send it after it has connected again, when no replica needs it any
        // more.
        if !self.nats.is_connected() {
            return;
        }
        let message = Message {
            from: self.peers.own,
            body,
        };
        let sent = self.nats.client.publish(SUBJECT, message.encode().into());
        match timeout(SIGN_OF_LIFE, sent).await {
            Ok(Ok(())) => counter!("penstock_rate_limit_messages_sent_total").increment(1),
            Ok(Err(error)) => tracing::debug!(%error, "cannot tell other replicas of usage"),
            Err(_) => tracing::debug!("cannot tell other replicas of usage in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(count: usize) -> Vec<ReplicaId> {
        let mut ids: Vec<_> = (0..count).map(|_| ReplicaId::generate()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn replicas_are_counted_while_they_are_heard() {
        let (ids, start) = (replicas(3), Instant::now());
        let mut peers = Peers::new(ids[0], start);
        assert_eq!(peers.count(true, start), Cluster::ALONE);
        assert!(peers.hear(ids[1], start) && peers.hear(ids[2], start));
        assert!(!peers.hear(ids[1], start) && !peers.hear(ids[0], start));
        assert_eq!(peers.count(true, start).replicas, 3);
        peers.leave(ids[2]);
        assert_eq!(peers.count(true, start).replicas, 2);
        let later = start + SILENCE * 2;
        peers.hear(ids[0], later);
        assert_eq!(peers.count(true, later), Cluster::ALONE);
    }

    #[test]
    fn a_replica_that_is_cut_off_keeps_the_count_and_gives_everyone_time_to_return() {
        let (ids, start) = (replicas(2), Instant::now());
        let two = |cut_off| Cluster { replicas: 2, cut_off };
        let mut peers = Peers::new(ids[0], start);
        peers.hear(ids[1], start);
        assert_eq!(peers.count(true, start), two(false));
        assert_eq!(peers.count(false, start), two(true));
        let later = start + SILENCE * 10;
        assert_eq!(
            peers.count(true, later),
            two(true),
            "its own messages do not return"
        );
        peers.hear(ids[0], later);
        assert_eq!(peers.count(true, later), two(false));
        let much_later = later + SILENCE * 2;
        peers.hear(ids[0], much_later);
        assert_eq!(peers.count(true, much_later), Cluster::ALONE);
    }

    #[test]
    fn exactly_one_of_those_that_were_there_welcomes_a_newcomer() {
        let (ids, now) = (replicas(4), Instant::now());
        for newcomer in &ids {
            let welcoming = ids.iter().filter(|own| *own != newcomer).filter(|own| {
                let mut peers = Peers::new(**own, now);
                for id in &ids {
                    peers.hear(*id, now);
                }
                peers.welcomes(*newcomer)
            });
            assert_eq!(welcoming.count(), 1);
        }
    }
}
