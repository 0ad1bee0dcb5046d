//! Taking frames out of the streams: decode, store, start what has permits, acknowledge. A frame is
//! acknowledged only after the commit of its events, so a worker that dies in between loses nothing: another
//! one gets the frame, and storing it again changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{self, AckKind, Message};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use shared::clock::UnixMicros;
use shared::event::Event;
use shared::frame::{self, FrameError};
use shared::id::{EventId, LeaseToken};
use shared::nats::Nats;
use shared::shutdown::Tasks;
use shared::stream;
use shared::telemetry::Readiness;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::deliver::{EventFields, Outgoing};
use crate::dispatch::{Dispatcher, Job};
use crate::endpoint::Endpoint;
use crate::fan_out::{Directory, Snapshot};
use crate::permits::{Permit, Permits};
use crate::persist::{self, NewDelivery, Order, Stored, Unreadable};

/// The readiness condition that intake fulfils.
pub const STREAMS_FOUND: &str = "event streams";

/// Most frames, and about the most bytes, that are stored in one statement.
const MAX_BATCH_FRAMES: usize = 64;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Bytes of frames that the server sends ahead.
const PREFETCH_BYTES: usize = 8 << 20;

/// How long one request for frames stays open, and how often the server says that it is still there.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);

/// How often new streams are looked for, and how often until the first is there.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_DISCOVERY_INTERVAL: Duration = Duration::from_millis(100);

/// Pause before trying again what NATS or Postgres could not do.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A frame of an unknown version is offered this often, to whichever worker can read it, before it is set aside.
const UNKNOWN_VERSION_TRIES: i64 = 5;
const UNKNOWN_VERSION_DELAY: Duration = Duration::from_secs(5);

/// Takes frames out of the streams.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The connection to NATS.
    pub nats: Nats,
    /// The database.
    pub pool: PgPool,
    /// The endpoints.
    pub directory: Arc<Directory>,
    /// What limits the deliveries that start at once.
    pub permits: Permits,
    /// Where they go.
    pub dispatcher: Dispatcher,
    /// How long a worker may hold a frame.
    pub ack_wait: Duration,
    /// How much longer a lease lasts than the endpoint's timeout.
    pub lease_margin: Duration,
}

/// An event with its place in the streams.
#[derive(Clone, Copy, Debug)]
struct Located<'a> {
    event: Event<'a>,
    stream: &'a str,
    sequence: u64,
    position: usize,
}

impl Located<'_> {
    fn order(&self) -> Option<Order> {
        let sequence = i64::try_from(self.sequence).unwrap_or(i64::MAX >> 10);
        let position = i64::try_from(self.position).unwrap_or(0);
        Some(Order {
            key: self.event.ordering_key?.to_owned(),
            stream: self.stream.to_owned(),
            ordinal: (sequence << 10) + position,
        })
    }
}

impl Intake {
    /// Consumes every event stream until the stop; streams that appear later are found.
    ///
    /// # Errors
    /// Never; each stream is a task of its own.
    pub async fn run(self, tasks: Tasks, readiness: Readiness) -> anyhow::Result<()> {
        let jetstream = self.nats.jetstream();
        let mut known = HashSet::new();
        while !tasks.stop().is_cancelled() {
            match stream_names(&jetstream).await {
                Ok(names) => {
                    for name in names {
                        if known.insert(name.clone()) {
                            let consuming = self.clone().consume(name, tasks.stop().clone());
                            tasks.spawn_long_lived("intake", consuming);
                        }
                    }
                }
                Err(error) => tracing::debug!(error = format!("{error:#}"), "cannot list the event streams"),
            }
            readiness.set(STREAMS_FOUND, !known.is_empty());
            let pause = if known.is_empty() {
                FIRST_DISCOVERY_INTERVAL
            } else {
                DISCOVERY_INTERVAL
            };
            let _ = tasks.stop().run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        Ok(())
    }

    /// Consumes one stream until the stop.
    async fn consume(self, name: String, stop: CancellationToken) -> anyhow::Result<()> {
        let jetstream = self.nats.jetstream();
        tracing::info!(stream = name, "consuming");
        while !stop.is_cancelled() {
            let outcome = match stop.run_until_cancelled(self.messages(&jetstream, &name)).await {
                None => return Ok(()),
                Some(Ok(messages)) => self.consume_messages(&name, messages, &stop).await,
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = outcome {
                if is_stream_gone(&error) || error.downcast_ref::<sqlx::Error>().is_some() {
                    return Err(error);
                }
                tracing::warn!(
                    stream = name,
                    error = format!("{error:#}"),
                    "intake was interrupted, starting again"
                );
                let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
            }
        }
        Ok(())
    }

    async fn messages(&self, jetstream: &jetstream::Context, name: &str) -> anyhow::Result<pull::Stream> {
        let config = stream::consumer(self.ack_wait);
        let consumer: Consumer<pull::Config> = jetstream.create_consumer_on_stream(config, name).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(MAX_BATCH_FRAMES)
            .max_bytes_per_batch(PREFETCH_BYTES)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await?;
        Ok(messages)
    }

    async fn consume_messages(
        &self,
        name: &str,
        mut messages: pull::Stream,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        while let Some(batch) = stop.run_until_cancelled(next_batch(&mut messages)).await {
            let batch = batch?;
            if !self.take_in(name, &batch, stop).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Stores a batch and acknowledges it. While Postgres is away it tries again and keeps the frames; false
    /// when the stop came first.
    async fn take_in(
        &self,
        stream: &str,
        batch: &[Message],
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        loop {
            match self.store(stream, batch).await {
                Ok(acknowledged) => {
                    for message in acknowledged {
                        message
                            .ack()
                            .await
                            .map_err(anyhow::Error::from_boxed)
                            .context("cannot acknowledge")?;
                    }
                    return Ok(true);
                }
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, frames = batch.len(), "cannot store events, trying again");
                    for message in batch {
                        let _ = message.ack_with(AckKind::Progress).await;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(RETRY_PAUSE))
                .await
                .is_none()
            {
                return Ok(false);
            }
        }
    }

    /// Stores what can be read, sets aside what cannot, and returns the messages that are done with.
    async fn store<'a>(
        &self,
        stream: &'a str,
        batch: &'a [Message],
    ) -> Result<Vec<&'a Message>, sqlx::Error> {
        let (mut done, mut events) = (Vec::new(), Vec::new());
        for message in batch {
            let Ok(info) = message.info() else { continue };
            let version = message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(frame::VERSION_HEADER));
            let version = version.map(async_nats::HeaderValue::as_str);
            let sequence = info.stream_sequence;
            let set_aside = async |position, reason: &str, bytes| {
                let unreadable = Unreadable {
                    stream,
                    sequence,
                    position,
                    frame_version: version,
                    reason,
                    bytes,
                };
                self.set_aside(&unreadable).await
            };
            match frame::decode(version, &message.payload) {
                Ok(decoded) => {
                    for (position, event) in decoded.into_iter().enumerate() {
                        match event {
                            Ok(event) => events.push(Located {
                                event,
                                stream,
                                sequence,
                                position,
                            }),
                            Err(error) => set_aside(Some(position), &error.to_string(), error.bytes).await?,
                        }
                    }
                }
                Err(FrameError::UnknownVersion(_)) if info.delivered < UNKNOWN_VERSION_TRIES => {
                    let _ = message.ack_with(AckKind::Nak(Some(UNKNOWN_VERSION_DELAY))).await;
                    continue;
                }
                Err(error) => set_aside(None, &error.to_string(), &message.payload).await?,
            }
            done.push(message);
        }
        metrics::counter!("intake_events_total").increment(events.len() as u64);
        while !events.is_empty() {
            let (first, repeats) = split_repeats(events);
            self.store_events(&first).await?;
            events = repeats;
        }
        Ok(done)
    }

    /// Stores events with different ids. When Postgres refuses a value, the event that holds it is found by
    /// halving and set aside.
    async fn store_events(&self, events: &[Located<'_>]) -> Result<(), sqlx::Error> {
        let mut parts = vec![events];
        while let Some(part) = parts.pop() {
            match self.store_part(part).await {
                Ok(()) => {}
                Err(error) if !is_about_a_value(&error) => return Err(error),
                Err(error) => {
                    if let [located] = part {
                        let bytes = rmp_serde::to_vec_named(&located.event).unwrap_or_default();
                        self.set_aside(&Unreadable {
                            stream: located.stream,
                            sequence: located.sequence,
                            position: Some(located.position),
                            frame_version: Some(frame::VERSION),
                            reason: &error.to_string(),
                            bytes: &bytes,
                        })
                        .await?;
                    } else {
                        let (one, two) = part.split_at(part.len() / 2);
                        parts.extend([two, one]);
                    }
                }
            }
        }
        Ok(())
    }

    async fn store_part(&self, part: &[Located<'_>]) -> Result<(), sqlx::Error> {
        let events: Vec<_> = part.iter().map(|located| &located.event).collect();
        loop {
            let endpoints = self.directory.snapshot();
            let (deliveries, starts) = self.fan_out(&endpoints, part);
            match persist::store(&self.pool, endpoints.version, &events, &deliveries).await? {
                Stored::Stale => {
                    self.directory.refresh().await?;
                }
                Stored::New(new) => {
                    self.start(&events, deliveries, starts, &new);
                    return Ok(());
                }
            }
        }
    }

    /// A delivery for each event and each endpoint that wants it, leased where there is a permit.
    fn fan_out(&self, endpoints: &Snapshot, part: &[Located<'_>]) -> (Vec<NewDelivery>, Vec<Option<Start>>) {
        let (mut deliveries, mut starts) = (Vec::new(), Vec::new());
        for (index, located) in part.iter().enumerate() {
            let event = &located.event;
            for subscriber in endpoints.matching(event.org_id, event.event_type) {
                let push = subscriber.push.as_ref();
                let order = push
                    .filter(|endpoint| endpoint.ordered)
                    .and_then(|_| located.order());
                let start = push
                    .filter(|endpoint| order.is_none() && endpoint.rate_limit.is_none())
                    .and_then(|endpoint| self.permit_start(endpoint));
                let lease = start
                    .as_ref()
                    .map(|start| (start.lease, start.endpoint.timeout + self.lease_margin));
                deliveries.push(NewDelivery {
                    event: index,
                    endpoint_id: subscriber.endpoint_id,
                    pull: subscriber.push.is_none(),
                    lease,
                    order,
                });
                starts.push(start);
            }
        }
        (deliveries, starts)
    }

    fn permit_start(&self, endpoint: &Arc<Endpoint>) -> Option<Start> {
        let permit = self.permits.try_acquire_for_new(&endpoint.gate)?;
        Some(Start {
            endpoint: endpoint.clone(),
            permit,
            lease: LeaseToken::generate(),
        })
    }

    /// Starts the leased deliveries of the events that were new. The permits of the others are freed.
    fn start(
        &self,
        events: &[&Event<'_>],
        deliveries: Vec<NewDelivery>,
        starts: Vec<Option<Start>>,
        new: &[EventId],
    ) {
        if deliveries.iter().any(|delivery| delivery.order.is_some()) {
            self.permits.wake_claimer();
        }
        let new: HashSet<_> = new.iter().copied().collect();
        let mut rendered = HashMap::new();
        for (delivery, start) in deliveries.into_iter().zip(starts) {
            let (event, Some(start)) = (events[delivery.event], start) else {
                continue;
            };
            if !new.contains(&event.id) {
                continue;
            }
            let outgoing = rendered
                .entry(delivery.event)
                .or_insert_with(|| Arc::new(Outgoing::new(&fields(event))));
            let job = Job {
                event: outgoing.clone(),
                endpoint: start.endpoint,
                attempt: 1,
                age: Duration::ZERO,
                ordered: false,
                lease: start.lease,
            };
            self.dispatcher.start(job, start.permit);
        }
    }

    async fn set_aside(&self, unreadable: &Unreadable<'_>) -> Result<(), sqlx::Error> {
        persist::quarantine(&self.pool, unreadable).await?;
        metrics::counter!("quarantined_total").increment(1);
        let (stream, sequence, reason) = (unreadable.stream, unreadable.sequence, unreadable.reason);
        tracing::error!(
            stream,
            sequence,
            position = unreadable.position,
            reason,
            "set aside in quarantine"
        );
        Ok(())
    }
}

/// A delivery that starts as soon as it is stored.
struct Start {
    endpoint: Arc<Endpoint>,
    permit: Permit,
    lease: LeaseToken,
}

fn fields<'a>(event: &Event<'a>) -> EventFields<'a> {
    EventFields {
        id: event.id,
        org_id: event.org_id,
        event_type: event.event_type,
        accepted_at: event.accepted_at,
        content_type: event.content_type,
        traceparent: event.traceparent,
        data: event.data,
    }
}

/// The next frame, and those that are there already.
async fn next_batch(messages: &mut pull::Stream) -> anyhow::Result<Vec<Message>> {
    let first = messages.next().await.context("the stream of frames ended")??;
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH_FRAMES && bytes < MAX_BATCH_BYTES {
        // An error ends the stream and comes again with the next call.
        let Some(Some(Ok(message))) = messages.next().now_or_never() else {
            break;
        };
        bytes += message.payload.len();
        batch.push(message);
    }
    Ok(batch)
}

/// Splits off events whose id stands among the first ones already: one statement can store an id only once.
fn split_repeats(events: Vec<Located<'_>>) -> (Vec<Located<'_>>, Vec<Located<'_>>) {
    let mut seen: HashMap<EventId, UnixMicros> = HashMap::new();
    events.into_iter().partition(|located| {
        let repeat = seen.contains_key(&located.event.id);
        seen.entry(located.event.id).or_insert(located.event.accepted_at);
        !repeat
    })
}

async fn stream_names(jetstream: &jetstream::Context) -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = jetstream.stream_names().try_collect().await?;
    Ok(names
        .into_iter()
        .filter(|name| name.starts_with(stream::NAME_PREFIX))
        .collect())
}

fn is_stream_gone(error: &anyhow::Error) -> bool {
    let codes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<jetstream::Error>());
    codes
        .map(jetstream::Error::error_code)
        .any(|code| code == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

/// Data exceptions and integrity violations (SQLSTATE classes 22 and 23): some value cannot be stored, ever.
fn is_about_a_value(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
