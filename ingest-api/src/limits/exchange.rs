//! How replicas keep to one limit together: they tell each other, over core NATS, what they admitted.
//!
//! A replica sends what it admitted since the last time: once a second, every exchange interval while half of a
//! limit or more is used up, and sooner when an organisation used a notable share of its limit. A message without
//! usage is a sign of life. From these signs every replica counts the others. It hears its own messages too, which
//! proves that the connection carries any. Once they fail to return it is cut off: it keeps the count that it had and
//! admits its share of every limit. A replica that falls silent while the connection works has died, or stands
//! on the far side of a split NATS cluster; events can be accepted on one side of such a split only, so its
//! share is not held back.
//!
//! A replica that starts knows of no usage, and would grant every organisation a fresh limit. So the one with
//! the lowest id among those that were there before sends it the state.
//!
//! Once a second it also tells which tenants it has refused, if any, so that each can show the refusals of all.
//!
//! Messages are not authenticated: one who can write to NATS can exhaust limits, as it could fill the streams.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use metrics::{counter, gauge};
use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::cluster::Cluster;
use crate::limits::limiter::{RateLimiter, Usage};
use crate::limits::message::{Body, MAX_ENTRIES, MAX_REFUSED, Message, ReplicaId};
use crate::limits::peers::Peers;
use crate::limits::tenants::TenantLimits;

const SUBJECT: &str = "ingest.rate-limits";

/// The longest time between two messages of a replica.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The least time between two messages of a replica.
const PACE: Duration = Duration::from_millis(5);

/// How long after the connection was made or lost the client shows it.
const SETTLED: Duration = Duration::from_millis(10);

/// Most messages in one welcome: the organisations that are furthest ahead matter most.
const MAX_WELCOMES: usize = 50;

/// The least time between two rounds of messages about refused tenants, and most messages in one. What does not fit in waits for
/// the next one.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(1);
const MAX_REFUSALS: usize = 10;

/// One replica's part in the exchange.
#[derive(Debug)]
pub(crate) struct RateExchange {
    limiter: Arc<RateLimiter>,
    tenants: Arc<TenantLimits>,
    nats: Nats,
    /// The time between two messages while a limit is half used up.
    interval: Duration,
    peers: Peers,
    /// Where it is told how many there are.
    replicas: Replicas,
    // When the next message is due, and when the last one went out.
    due: Instant,
    sent: Instant,
    /// When refusals are told next.
    refusals_due: Instant,
}

impl RateExchange {
    /// A replica that is alone until it hears others. How many there are is told to `replicas`.
    pub(crate) fn new(
        limiter: Arc<RateLimiter>,
        tenants: Arc<TenantLimits>,
        nats: Nats,
        interval: Duration,
        replicas: Replicas,
    ) -> Self {
        let now = Instant::now();
        Self {
            limiter,
            tenants,
            nats,
            interval,
            peers: Peers::new(ReplicaId::generate(), now),
            replicas,
            due: now,
            sent: now.checked_sub(SIGN_OF_LIFE).unwrap_or(now),
            refusals_due: now,
        }
    }

    /// Sends and hears usage, until the stop.
    ///
    /// # Errors
    /// When the subscription ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut messages = self.nats.client.subscribe(SUBJECT).await?;
        let mut changes = self.nats.changes();
        let limiter = self.limiter.clone();
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or_else(|| anyhow::anyhow!("the subscription to {SUBJECT} ended"))?;
                    self.hear(&message.payload).await;
                }
                () = limiter.hurried() => self.due = self.due.min(self.sent + PACE),
                () = limiter.close_to_a_limit() => self.due = self.due.min(self.sent + self.interval),
                () = tokio::time::sleep_until(self.due) => self.tell().await,
                // Others must know at once that this one is there, and this one when it is cut off.
                () = changes.next() => self.tell_at(Instant::now() + SETTLED),
                () = stop.cancelled() => break,
            }
        }
        self.send(Body::Leaving).await;
        Ok(())
    }

    /// Gives a sign of life then.
    fn tell_at(&mut self, due: Instant) {
        self.sent = self.sent.checked_sub(SIGN_OF_LIFE).unwrap_or(self.sent);
        self.due = self.due.min(due);
    }

    async fn hear(&mut self, payload: &[u8]) {
        let Some(Message { from, body }) = Message::decode(payload) else {
            counter!("penstock_rate_limit_messages_unread_total").increment(1);
            return;
        };
        let is_new = self.peers.hear(from, Instant::now());
        match body {
            _ if from == self.peers.own() => {}
            Body::Admitted(usage) => self.limiter.add(&usage),
            Body::Leaving => self.peers.leave(from),
            Body::Welcome(to, state) if to == self.peers.own() => self.limiter.raise(&state),
            Body::Welcome(..) => {}
            Body::Refused(refused) => self.tenants.refusals.hear(&refused),
        }
        self.recount();
        if is_new && self.peers.knows(from) {
            self.welcome(from).await;
            self.tell_at(Instant::now());
        }
    }

    fn recount(&mut self) -> Cluster {
        let cluster = self.peers.count(self.nats.is_connected(), Instant::now());
        self.limiter.set_cluster(cluster);
        self.replicas.set(cluster.replicas);
        gauge!("penstock_rate_limit_replicas").set(cluster.replicas);
        gauge!("penstock_rate_limit_cut_off").set(u8::from(cluster.cut_off));
        cluster
    }

    /// Sends the usage that the others do not know yet. Without other replicas it is dropped.
    async fn tell(&mut self) {
        let now = Instant::now();
        let cluster = self.recount();
        let mut usage = self.limiter.take_untold(MAX_ENTRIES);
        if cluster.replicas == 1 || cluster.cut_off {
            usage.clear();
        }
        let pause = if usage.len() == MAX_ENTRIES {
            PACE
        } else {
            SIGN_OF_LIFE
        };
        if !usage.is_empty() || now >= self.sent + SIGN_OF_LIFE {
            self.send(Body::Admitted(usage)).await;
            self.sent = now;
        }
        if now >= self.refusals_due {
            self.refusals_due = now + REFUSALS_INTERVAL;
            self.tell_refusals(cluster).await;
        }
        self.due = (self.sent + pause).min(self.refusals_due);
    }

    /// Sends the refusals that the others do not know yet. Without other replicas they count as told.
    async fn tell_refusals(&self, cluster: Cluster) {
        let untold = self.tenants.refusals.take_untold(MAX_REFUSALS * MAX_REFUSED);
        if cluster.replicas == 1 || cluster.cut_off {
            return;
        }
        for part in untold.chunks(MAX_REFUSED) {
            self.send(Body::Refused(part.to_vec())).await;
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
            from: self.peers.own(),
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
