//! Sending frames to a stream.
//!
//! A frame is sent until one send of it is acknowledged, and every send is a message of its own. With a message id the
//! server would answer a repeated send with `duplicate`, which says only that it has seen the id: it may have lost that
//! message since, or hold it in memory that a power loss takes. A frame that is stored twice changes nothing, because
//! workers store each event once, at the earlier of its places.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use shared::process::nats::{Connections, Nats};
use shared::wire::frame;
use tokio::time::{Instant, timeout_at};

use crate::publish::arrivals::Pending;
use crate::publish::error::PublishError;
use crate::publish::send::{is_full, send};
use crate::publish::tally::Tally;

/// How long one send waits for its acknowledgement before the same frame is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(900);

/// Pause before a frame is sent again that the server has refused or nobody has received.
const RESEND_PAUSE: Duration = Duration::from_millis(50);

/// Sends frames to one stream, one at a time.
pub(crate) struct Sending {
    subject: String,
    jetstream: jetstream::Context,
    nats: Nats,
    connections: Connections,
    tally: Arc<Tally>,
}

impl Sending {
    /// To the stream of a subject. `tally` is told what comes of it.
    pub(crate) fn new(nats: &Nats, subject: String, tally: Arc<Tally>) -> Self {
        Self {
            subject,
            tally,
            jetstream: nats.jetstream(),
            connections: nats.connections(),
            nats: nats.clone(),
        }
    }

    /// Sends one frame until it is acknowledged, or until nobody waits for it any more: each event is answered when its own
    /// deadline comes, and leaves the frame.
    ///
    /// # Errors
    /// [`PublishError`], for the events that are left; they may be stored all the same.
    pub(crate) async fn publish(&mut self, frame: &mut Vec<Pending>) -> Result<(), PublishError> {
        let started = Instant::now();
        let mut message = Message::new(frame);
        metrics::histogram!("penstock_publish_frame_events")
            .record(f64::from(u32::try_from(frame.len()).unwrap_or(u32::MAX)));
        loop {
            let outcome = while_awaited(frame, self.send_once(&message)).await;
            match outcome {
                Some(Sent::Acknowledged(ack)) => {
                    log(&message, &ack);
                    self.tally.note_stored();
                    metrics::histogram!("penstock_publish_duration_seconds").record(started.elapsed());
                    return Ok(());
                }
                Some(Sent::Full) => return Err(PublishError::Full),
                Some(Sent::Unknown) => {
                    message.headers.insert(frame::RESENT_HEADER, "1");
                    metrics::counter!("penstock_publish_resends_total").increment(1);
                }
                None => {
                    self.tally.note_missed();
                    return Err(PublishError::TimedOut);
                }
            }
        }
    }

    async fn send_once(&mut self, message: &Message) -> Sent {
        // A command that is queued while the connection is away would go out long after its requests were
        // answered 503; so wait here instead.
        self.nats.until_connected(&mut self.connections).await;
        let (payload, headers) = (message.payload.clone(), message.headers.clone());
        let acknowledged = send(&self.jetstream, &self.subject, payload, headers);
        let outcome = tokio::select! {
            outcome = acknowledged => outcome,
            // The server that had the frame is gone, and its acknowledgement with it.
            () = self.connections.changed() => return Sent::Unknown,
            () = tokio::time::sleep(RESEND_AFTER) => return Sent::Unknown,
        };
        match outcome {
            Ok(ack) => Sent::Acknowledged(ack),
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

/// What comes of `sending`, or None when the deadlines of all of the frame's events come before. One whose deadline comes is
/// answered and leaves the frame.
async fn while_awaited<T>(frame: &mut Vec<Pending>, sending: impl Future<Output = T>) -> Option<T> {
    let mut sending = pin!(sending);
    while let Some(deadline) = frame.iter().map(|pending| pending.deadline).min() {
        if let Ok(sent) = timeout_at(deadline, sending.as_mut()).await {
            return Some(sent);
        }
        let now = Instant::now();
        for late in frame.extract_if(.., |pending| pending.deadline <= now) {
            let _ = late.answer.send(Err(PublishError::TimedOut));
        }
    }
    None
}

enum Sent {
    Acknowledged(PublishAck),
    Full,
    Unknown,
}

/// Says where a frame's events are; with it the judge of a fault test names what became of a lost one. A level that is
/// off, as it is unless somebody looks for something, costs a comparison.
fn log(message: &Message, ack: &PublishAck) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let events = frame::decode(Some(message.version), &message.payload).unwrap_or_default();
    let events: Vec<_> = events
        .into_iter()
        .flatten()
        .map(|event| event.id.to_string())
        .collect();
    tracing::debug!(
        stream = ack.stream,
        sequence = ack.sequence,
        events = events.join(" "),
        "a frame is stored"
    );
}

/// A frame, ready to be sent any number of times.
struct Message {
    version: &'static str,
    payload: Bytes,
    headers: HeaderMap,
}

impl Message {
    fn new(frame: &[Pending]) -> Self {
        let mut headers = HeaderMap::new();
        let events = frame.iter().map(|pending| &pending.event);
        let version = frame::version(events.clone());
        headers.insert(frame::VERSION_HEADER, version);
        Self {
            version,
            payload: frame::encode(events),
            headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An event's end of what tells its request.
    type Answered = oneshot::Receiver<Result<(), PublishError>>;

    /// An event whose request waits for so many seconds.
    fn event(seconds: u32) -> (Pending, Answered) {
        let sample = Pending::sample(&Arc::new(Semaphore::new(1)));
        let (answer, answered) = oneshot::channel();
        let event = Pending {
            answer,
            deadline: sample.arrived + SECOND * seconds,
            ..sample
        };
        (event, answered)
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_came_later_waits_on_when_the_time_of_the_oldest_is_over() {
        let ((oldest, mut answered), (newest, mut answered_later)) = (event(1), event(2));
        let mut frame = vec![oldest, newest];
        let sent = while_awaited(&mut frame, tokio::time::sleep(SECOND * 3 / 2)).await;
        assert_eq!((sent, frame.len()), (Some(()), 1));
        assert_eq!(answered.try_recv(), Ok(Err(PublishError::TimedOut)));
        assert_eq!(answered_later.try_recv(), Err(TryRecvError::Empty));

        let sent = while_awaited(&mut frame, pending::<()>()).await;
        assert_eq!((sent, frame.len()), (None, 0));
        assert_eq!(answered_later.try_recv(), Ok(Err(PublishError::TimedOut)));
    }
}
