//! Storing frames: decode, fan out, write, start what has permits. Storing the same frame again changes nothing.
//! What cannot be read or stored is set aside with its bytes; everything around it goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{AckKind, Message};
use shared::domain::event::Event;
use shared::domain::id::EventId;
use shared::wire::frame;

use crate::crash::{self, Point};
use crate::endpoints::directory::Directory;
use crate::endpoints::permits::Permits;
use crate::intake::bulky::PutOff;
use crate::intake::frame::{Frame, Located, split_repeats};
use crate::intake::isolate::{Faulty, store_good};
use crate::intake::plan::FannedOut;
use crate::send::Dispatcher;
use crate::send::body::Outgoing;
use crate::send::job::Job;
use crate::store::events::{self, Stored, Unreadable};
use crate::store::warm::WarmPool;

/// Pause before a frame that may be for a worker of another release is offered again.
const UNKNOWN_VERSION_DELAY: Duration = Duration::from_secs(5);

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

/// What became of the frames of a batch that were for this worker.
#[derive(Debug, Default)]
pub struct Handled<'a> {
    /// They are stored, or set aside.
    pub done: Vec<&'a Message>,
    /// They have more deliveries than others should wait for. Only what other organisations have in them is stored.
    pub bulky: Vec<&'a Message>,
}

impl Storing {
    /// Stores what can be read and sets aside what cannot.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value. Then part of the batch may be stored.
    pub async fn store<'a>(&self, stream: &str, batch: &'a [Message]) -> Result<Handled<'a>, sqlx::Error> {
        // Before the first look at the endpoints none would seem to be bulky.
        if !self.directory.snapshot().is_read() {
            self.directory.refresh().await?;
        }
        let (mut messages, mut frames) = (Vec::new(), Vec::new());
        for message in batch {
            let Some(frame) = Frame::of(stream, message) else {
                continue;
            };
            if frame.is_for_others() {
                let _ = message.ack_with(AckKind::Nak(Some(UNKNOWN_VERSION_DELAY))).await;
                continue;
            }
            frames.push(frame);
            messages.push(message);
        }
        let put_off = PutOff::default();
        self.store_good_frames(&frames, Some(&put_off)).await?;
        let mut handled = Handled::default();
        for (frame, message) in frames.iter().zip(messages) {
            let is_bulky = put_off.contains(frame);
            let list = if is_bulky {
                &mut handled.bulky
            } else {
                &mut handled.done
            };
            list.push(message);
        }
        Ok(handled)
    }

    /// Stores a frame that was put off, to its end.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value. Then part of it may be stored.
    pub async fn store_whole(&self, stream: &str, message: &Message) -> Result<(), sqlx::Error> {
        let frame = Frame::of(stream, message);
        self.store_good_frames(frame.as_slice(), None).await
    }

    /// Stores or sets aside a message that is not handed out any more.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value.
    pub async fn store_leftover(&self, stream: &str, message: &StreamMessage) -> Result<(), sqlx::Error> {
        self.store_good_frames(&[Frame::of_leftover(stream, message)], None)
            .await
    }

    async fn store_good_frames(
        &self,
        frames: &[Frame<'_>],
        put_off: Option<&PutOff>,
    ) -> Result<(), sqlx::Error> {
        for Faulty { item: frame, reason } in
            store_good(frames, |part| self.store_frames(part, put_off)).await?
        {
            self.set_aside(&frame.unreadable(None, &reason, frame.payload))
                .await?;
        }
        Ok(())
    }

    async fn store_frames(&self, frames: &[Frame<'_>], put_off: Option<&PutOff>) -> Result<(), sqlx::Error> {
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
        if let Some(put_off) = put_off {
            put_off.take_out(&mut events, &self.directory.snapshot()).await;
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
            let fanned_out = self.fan_out(&endpoints, events).await;
            let (now, later) = events.split_at(fanned_out.events);
            let now: Vec<_> = now.iter().map(|located| &located.event).collect();
            let writing = async {
                let mut connection = self.database.acquire().await?;
                let deliveries = &fanned_out.deliveries;
                let stored = events::store(&mut connection, endpoints.version, &now, deliveries).await?;
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

    /// Starts the leased deliveries of the events that were new. The permits of the others are freed.
    fn start(&self, events: &[&Event<'_>], fanned_out: FannedOut<'_>, new: &[EventId]) {
        for endpoint in fanned_out.parked.values() {
            self.permits.note_waiting(endpoint.id, &endpoint.gate);
        }
        for id in &fanned_out.for_claimer {
            self.permits.note_due(*id, Duration::ZERO);
        }
        if !fanned_out.for_claimer.is_empty() {
            self.permits.wake_claimer();
        }
        let new: HashSet<_> = new.iter().copied().collect();
        let undecided = fanned_out
            .deliveries
            .iter()
            .filter(|delivery| delivery.is_undecided);
        let undecided = undecided.filter(|delivery| new.contains(&events[delivery.event].id));
        let undecided = undecided.count() as u64;
        if undecided > 0 {
            metrics::counter!("filters_undecided_total").increment(undecided);
        }
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
        let writing = events::quarantine(self.database.pool(), unreadable);
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
