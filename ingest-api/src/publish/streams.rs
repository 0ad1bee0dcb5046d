//! Making the event streams, and looking how full they are.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::Info;
use shared::domain::clock::UnixMicros;
use shared::process::nats::Nats;
use shared::process::readings::Readings;
use shared::process::telemetry::Readiness;
use shared::wire::stream;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::config::StreamsConfig;

/// The readiness condition that [`keep_streams`] fulfils.
pub(crate) const STREAMS_READY: &str = "event streams";

/// Pause before streams are created again that could not be.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How often the streams are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Creates the event streams, and again after every reconnection, because the server may be a new, empty one, and when
/// one is gone.
pub(crate) async fn keep_streams(
    config: StreamsConfig,
    nats: Nats,
    readiness: Readiness,
    readings: Readings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let jetstream = nats.jetstream();
    let mut connections = nats.connections();
    while !stop.is_cancelled() {
        connections.mark_unchanged();
        match create_streams(&config, &jetstream).await {
            Ok(()) => {
                readiness.set(STREAMS_READY, true);
                tokio::select! {
                    name = watch(&config, &jetstream, &readings) => {
                        tracing::warn!(stream = name, "an event stream is gone, creating it again");
                        readiness.set(STREAMS_READY, false);
                    }
                    () = connections.changed() => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(error) => {
                if nats.is_connected() {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "cannot create the event streams, trying again"
                    );
                }
                let pause = tokio::time::sleep(RETRY_PAUSE);
                tokio::select! {
                    () = pause => {}
                    () = connections.changed() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
    Ok(())
}

async fn create_streams(config: &StreamsConfig, jetstream: &jetstream::Context) -> anyhow::Result<()> {
    for partition in 0..config.event_streams {
        let replicas = usize::from(config.event_stream_replicas);
        let stream = stream::config(partition, replicas, config.event_stream_max_bytes);
        jetstream.create_or_update_stream(stream).await?;
    }
    Ok(())
}

/// Measures the streams regularly; returns the name of one that is not there any more.
async fn watch(config: &StreamsConfig, jetstream: &jetstream::Context, readings: &Readings) -> String {
    loop {
        for partition in 0..config.event_streams {
            let name = stream::name(partition);
            match jetstream.get_stream(&name).await {
                Ok(stream) => measure(
                    &name,
                    stream.cached_info(),
                    readings,
                    UnixMicros::now().to_date_time(),
                ),
                Err(error) if is_gone(&error) => return name,
                // The connection's own log says why.
                Err(error) => {
                    tracing::debug!(%error, stream = name, "cannot look at a stream, trying again later");
                }
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn measure(name: &str, info: &Info, readings: &Readings, now: OffsetDateTime) {
    let set = |gauge: &'static str, value: f64| readings.set_labelled(gauge, ("stream", name), value);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let count = |value: u64| value as f64;
    set("event_stream_frames", count(info.state.messages));
    set("event_stream_bytes", count(info.state.bytes));
    let most = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
    set("event_stream_max_bytes", count(most));
    let is_empty = info.state.messages == 0;
    let age = if is_empty {
        0.0
    } else {
        // The server's time and ours, which may be apart.
        (now - info.state.first_timestamp).as_seconds_f64().max(0.0)
    };
    set("event_stream_oldest_frame_seconds", age);
}

fn is_gone(error: &GetStreamError) -> bool {
    let GetStreamErrorKind::JetStream(error) = error.kind() else {
        return false;
    };
    error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND
}
