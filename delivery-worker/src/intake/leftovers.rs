//! Frames that stay in a stream although no worker will be given them.
//!
//! nats-server writes an acknowledgement and the removal of its frame one after the other, and keeps only the first when
//! it is stopped in between; a consumer with a limit of tries, made by hand, gives frames up. nats-server 2.15 that was
//! started again after a power cut has been seen to wait for acknowledgements of frames, for minutes, and not to hand them
//! out again. Either way the frame would take up room for ever, and the ordered deliveries after it would wait for it. It
//! is stored here, which changes nothing if it was stored before, and then removed, if the stream still has the same frame
//! at its sequence number.

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

/// A frame that was handed out this many times the wait for acknowledgements ago, and is still there, is left over, or
/// somebody works on it who takes very long: to store it beside them changes nothing.
const WAITS: u32 = 3;

/// Looks for what is left over, again and again.
#[derive(Debug)]
pub(crate) struct Leftovers {
    patience: Duration,
    streams: HashMap<String, Seen>,
}

/// How a stream's consumer stood at former looks.
#[derive(Debug)]
struct Seen {
    /// The last frame that was done with at the look before. What was before that one, and before today's, is not on its way
    /// out.
    done_through: u64,
    /// The last frame that was handed out, [`Leftovers::patience`] ago at the most.
    handed_out: u64,
    at: Instant,
}

impl Leftovers {
    /// Of streams whose consumers wait for acknowledgements so long.
    pub(crate) fn new(ack_wait: Duration) -> Self {
        Self {
            patience: ack_wait * WAITS,
            streams: HashMap::new(),
        }
    }

    /// Stores and removes what the consumers have been done with since the look before, and what they handed out long ago. Time
    /// in which Postgres is away does not count: workers hold frames then, whose deliveries may have begun.
    ///
    /// # Errors
    /// When NATS or Postgres does not answer or refuses. What was not removed is found again.
    pub(crate) async fn take_in(
        &mut self,
        jetstream: &Context,
        writer: &Writer,
        streams: &[Info],
    ) -> anyhow::Result<()> {
        if let Err(error) = writer.directory.refresh().await {
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
                take_in(&stream, name, &message, writer).await?;
                next = message.sequence + 1;
            }
        }
        Ok(())
    }

    /// The frame up to which all that is there is left over, by this look and those before.
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

/// The frame up to which the consumer waits for nothing. nats-server raises the ack floor only with an acknowledgement, so
/// that it may stay behind for as long as none comes; when none is waited for, all that was handed out is done with.
fn done_through(consumer: &consumer::Info) -> u64 {
    if consumer.num_ack_pending == 0 {
        consumer.delivered.stream_sequence
    } else {
        consumer.ack_floor.stream_sequence
    }
}

async fn take_in(
    stream: &Stream<()>,
    name: &str,
    message: &StreamMessage,
    writer: &Writer,
) -> anyhow::Result<()> {
    writer.take_leftover(name, message).await?;
    // Postgres may have taken its time, and the stream may be another one by now.
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

fn is_gone(error: &DeleteMessageError) -> bool {
    let DeleteMessageErrorKind::JetStream(error) = error.kind() else {
        return false;
    };
    [ErrorCode::NO_MESSAGE_FOUND, ErrorCode::SEQUENCE_NOT_FOUND].contains(&error.error_code())
}
