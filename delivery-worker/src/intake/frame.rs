//! Frames as they come out of the streams, and the events in them with their places.

use std::collections::HashSet;
use std::panic::catch_unwind;

use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use shared::domain::event::Event;
use shared::shares::Owner;
use shared::wire::{frame, owners};

use crate::store::events::Order;
use crate::store::quarantine::Unreadable;

/// How often a frame of an unknown version is offered before it is set aside: a worker of another release may be able to read it.
pub(super) const UNKNOWN_VERSION_TRIES: u32 = 5;

/// How many ordinals a frame has for its events, of which it holds at most [`frame::MAX_EVENTS`].
const PLACES: i64 = 1_024;

/// A message of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The message's sequence number in it.
    pub sequence: u64,
    /// How often it was handed out, to any worker.
    delivered: i64,
    /// Whether it had been sent before: the earlier message may be in the stream too.
    is_resent: bool,
    /// The version that its header names.
    pub version: Option<&'a str>,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// An event with its place in the streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    /// The event.
    pub event: Event<'a>,
    /// The frame that it came in.
    pub frame: &'a Frame<'a>,
    /// Its index there.
    pub position: usize,
}

impl<'a> Frame<'a> {
    /// `None` when the message came from no stream.
    pub(crate) fn of(stream: &'a str, message: &'a Message) -> Option<Self> {
        let info = message.info().ok()?;
        Some(Self {
            stream,
            sequence: info.stream_sequence,
            delivered: info.delivered,
            is_resent: message.headers.as_ref().is_some_and(is_resent),
            version: message.headers.as_ref().and_then(version),
            payload: &message.payload,
        })
    }

    /// A message that was read from the stream, and that the consumer will not hand out again.
    pub(crate) fn of_leftover(stream: &'a str, message: &'a StreamMessage) -> Self {
        Self {
            stream,
            sequence: message.sequence,
            delivered: i64::from(UNKNOWN_VERSION_TRIES),
            is_resent: is_resent(&message.headers),
            version: version(&message.headers),
            payload: &message.payload,
        }
    }

    /// Whether this release can read frames of its version.
    pub(crate) fn is_known(&self) -> bool {
        frame::is_known(self.version)
    }

    /// Whether a worker of another release may be able to read it.
    pub(crate) fn is_for_others(&self) -> bool {
        !self.is_known() && self.delivered < i64::from(UNKNOWN_VERSION_TRIES)
    }

    /// Whether nobody can have stored its events yet: it was neither handed out nor sent before. A server that lost its power may
    /// have forgotten what it handed out, so a frame up to number `known_through` counts as old.
    pub(crate) fn is_new(&self, known_through: u64) -> bool {
        self.delivered == 1 && !self.is_resent && self.sequence > known_through
    }

    /// Describes something in it that cannot be stored. `position` is the event's index in this frame; `None` is no single event.
    pub(crate) fn unreadable(
        &self,
        position: Option<usize>,
        owner: Option<Owner>,
        reason: String,
        bytes: Bytes,
    ) -> Unreadable<'a> {
        Unreadable {
            stream: self.stream,
            sequence: self.sequence,
            position,
            frame_version: self.version,
            owner,
            reason,
            bytes,
        }
    }

    /// Describes all of it, when nothing in it can be stored: one part for each owner, if every event says whose it is.
    pub(crate) fn all_unreadable(&self, reason: &str) -> Vec<Unreadable<'a>> {
        // What made storing it panic may do so here too.
        let by_owner = catch_unwind(|| owners::by_owner(self.payload)).ok().flatten();
        let Some(by_owner) = by_owner else {
            let bytes = Bytes::copy_from_slice(self.payload);
            return vec![self.unreadable(None, None, reason.to_owned(), bytes)];
        };
        by_owner
            .into_iter()
            .map(|(owner, bytes)| self.unreadable(None, Some(owner), reason.to_owned(), bytes))
            .collect()
    }
}

#[cfg(test)]
impl Frame<'static> {
    /// A frame for tests, without events.
    pub(crate) fn sample() -> Self {
        Self {
            stream: "EVENTS-0",
            sequence: 1,
            delivered: 1,
            is_resent: false,
            version: None,
            payload: &[],
        }
    }
}

fn is_resent(headers: &HeaderMap) -> bool {
    headers.get(frame::RESENT_HEADER).is_some()
}

fn version(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(frame::VERSION_HEADER)
        .map(async_nats::HeaderValue::as_str)
}

impl<'a> Located<'a> {
    /// Whose it is. A name that no tenant can have counts as none.
    pub(crate) fn owner(&self) -> Owner {
        let tenant = self.event.tenant.and_then(|tenant| tenant.parse().ok());
        (self.event.org_id, tenant)
    }

    /// Describes the event, which cannot be stored.
    pub(crate) fn unreadable(&self, reason: String) -> Unreadable<'a> {
        let bytes = rmp_serde::to_vec_named(&self.event).unwrap_or_default();
        self.frame
            .unreadable(Some(self.position), Some(self.owner()), reason, bytes.into())
    }

    /// Its place among the events of its ordering key, if it has one.
    pub(crate) fn order(&self) -> Option<Order<'a>> {
        let (sequence, position) = (i64::try_from(self.frame.sequence), i64::try_from(self.position));
        let ordinal = sequence.unwrap_or(i64::MAX).saturating_mul(PLACES);
        self.event.ordering_key.map(|key| Order {
            // No control character stands in either name.
            key: match self.event.tenant {
                Some(tenant) => format!("{tenant}\n{key}").into(),
                None => key.into(),
            },
            stream: self.frame.stream,
            ordinal: ordinal.saturating_add(position.unwrap_or(PLACES)),
        })
    }
}

/// Splits off events whose id an earlier one has: one statement can store an id only once.
pub(crate) fn split_repeats(events: Vec<Located<'_>>) -> (Vec<Located<'_>>, Vec<Located<'_>>) {
    let mut seen = HashSet::new();
    events
        .into_iter()
        .partition(|located| seen.insert(located.event.id))
}
