//! Storing frames: decode, plan, write, start; or, for events that may begin [early](crate::intake::early): decode, plan,
//! start, wait, write. Storing the same frame again changes nothing. What cannot be read or stored is set aside with its
//! bytes; everything around it goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::message::StreamMessage;
use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;
use shared::traces::Traces;

use crate::crash::{self, Point};
use crate::endpoints::attempt_counts::AttemptCounts;
use crate::endpoints::directory::{Directory, Snapshot};
use crate::intake::bulky::line::Place;
use crate::intake::bulky::put_off::{Bundle, PutOff};
use crate::intake::decode::{Decoded, decode};
use crate::intake::early::Early;
use crate::intake::frame::{Frame, Located, split_repeats};
use crate::intake::isolate::{Faulty, isolate};
use crate::intake::plan::{Plan, Planner, Purpose};
use crate::intake::trace;
use crate::send::Dispatcher;
use crate::store::events::{self, Stored};
use crate::store::quarantine::{Unreadable, quarantine};
use crate::store::usage::late::CountedThrough;
use crate::store::warm::WarmPool;

/// Pause before a frame that may be for a worker of another release is offered again.
pub(super) const UNKNOWN_VERSION_DELAY: Duration = Duration::from_secs(5);

/// Stores frames, and starts the deliveries of their events.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    /// The database.
    pub database: WarmPool,
    /// The endpoints.
    pub directory: Arc<Directory>,
    /// What becomes of events.
    pub planner: Planner,
    /// Where deliveries start.
    pub dispatcher: Dispatcher,
    /// Where the spans of storing are recorded, if any are.
    pub traces: Option<Traces>,
    /// Up to when usage is counted.
    pub counted: Arc<CountedThrough>,
    /// What comes of attempts.
    pub attempt_counts: Arc<AttemptCounts>,
}

/// What became of the frames of a batch that were for this worker.
#[derive(Debug, Default)]
pub(crate) struct Taken<'a> {
    /// They are stored, or set aside.
    pub done: Vec<&'a Message>,
    /// A worker of another release may be able to read them.
    pub for_others: Vec<&'a Message>,
    /// They have more deliveries than others should wait for. Only their other events are stored.
    pub bulky: Vec<Bundle<'a>>,
}

/// How frames are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner<'a> {
    /// Notes what is left for later. Without it, nothing is left.
    put_off: Option<&'a PutOff>,
    /// Notes which events begin before they are stored. Without it, none does.
    early: Option<&'a Early>,
    /// Gives each statement its turn. Without it, none waits.
    place: Option<&'a Place>,
}

impl Writer {
    /// Takes a batch: stores what can be read and sets aside what cannot.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value. Then part of the batch may be stored.
    pub(crate) async fn take<'a>(
        &self,
        stream: &str,
        batch: &'a [Message],
        early: Option<&Early>,
    ) -> Result<Taken<'a>, sqlx::Error> {
        // Before the first look at the endpoints none would seem to be bulky.
        if !self.directory.snapshot().is_read() {
            self.directory.refresh().await?;
        }
        let (mut messages, mut frames) = (Vec::new(), Vec::new());
        let mut taken = Taken::default();
        for message in batch {
            let Some(frame) = Frame::of(stream, message) else {
                continue;
            };
            if frame.is_for_others() {
                taken.for_others.push(message);
                continue;
            }
            frames.push(frame);
            messages.push(message);
        }
        let put_off = PutOff::default();
        let manner = Manner {
            put_off: Some(&put_off),
            early,
            place: None,
        };
        self.take_frames(&frames, manner).await?;
        for (frame, message) in frames.iter().zip(messages) {
            if !put_off.bundle(frame, message, &mut taken.bulky) {
                taken.done.push(message);
            }
        }
        Ok(taken)
    }

    /// Takes all of frames that were put off. Each statement waits for its turn.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value. Then part of them may be stored.
    pub(crate) async fn take_whole(
        &self,
        stream: &str,
        messages: &[Message],
        place: &Place,
    ) -> Result<(), sqlx::Error> {
        let frames = messages.iter().filter_map(|message| Frame::of(stream, message));
        let frames: Vec<_> = frames.collect();
        let manner = Manner {
            place: Some(place),
            ..Manner::default()
        };
        self.take_frames(&frames, manner).await
    }

    /// Takes a message that is not handed out any more.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value.
    pub(crate) async fn take_leftover(
        &self,
        stream: &str,
        message: &StreamMessage,
    ) -> Result<(), sqlx::Error> {
        self.take_frames(&[Frame::of_leftover(stream, message)], Manner::default())
            .await
    }

    /// Takes frames. One that cannot even be decoded without a panic is set aside as a whole.
    async fn take_frames(&self, frames: &[Frame<'_>], manner: Manner<'_>) -> Result<(), sqlx::Error> {
        let taking = isolate(frames, |part| async move {
            self.take_events(decode(part), manner).await
        });
        for Faulty { item: frame, reason } in taking.await? {
            self.set_aside(&frame.all_unreadable(&reason)).await?;
        }
        Ok(())
    }

    /// Takes events. Of those with the same id, the first one is stored before the others are looked at.
    async fn take_events(&self, decoded: Decoded<'_>, manner: Manner<'_>) -> Result<(), sqlx::Error> {
        let Decoded {
            mut events,
            unreadable,
        } = decoded;
        for of_frame in unreadable.chunk_by(|one, other| one.sequence == other.sequence) {
            self.set_aside(of_frame).await?;
        }
        if let Some(put_off) = manner.put_off {
            let endpoints = self.directory.snapshot();
            put_off.take_out(&mut events, &endpoints, manner.early).await;
        }
        crash::reach(Point::Decoded);
        while !events.is_empty() {
            let (first, repeats) = split_repeats(events);
            match manner.early {
                Some(early) => self.take_early(first, early, manner).await?,
                None => self.store(&first, manner).await?,
            }
            events = repeats;
        }
        Ok(())
    }

    /// Stores events with different ids; sets those aside that cannot be.
    pub(super) async fn store(&self, events: &[Located<'_>], manner: Manner<'_>) -> Result<(), sqlx::Error> {
        for Faulty { item, reason } in isolate(events, |part| self.deliver(part, manner)).await? {
            self.set_aside(&[item.unreadable(reason)]).await?;
        }
        Ok(())
    }

    /// Plans, writes and starts the deliveries of events with different ids, as many at once as one statement should write.
    async fn deliver(&self, mut events: &[Located<'_>], manner: Manner<'_>) -> Result<(), sqlx::Error> {
        let traced = self.traces.as_ref().map(|traces| (traces, UnixMicros::now()));
        while !events.is_empty() {
            let _turn = match manner.place {
                Some(place) => Some(place.turn().await),
                None => None,
            };
            let endpoints = self.directory.snapshot();
            let plan = self
                .planner
                .plan(&endpoints, events, Purpose::Storing(manner.early))
                .await;
            let (planned, later) = events.split_at(plan.events);
            match self.write(endpoints.version, planned, &plan).await? {
                Stored::Stale => _ = self.directory.refresh().await?,
                Stored::New(new) => {
                    crash::reach(Point::Stored);
                    metrics::counter!("penstock_intake_events_total").increment(planned.len() as u64);
                    count_without_endpoint(&endpoints, planned);
                    if let Some((traces, begun)) = traced {
                        trace::stored(traces, begun, planned, &new.events);
                    }
                    for endpoint in new.held.iter().filter_map(|id| endpoints.get(*id)) {
                        endpoint.gate.hold();
                    }
                    self.start(planned, plan, &new.events);
                    if let Some(early) = manner.early {
                        self.conclude(planned, early, &new.events);
                    }
                    self.keep_order(planned, &new.events).await?;
                    let times = planned.iter().map(|located| located.event.accepted_at);
                    self.counted.note(self.database.pool(), times).await?;
                    events = later;
                }
            }
        }
        Ok(())
    }

    /// Has the deliveries of events that were stored before stand no later in their order than these events do now.
    async fn keep_order(&self, events: &[Located<'_>], new: &HashSet<EventId>) -> Result<(), sqlx::Error> {
        if new.len() == events.len() {
            return Ok(());
        }
        let again = events.iter().filter(|located| !new.contains(&located.event.id));
        let places = again.filter_map(|located| Some((&located.event, located.order()?)));
        let places: Vec<_> = places.collect();
        if places.is_empty() {
            return Ok(());
        }
        events::move_forward(self.database.pool(), &places).await
    }

    /// Writes events and their planned deliveries, unless the endpoints that they may go to have changed since `version`.
    async fn write(
        &self,
        version: i64,
        events: &[Located<'_>],
        plan: &Plan<'_>,
    ) -> Result<Stored, sqlx::Error> {
        let events: Vec<_> = events.iter().map(|located| &located.event).collect();
        let deliveries: Vec<_> = plan.deliveries.iter().map(|planned| &planned.delivery).collect();
        let writing = async {
            let mut connection = self.database.acquire().await?;
            let stored = events::store(&mut connection, version, &events, &deliveries).await?;
            connection.keep();
            Ok(stored)
        };
        self.database.pool().within(writing).await
    }

    /// Sets aside what cannot be stored of one frame, and logs what was not set aside before.
    async fn set_aside(&self, unreadable: &[Unreadable<'_>]) -> Result<(), sqlx::Error> {
        let new = quarantine(self.database.pool(), unreadable).await?;
        let Some(first) = unreadable.first().filter(|_| new > 0) else {
            return Ok(());
        };
        metrics::counter!("penstock_quarantined_total").increment(new);
        let (stream, sequence, reason) = (first.stream, first.sequence, &first.reason);
        tracing::error!(
            stream,
            sequence,
            position = first.position,
            count = new,
            reason,
            "set aside in quarantine"
        );
        Ok(())
    }
}

/// Counts the events of tenants that have no endpoint of their own.
fn count_without_endpoint(endpoints: &Snapshot, events: &[Located<'_>]) {
    let lost = |located: &&Located<'_>| endpoints.has_no_endpoint_of_tenant(&located.event);
    let lost = events.iter().filter(lost).count();
    if lost > 0 {
        metrics::counter!("penstock_tenant_events_without_endpoint_total").increment(lost as u64);
    }
}
