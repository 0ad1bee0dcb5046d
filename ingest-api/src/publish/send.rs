//! One send of a message to a stream.

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;

/// Sends a message once, and returns when it is acknowledged.
pub(crate) async fn send(
    jetstream: &jetstream::Context,
    subject: &str,
    payload: Bytes,
    headers: HeaderMap,
) -> Result<PublishAck, PublishError> {
    let publish = PublishMessage::build().payload(payload).headers(headers);
    jetstream.send_publish(subject.to_owned(), publish).await?.await
}

/// Whether the stream, or all that NATS may store, is full.
pub(crate) fn is_full(error: &PublishError) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    let code = source.map(jetstream::Error::error_code);
    matches!(
        code,
        Some(ErrorCode::STREAM_STORE_FAILED | ErrorCode::INSUFFICIENT_RESOURCES)
    )
}
