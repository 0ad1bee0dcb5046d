//! Frames that stay in a stream although no worker will be given them.
//!
//! Frames are left over for three reasons. nats-server writes an acknowledgement and then removes its frame; when it is stopped
//! in between, it keeps only the first. A consumer with a limit of tries, made by hand, gives frames up. And after a power cut,
//! nats-server 2.15 has been seen to wait for minutes for the acknowledgements of frames that it did not hand out again.
//!
//! A leftover frame would take up room for ever, and the ordered deliveries after it would wait for it. So it is stored here,
//! which changes nothing if it was stored before. Then it is removed, if the stream still has the same frame at its sequence
//! number.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    DeleteMessageError, DeleteMessageErrorKind, Info, RawMessageErrorKind, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use tokio::time::Instant;

use crate::intake::consume::streams::workers_consumer;
use crate::intake::write::Writer;
use crate::store::events;

/// A frame is left over when it was handed out this many waits for acknowledgements ago and is still there. Somebody may only
/// take very long to store it: then storing it twice changes nothing.
const WAITS: u32 = 3;

/// Looks for leftover frames, again and again.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// How long ago a frame was handed out, at the least, that counts as left over.
    patience: Duration,
    streams: HashMap<String, Seen>,
}

/// How a stream's consumer stood at former looks.
#[derive(Debug)]
struct Seen {
    /// The frame up to which the consumer was done at the look before. A frame up to there that is still in the stream is not on
    /// its way out.
    done_through: u64,
    /// The last frame that had been handed out at the time `at`. Both are renewed when [`Leftovers::patience`] has passed.
    handed_out: u64,
    at: Instant,
}

impl Leftovers {
    /// For streams whose consumers wait `ack_wait` for an acknowledgement.
    pub(crate) fn new(ack_wait: Duration) -> Self {
        Self {
            patience: ack_wait * WAITS,
            streams: HashMap::new(),
        }
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
            let last = self.left_through(name, &consumer, Instant::now());
            let mut next = info.state.first_sequence;
            while next <= last
                && let Some(message) = first_from(&stream, next).await?
                && message.sequence <= last
            {
                store_and_remove(&stream, name, &message, writer).await?;
                next = message.sequence + 1;
            }
        }
        Ok(())
    }

    /// The frame up to which all frames in the stream are left over, as this look and those before it show.
    fn left_through(&mut self, stream: &str, consumer: &consumer::Info, now: Instant) -> u64 {
        let (done, handed_out) = (done_through(consumer), consumer.delivered.stream_sequence);
        let Some(seen) = self.streams.get_mut(stream) else {
            let seen = Seen {
                done_through: done,
                handed_out,
                at: now,
            };
            self.streams.insert(stream.to_owned(), seen);
            return 0;
        };
        let mut last = done.min(std::mem::replace(&mut seen.done_through, done));
        if now - seen.at >= self.patience {
            last = last.max(handed_out.min(seen.handed_out));
            (seen.handed_out, seen.at) = (handed_out, now);
        }
        last
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

/// Stores a frame, and removes it if the stream still has the same one.
async fn store_and_remove(
    stream: &Stream<()>,
    name: &str,
    message: &StreamMessage,
    writer: &Writer,
) -> anyhow::Result<()> {
    writer.take_leftover(name, message).await?;
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
