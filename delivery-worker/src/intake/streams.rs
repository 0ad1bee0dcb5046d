//! The event streams and their consumers as nats-server has them.

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::{Info, Stream};
use futures_util::TryStreamExt as _;
use shared::wire::stream::{CONSUMER, NAME_PREFIX};

/// The event streams.
///
/// # Errors
/// When NATS does not answer.
pub(crate) async fn event_streams(jetstream: &Context) -> anyhow::Result<Vec<Info>> {
    let streams: Result<Vec<Info>, _> = jetstream.streams().try_collect().await;
    let mut streams = streams.context("cannot list the streams")?;
    streams.retain(|info| info.config.name.starts_with(NAME_PREFIX));
    Ok(streams)
}

/// The workers' consumer on a stream, if it is there.
///
/// # Errors
/// When NATS does not answer.
pub(crate) async fn workers_consumer(stream: &Stream<()>) -> anyhow::Result<Option<consumer::Info>> {
    match stream.consumer_info(CONSUMER).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read the consumer"),
    }
}
