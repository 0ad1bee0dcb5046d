//! Frames that stay in a stream although no worker will be given them: the consumer's ack floor is above them.
//!
//! nats-server writes an acknowledgement and the removal of its frame one after the other, and keeps only the first when
//! it is stopped in between; a consumer with a limit of tries, made by hand, gives frames up. Either way the frame would
//! take up room for ever, and the ordered deliveries after it would wait for it. It is stored here, which changes
//! nothing if it was stored before, and then removed, if the stream still has the same frame at its sequence number.

use std::collections::HashMap;

use anyhow::Context as _;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    DeleteMessageError, DeleteMessageErrorKind, Info, RawMessageErrorKind, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};

use crate::intake::streams::workers_consumer;
use crate::intake::write::Writer;

/// Looks for what is left over, again and again.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Each stream's ack floor of the look before. What is below both floors is not on its way out.
    floors: HashMap<String, u64>,
}

impl Leftovers {
    /// Stores and removes what has been below the consumer's ack floor since the look before.
    ///
    /// # Errors
    /// When NATS or Postgres does not answer or refuses. What was not removed is found again.
    pub(crate) async fn take_in(
        &mut self,
        jetstream: &Context,
        writer: &Writer,
        streams: &[Info],
    ) -> anyhow::Result<()> {
        for info in streams.iter().filter(|info| info.state.messages > 0) {
            let name = &info.config.name;
            let stream = jetstream.get_stream_no_info(name).await?;
            let Some(consumer) = workers_consumer(&stream).await? else {
                continue;
            };
            let floor = consumer.ack_floor.stream_sequence;
            let floor_before = self.floors.insert(name.clone(), floor).unwrap_or(0);
            let last = floor.min(floor_before);
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
