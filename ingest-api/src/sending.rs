//! Sending frames to a stream.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishError as AckError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use shared::frame;
use shared::nats::{Connections, Nats};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::gathering::Pending;
use crate::publish::PublishError;

/// How long one send waits for its acknowledgement before the same frame, with the same id, is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(900);

/// Pause before a frame is sent again that the server has refused or nobody has received.
const RESEND_PAUSE: Duration = Duration::from_millis(50);

/// Sends frames to one stream, one at a time.
pub struct Sending {
    subject: String,
    jetstream: jetstream::Context,
    nats: Nats,
    connections: Connections,
}

impl Sending {
    /// To the stream of a subject.
    pub fn new(nats: &Nats, subject: String) -> Self {
        Self {
            subject,
            jetstream: nats.jetstream(),
            connections: nats.connections(),
            nats: nats.clone(),
        }
    }

    /// Sends one frame until it is acknowledged or its oldest event's deadline has come. Every send carries the
    /// same id, so that the stream stores the frame once.
    ///
    /// # Errors
    /// [`PublishError`]; the frame may be stored all the same.
    pub async fn publish(&mut self, frame: &[Pending]) -> Result<(), PublishError> {
        let started = Instant::now();
        let deadline = frame
            .iter()
            .map(|pending| pending.deadline)
            .min()
            .unwrap_or(started);
        let message = Message::new(frame);
        metrics::histogram!("publish_frame_events")
            .record(f64::from(u32::try_from(frame.len()).unwrap_or(u32::MAX)));
        loop {
            let outcome = timeout_at(deadline, self.send_once(&message)).await;
            match outcome {
                Ok(Sent::Acknowledged) => {
                    metrics::histogram!("publish_duration_seconds").record(started.elapsed());
                    return Ok(());
                }
                Ok(Sent::Full) => return Err(PublishError::Full),
                Ok(Sent::Unknown) => metrics::counter!("publish_resends_total").increment(1),
                Err(_) => return Err(PublishError::TimedOut),
            }
        }
    }

    async fn send_once(&mut self, message: &Message) -> Sent {
        // A command that is queued while the connection is away would go out long after its requests were
        // answered 503; so wait here instead.
        self.connections.mark_unchanged();
        if !self.nats.is_connected() {
            self.connections.changed().await;
        }
        let acknowledged = async {
            let publish = PublishMessage::build()
                .payload(message.payload.clone())
                .headers(message.headers.clone());
            self.jetstream
                .send_publish(self.subject.clone(), publish)
                .await?
                .await
        };
        let outcome = tokio::select! {
            outcome = acknowledged => outcome,
            // The server that had the frame is gone, and its acknowledgement with it.
            () = self.connections.changed() => return Sent::Unknown,
            () = tokio::time::sleep(RESEND_AFTER) => return Sent::Unknown,
        };
        match outcome {
            Ok(_) => Sent::Acknowledged,
            Err(error) if is_full(&error) => Sent::Full,
            Err(error) => {
                if error.kind() != PublishErrorKind::TimedOut {
                    tracing::warn!(%error, subject = self.subject, "a frame was not stored, sending it again");
                }
                tokio::time::sleep(RESEND_PAUSE).await;
                Sent::Unknown
            }
        }
    }
}

enum Sent {
    Acknowledged,
    Full,
    Unknown,
}

fn is_full(error: &AckError) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    let code = source.map(jetstream::Error::error_code);
    matches!(
        code,
        Some(ErrorCode::STREAM_STORE_FAILED | ErrorCode::INSUFFICIENT_RESOURCES)
    )
}

/// A frame, ready to be sent any number of times.
struct Message {
    payload: Bytes,
    headers: HeaderMap,
}

impl Message {
    fn new(frame: &[Pending]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(frame::VERSION_HEADER, frame::VERSION);
        headers.insert(NATS_MESSAGE_ID, Uuid::new_v4().to_string());
        Self {
            payload: frame::encode(frame.iter().map(|pending| &pending.event)),
            headers,
        }
    }
}
