//! Making the event streams.

use std::time::Duration;

use async_nats::jetstream;
use shared::nats::Nats;
use shared::stream;
use shared::telemetry::Readiness;
use tokio_util::sync::CancellationToken;

use crate::config::StreamsConfig;

/// The readiness condition that [`keep_streams`] fulfils.
pub const STREAMS_READY: &str = "event streams";

/// Pause before streams are created again that could not be.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Creates the event streams, and again after every reconnection: the server may be a new, empty one.
pub async fn keep_streams(
    config: StreamsConfig,
    nats: Nats,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let jetstream = nats.jetstream();
    let mut connections = nats.connections();
    while !stop.is_cancelled() {
        connections.mark_unchanged();
        match create_streams(&config, &jetstream).await {
            Ok(()) => {
                readiness.set(STREAMS_READY, true);
                let _ = stop.run_until_cancelled(connections.changed()).await;
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
                    _ = connections.changed() => {}
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
