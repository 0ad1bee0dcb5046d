//! Frames that stay in a stream although no worker will be given them.
//!
//! Frames are left over for three reasons. nats-server writes an acknowledgement and then removes its frame; when it is stopped
//! in between, it keeps only the first. A consumer with a limit of tries, made by hand, gives frames up. And after a power cut,
//! nats-server 2.15 has been seen to wait for minutes for the acknowledgements of frames that it did not hand out again.
//!
//! A leftover frame would take up room for ever, and the ordered deliveries after it would wait for it. So it is stored here,
//! which changes nothing if it was stored before. Then it is removed, if the stream still has the same frame at its sequence
//! number. One that this release cannot read is set aside, but not before workers of other releases have had the time to take it.
//!
//! At the stop a look is dropped, but not while it stores a frame: Postgres would go on with the statement, and nobody would start
//! the deliveries that it leases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    DeleteMessageError, DeleteMessageErrorKind, Info, RawMessageErrorKind, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::intake::consume::streams::workers_consumer;
use crate::intake::frame::{Frame, UNKNOWN_VERSION_TRIES};
use crate::intake::write::{UNKNOWN_VERSION_DELAY, Writer};
use crate::store::events;

/// A frame is left over when it was handed out this many waits for acknowledgements ago and is still there. Somebody may only
/// take very long to store it: then storing it twice changes nothing.
const WAITS: u32 = 3;

/// Looks for leftover frames, again and again.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// How long ago a frame was handed out, at the least, that counts as left over.
    patience: Duration,
    /// The same of a frame of an unknown version: as long as its tries may take.
    patience_with_unknown: Duration,
    streams: HashMap<String, Seen>,
    /// Locked while a frame is being stored.
    storing: Arc<Mutex<()>>,
}

/// How a stream's consumer stood at former looks.
#[derive(Debug)]
struct Seen {
    /// The frame up to which the consumer was done at the look before. A frame up to there that is still in the stream is not on
    /// its way out.
    done_through: u64,
    /// Renewed after [`Leftovers::patience`].
    known: Mark,
    /// Renewed after [`Leftovers::patience_with_unknown`].
    unknown: Mark,
}

/// The last frame that had been handed out at a time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    handed_out: u64,
    at: Instant,
}

impl Mark {
    /// The frame up to which all were handed out `patience` ago or earlier, and 0 while that is not known. What was marked must
    /// still have been handed out: a stream that is made again begins at the first number.
    fn passed(&mut self, patience: Duration, now: Self) -> u64 {
        if now.at - self.at < patience {
            return 0;
        }
        let before = std::mem::replace(self, now);
        before.handed_out.min(now.handed_out)
    }
}

/// The frames up to which all that are in the stream are left over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// Of a version that this release reads.
    known_through: u64,
    /// Of another one.
    unknown_through: u64,
}

impl Left {
    fn has(&self, frame: &Frame<'_>) -> bool {
        let through = if frame.is_known() {
            self.known_through
        } else {
            self.unknown_through
        };
        frame.sequence <= through
    }
}

impl Leftovers {
    /// For streams whose consumers wait `ack_wait` for an acknowledgement.
    pub(crate) fn new(ack_wait: Duration) -> Self {
        Self {
            patience: ack_wait * WAITS,
            patience_with_unknown: (ack_wait + UNKNOWN_VERSION_DELAY) * UNKNOWN_VERSION_TRIES,
            streams: HashMap::new(),
            storing: Arc::default(),
        }
    }

    /// Whoever has this lock may drop a look: no frame is being stored.
    pub(crate) fn storing(&self) -> Arc<Mutex<()>> {
        self.storing.clone()
    }

    /// Stores and removes leftover frames: those that consumers were done with at the look before, and those that they handed out
    /// long ago. Time in which nothing can be stored does not count: workers then hold frames whose deliveries may have begun.
    ///
    /// # Errors
    /// When NATS or Postgres does not answer or refuses, or when the tables are locked. What was not removed is found again.
    pub(crate) async fn take_in(
        &mut self,
        jetstream: &Context,
        writer: &Writer,
        streams: &[Info],
    ) -> anyhow::Result<()> {
        let looking = async {
            writer.directory.refresh().await?;
            events::can_be_written(writer.database.pool()).await
        };
        if let Err(error) = looking.await {
            self.streams.clear();
            return Err(error.into());
        }
        for info in streams {
            let name = &info.config.name;
            if info.state.messages == 0 {
                self.streams.remove(name);
                continue;
            }
            let stream = jetstream.get_stream_no_info(name).await?;
            let Some(consumer) = workers_consumer(&stream).await? else {
                continue;
            };
            let now = Mark {
                handed_out: consumer.delivered.stream_sequence,
                at: Instant::now(),
            };
            let left = self.left(name, done_through(&consumer), now);
            let last = left.known_through.max(left.unknown_through);
            let mut next = info.state.first_sequence;
            while next <= last
                && let Some(message) = first_from(&stream, next).await?
                && message.sequence <= last
            {
                if left.has(&Frame::of_leftover(name, &message)) {
                    store(name, &message, writer, &self.storing).await?;
                    remove(&stream, name, &message).await?;
                }
                next = message.sequence + 1;
            }
        }
        Ok(())
    }

    /// Which frames in the stream are left over, as this look and those before it show. The consumer is done with frames up to
    /// `done`, and has handed out those of `now`.
    fn left(&mut self, stream: &str, done: u64, now: Mark) -> Left {
        let Some(seen) = self.streams.get_mut(stream) else {
            let seen = Seen {
                done_through: done,
                known: now,
                unknown: now,
            };
            self.streams.insert(stream.to_owned(), seen);
            return Left::default();
        };
        let done_before = std::mem::replace(&mut seen.done_through, done);
        let passed = seen.known.passed(self.patience, now);
        Left {
            known_through: done.min(done_before).max(passed),
            unknown_through: seen.unknown.passed(self.patience_with_unknown, now),
        }
    }
}

/// The frame up to which the consumer is done. nats-server raises the ack floor only when an acknowledgement comes, so the floor
/// may stay behind. When no acknowledgement is awaited, the consumer is done with all that it has handed out.
fn done_through(consumer: &consumer::Info) -> u64 {
    if consumer.num_ack_pending == 0 {
        consumer.delivered.stream_sequence
    } else {
        consumer.ack_floor.stream_sequence
    }
}

async fn store(
    name: &str,
    message: &StreamMessage,
    writer: &Writer,
    storing: &Mutex<()>,
) -> Result<(), sqlx::Error> {
    let _storing = storing.lock().await;
    writer.take_leftover(name, message).await
}

/// Removes a frame that is stored, if the stream still has the same one.
async fn remove(stream: &Stream<()>, name: &str, message: &StreamMessage) -> anyhow::Result<()> {
    // Storing may have taken long, and the stream may be another one by now.
    match stream.get_raw_message(message.sequence).await {
        Ok(now) if now.time == message.time && now.payload == message.payload => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(()),
        Err(error) => return Err(error).context("cannot read a frame"),
    }
    match stream.delete_message(message.sequence).await {
        Ok(_) => tracing::warn!(
            stream = name,
            sequence = message.sequence,
            "took in a frame that its consumer had passed over"
        ),
        // Another worker was first.
        Err(error) if is_gone(&error) => {}
        Err(error) => return Err(error).context("cannot remove a frame"),
    }
    Ok(())
}

/// The first message at or after a sequence number.
async fn first_from(stream: &Stream<()>, sequence: u64) -> anyhow::Result<Option<StreamMessage>> {
    match stream.get_first_raw_message_by_subject(">", sequence).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error).context("cannot read a frame"),
    }
}

/// Whether the frame was not there any more.
fn is_gone(error: &DeleteMessageError) -> bool {
    let DeleteMessageErrorKind::JetStream(error) = error.kind() else {
        return false;
    };
    [ErrorCode::NO_MESSAGE_FOUND, ErrorCode::SEQUENCE_NOT_FOUND].contains(&error.error_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What looks find after so many seconds, when the consumer is done up to a frame and has handed out up to another.
    fn looks(looks: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
        let (mut leftovers, begun) = (Leftovers::new(Duration::from_secs(2)), Instant::now());
        let left = looks.iter().map(|&(seconds, done, handed_out)| {
            let at = begun + Duration::from_secs(seconds);
            leftovers.left("EVENTS-0", done, Mark { handed_out, at })
        });
        left.map(|left| (left.known_through, left.unknown_through))
            .collect()
    }

    #[test]
    fn a_frame_that_was_handed_out_three_waits_ago_is_left_over() {
        let found = looks(&[(0, 0, 7), (5, 0, 8), (6, 0, 9), (11, 0, 9), (12, 0, 9)]);
        assert_eq!(found, [(0, 0), (0, 0), (7, 0), (0, 0), (9, 0)]);
    }

    #[test]
    fn a_frame_that_the_consumer_was_done_with_at_the_look_before_is_left_over() {
        assert_eq!(
            looks(&[(0, 3, 5), (1, 4, 5), (2, 4, 5)]),
            [(0, 0), (3, 0), (4, 0)]
        );
    }

    /// A worker gives such a frame back four times, for five seconds each.
    #[test]
    fn a_frame_of_an_unknown_version_is_left_over_only_after_all_its_tries() {
        let found = looks(&[(0, 7, 7), (20, 7, 7), (34, 7, 8), (35, 7, 8)]);
        let unknown: Vec<_> = found.into_iter().map(|(_, unknown)| unknown).collect();
        assert_eq!(unknown, [0, 0, 0, 7]);
    }

    #[test]
    fn in_a_stream_that_was_made_again_nothing_is_left_over_that_was_not_handed_out() {
        assert_eq!(looks(&[(0, 90, 90), (40, 2, 3)]), [(0, 0), (3, 3)]);
    }
}
