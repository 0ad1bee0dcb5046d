//! Frames that do not come from ingest-api, or go to no worker.

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, Context, Message};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt as _;
use shared::domain::clock::UnixMicros;
use shared::domain::event::Event;
use shared::domain::id::{EventId, OrgId};
use shared::wire::frame::{self, EncodedEvent};
use shared::wire::stream;

use super::World;

impl World {
    /// A connection to nats-server.
    pub async fn nats(&self) -> Client {
        let client = async_nats::connect(self.stack().nats_url()).await;
        client.expect("nats-server runs")
    }

    /// JetStream's API.
    pub async fn jetstream(&self) -> Context {
        jetstream::new(self.nats().await)
    }

    /// The workers' consumer of the first stream.
    ///
    /// # Errors
    /// When no worker has made it, or NATS does not answer.
    pub async fn consumer(&self) -> Result<PullConsumer, String> {
        let jetstream = self.jetstream().await;
        let consumer = jetstream.get_consumer_from_stream(stream::CONSUMER, stream::name(0));
        consumer.await.map_err(|error| error.to_string())
    }

    /// Takes a frame of the first stream, as a worker would, when there is one.
    pub async fn take_frame(&self) -> Message {
        let consumer = self.consumer().await.expect("a worker has made it");
        let mut messages = consumer.messages().await.expect("nats-server runs");
        let next = messages.next().await.expect("messages come for ever");
        next.expect("nats-server runs")
    }

    /// Puts a frame of these events into the first stream.
    pub async fn publish_events(&self, events: &[Event<'_>]) {
        let events: Vec<_> = events.iter().map(EncodedEvent::new).collect();
        self.publish_frame(frame::encode(events.iter())).await;
    }

    /// The same as a frame that was sent before.
    pub async fn publish_events_again(&self, events: &[Event<'_>]) {
        let events: Vec<_> = events.iter().map(EncodedEvent::new).collect();
        let mut headers = HeaderMap::new();
        headers.insert(frame::RESENT_HEADER, "1");
        self.publish(frame::VERSION, frame::encode(events.iter()), headers)
            .await;
    }

    /// Puts bytes into the first stream as if they were a frame.
    pub async fn publish_frame(&self, payload: Bytes) {
        self.publish_frame_of(frame::VERSION, payload).await;
    }

    /// The same as a frame of another version.
    pub async fn publish_frame_of(&self, version: &str, payload: Bytes) {
        self.publish(version, payload, HeaderMap::new()).await;
    }

    async fn publish(&self, version: &str, payload: Bytes, mut headers: HeaderMap) {
        headers.insert(frame::VERSION_HEADER, version);
        let subject = stream::subject(0);
        let jetstream = self.jetstream().await;
        let sent = jetstream.publish_with_headers(subject, headers, payload);
        let stored = sent.await.expect("nats-server runs").await;
        stored.expect("the stream takes it");
    }
}

/// A new event of an organisation.
pub fn new_event<'a>(org_id: OrgId, event_type: &'a str, data: &'a str) -> Event<'a> {
    let accepted_at = UnixMicros::now();
    Event {
        id: EventId::at(accepted_at),
        org_id,
        event_type,
        accepted_at,
        data: data.as_bytes(),
        ..Event::sample()
    }
}
