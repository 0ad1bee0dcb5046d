//! Storing frames: decode, fan out, write, start what has permits. Storing the same frame again changes nothing.
//! What cannot be read or stored is set aside with its bytes; everything around it goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{AckKind, Message};
use shared::event::Event;
use shared::frame;
use shared::id::{EndpointId, EventId, LeaseToken};

use crate::crash::{self, Point};
use crate::dispatch::{Dispatcher, Job};
use crate::endpoint::Endpoint;
use crate::fan_out::{Directory, Snapshot};
use crate::incoming::{Frame, Located, split_repeats};
use crate::isolate::{Faulty, store_good};
use crate::outgoing::Outgoing;
use crate::permits::{Permit, Permits};
use crate::persist::{self, NewDelivery, Stored, Unreadable};
use crate::warm::WarmPool;

/// Pause before a frame that may be for a worker of another release is offered again.
const UNKNOWN_VERSION_DELAY: Duration = Duration::from_secs(5);

/// Deliveries in one statement, beyond which the next event waits for the next one: an organisation may have many
/// endpoints.
const MAX_DELIVERIES: usize = 20_000;

/// Stores frames.
#[derive(Clone, Debug)]
pub struct Storing {
    /// The database.
    pub database: WarmPool,
    /// The endpoints.
    pub directory: Arc<Directory>,
    /// What limits the deliveries that start at once.
    pub permits: Permits,
    /// Where they go.
    pub dispatcher: Dispatcher,
    /// How much longer a lease lasts than the endpoint's timeout.
    pub lease_margin: Duration,
}

/// What comes of the first `events` of some events.
struct FannedOut<'a> {
    events: usize,
    deliveries: Vec<NewDelivery<'a>>,
    /// For each delivery, what lets it start as soon as it is stored.
    starts: Vec<Option<Start>>,
    /// Endpoints with deliveries that are due, in order or at a pace that only the claimer keeps.
    for_claimer: HashSet<EndpointId>,
    /// Endpoints with deliveries that found no permit.
    parked: Vec<Arc<Endpoint>>,
}

struct Start {
    endpoint: Arc<Endpoint>,
    permit: Permit,
    lease: LeaseToken,
}

impl FannedOut<'_> {
    fn park(&mut self, endpoint: &Arc<Endpoint>) {
        if !self
            .parked
            .iter()
            .rev()
            .any(|parked| Arc::ptr_eq(parked, endpoint))
        {
            self.parked.push(endpoint.clone());
        }
    }
}

impl Storing {
    /// Stores what can be read, sets aside what cannot, and returns the messages that are done with.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value. Then part of the batch may be stored.
    pub async fn store<'a>(
        &self,
        stream: &str,
        batch: &'a [Message],
    ) -> Result<Vec<&'a Message>, sqlx::Error> {
        let (mut done, mut frames) = (Vec::new(), Vec::new());
        for message in batch {
            let Some(frame) = Frame::of(stream, message) else {
                continue;
            };
            if frame.is_for_others() {
                let _ = message.ack_with(AckKind::Nak(Some(UNKNOWN_VERSION_DELAY))).await;
                continue;
            }
            frames.push(frame);
            done.push(message);
        }
        self.store_good_frames(&frames).await?;
        Ok(done)
    }

    /// Stores or sets aside a message that is not handed out any more.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value.
    pub async fn store_leftover(&self, stream: &str, message: &StreamMessage) -> Result<(), sqlx::Error> {
        self.store_good_frames(&[Frame::of_leftover(stream, message)])
            .await
    }

    async fn store_good_frames(&self, frames: &[Frame<'_>]) -> Result<(), sqlx::Error> {
        for Faulty { item: frame, reason } in store_good(frames, |part| self.store_frames(part)).await? {
            self.set_aside(&frame.unreadable(None, &reason, frame.payload))
                .await?;
        }
        Ok(())
    }

    async fn store_frames(&self, frames: &[Frame<'_>]) -> Result<(), sqlx::Error> {
        let mut events = Vec::new();
        for frame in frames {
            match frame::decode(frame.version, frame.payload) {
                Ok(decoded) => {
                    for (position, event) in decoded.into_iter().enumerate() {
                        match event {
                            Ok(event) => events.push(Located {
                                event,
                                frame,
                                position,
                            }),
                            Err(error) => {
                                let reason = error.to_string();
                                self.set_aside(&frame.unreadable(Some(position), &reason, error.bytes))
                                    .await?;
                            }
                        }
                    }
                }
                Err(error) => {
                    self.set_aside(&frame.unreadable(None, &error.to_string(), frame.payload))
                        .await?;
                }
            }
        }
        crash::reach(Point::Decoded);
        while !events.is_empty() {
            let (first, repeats) = split_repeats(events);
            self.store_events(&first).await?;
            events = repeats;
        }
        Ok(())
    }

    /// Stores events with different ids.
    async fn store_events(&self, events: &[Located<'_>]) -> Result<(), sqlx::Error> {
        for Faulty { item, reason } in store_good(events, |part| self.store_part(part)).await? {
            let bytes = rmp_serde::to_vec_named(&item.event).unwrap_or_default();
            self.set_aside(&item.frame.unreadable(Some(item.position), &reason, &bytes))
                .await?;
        }
        Ok(())
    }

    async fn store_part(&self, mut events: &[Located<'_>]) -> Result<(), sqlx::Error> {
        while !events.is_empty() {
            let endpoints = self.directory.snapshot();
            let fanned_out = self.fan_out(&endpoints, events);
            let (now, later) = events.split_at(fanned_out.events);
            let now: Vec<_> = now.iter().map(|located| &located.event).collect();
            let writing = async {
                let mut connection = self.database.acquire().await?;
                let deliveries = &fanned_out.deliveries;
                let stored = persist::store(&mut connection, endpoints.version, &now, deliveries).await?;
                connection.keep();
                Ok(stored)
            };
            match self.database.within_limit(writing).await? {
                Stored::Stale => _ = self.directory.refresh().await?,
                Stored::New(new) => {
                    crash::reach(Point::Stored);
                    metrics::counter!("intake_events_total").increment(now.len() as u64);
                    self.start(&now, fanned_out, &new);
                    events = later;
                }
            }
        }
        Ok(())
    }

    /// A delivery for each event and each endpoint that wants it, leased where it may start and there is a permit.
    /// At least one event, and as many as give no more than [`MAX_DELIVERIES`] before the last.
    fn fan_out<'a>(&self, endpoints: &Snapshot, events: &'a [Located<'_>]) -> FannedOut<'a> {
        let mut fanned_out = FannedOut {
            events: 0,
            deliveries: Vec::new(),
            starts: Vec::new(),
            for_claimer: HashSet::new(),
            parked: Vec::new(),
        };
        for (index, located) in events.iter().enumerate() {
            for subscriber in endpoints.matching(&located.event) {
                let push = subscriber.push.as_ref();
                let start = push.and_then(|endpoint| self.permit_start(endpoint, &located.event));
                let lease = start
                    .as_ref()
                    .map(|start| (start.lease, start.endpoint.timeout + self.lease_margin));
                match push {
                    Some(endpoint) if !endpoint.may_start(&located.event) => {
                        fanned_out.for_claimer.insert(endpoint.id);
                    }
                    Some(endpoint) if start.is_none() => fanned_out.park(endpoint),
                    _ => {}
                }
                fanned_out.deliveries.push(NewDelivery {
                    event: index,
                    endpoint_id: subscriber.endpoint_id,
                    pull: subscriber.pull,
                    lease,
                    order: subscriber.ordered.then(|| located.order()).flatten(),
                });
                fanned_out.starts.push(start);
            }
            fanned_out.events += 1;
            if fanned_out.deliveries.len() >= MAX_DELIVERIES {
                break;
            }
        }
        fanned_out
    }

    fn permit_start(&self, endpoint: &Arc<Endpoint>, event: &Event<'_>) -> Option<Start> {
        if !endpoint.may_start(event) {
            return None;
        }
        let permit = self.permits.try_acquire_for_new(&endpoint.gate)?;
        Some(Start {
            endpoint: endpoint.clone(),
            permit,
            lease: LeaseToken::generate(),
        })
    }

    /// Starts the leased deliveries of the events that were new. The permits of the others are freed.
    fn start(&self, events: &[&Event<'_>], fanned_out: FannedOut<'_>, new: &[EventId]) {
        for endpoint in &fanned_out.parked {
            self.permits.note_waiting(endpoint.id, &endpoint.gate);
        }
        for id in &fanned_out.for_claimer {
            self.permits.note_due(*id, Duration::ZERO);
        }
        if !fanned_out.for_claimer.is_empty() {
            self.permits.wake_claimer();
        }
        let new: HashSet<_> = new.iter().copied().collect();
        let mut shared = HashMap::new();
        for (delivery, start) in fanned_out.deliveries.into_iter().zip(fanned_out.starts) {
            let (event, Some(start)) = (events[delivery.event], start) else {
                continue;
            };
            if !new.contains(&event.id) {
                continue;
            }
            let outgoing = shared
                .entry(delivery.event)
                .or_insert_with(|| Arc::new(Outgoing::from(event)));
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
        let writing = persist::quarantine(self.database.pool(), unreadable);
        if !self.database.within_limit(writing).await? {
            return Ok(());
        }
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
