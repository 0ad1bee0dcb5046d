//! The event streams and their consumers as nats-server has them.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, Info, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use futures_util::TryStreamExt as _;
use shared::domain::clock::UnixMicros;
use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::worker_backlog::{Part, WorkerBacklog};
use shared::wire::depth::Depth;
use shared::wire::stream::{CONSUMER, NAME_PREFIX};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How often a worker that is alone looks at the streams.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

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

/// The time up to which all that was accepted is stored: the time of the oldest frame in the streams, at most `now`. Read `now`
/// before calling this. `None` when NATS does not answer.
pub(crate) async fn stored_through(nats: &Nats, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let streams = event_streams(&nats.jetstream()).await.ok()?;
    let filled = streams.iter().filter(|stream| stream.state.messages > 0);
    let oldest = filled.map(|stream| stream.state.first_timestamp).min();
    Some(oldest.map_or(now, |oldest| oldest.min(now)))
}

/// Whether a consumer could not be made because its stream is not there.
pub(crate) fn is_stream_gone(error: &anyhow::Error) -> bool {
    let Some(ConsumerErrorKind::JetStream(error)) =
        error.downcast_ref::<ConsumerError>().map(ConsumerError::kind)
    else {
        return false;
    };
    error.error_code() == ErrorCode::STREAM_NOT_FOUND
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

/// Reads the streams' part of the backlog again and again, until the stop. Several `workers` look less often each.
///
/// # Errors
/// Never; it returns a result because it runs as a long-lived task.
pub(crate) async fn follow(
    nats: Nats,
    backlog: WorkerBacklog,
    workers: Replicas,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let jetstream = nats.jetstream();
    while !stop.is_cancelled() {
        match stop.run_until_cancelled(depth(&jetstream)).await {
            None => break,
            Some(Ok(depth)) => backlog.set_streams(Part {
                deliveries: depth.events,
                age: depth.age,
            }),
            // The connection's own log says why.
            Some(Err(error)) => tracing::debug!(%error, "cannot look at the streams, trying again later"),
        }
        let pause = workers.pause(LOOK_INTERVAL);
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

/// The depth of all streams together.
async fn depth(jetstream: &Context) -> anyhow::Result<Depth> {
    let mut depth = Depth::default();
    for info in event_streams(jetstream).await? {
        let stream = jetstream.get_stream_no_info(&info.config.name).await?;
        depth = depth.and(Depth::of(&stream, &info, UnixMicros::now().to_date_time()).await?);
    }
    Ok(depth)
}
