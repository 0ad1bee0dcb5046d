//! Making the event streams, and looking how full they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::Info;
use shared::domain::clock::UnixMicros;
use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::telemetry::Readiness;
use shared::process::telemetry::readings::{LIFETIME, Readings};
use shared::process::worker_backlog::{Part, WorkerBacklog};
use shared::wire::depth::Depth;
use shared::wire::stream;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::config::StreamsConfig;

/// The readiness condition that [`keep_streams`] fulfils.
pub(crate) const STREAMS_READY: &str = "event streams";

/// Pause before streams are created again that could not be.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How often a replica that is alone looks at the streams.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What is in a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    /// Frames that no worker has stored.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// At how many bytes the stream is full; None is no limit.
    pub max_bytes: Option<u64>,
    /// How long the oldest frame has been there.
    pub oldest_frame_seconds: f64,
}

/// What was last measured of each stream; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured(Arc<Mutex<BTreeMap<String, (Figures, Instant)>>>);

impl Measured {
    fn set(&self, name: &str, figures: Figures, now: Instant) {
        self.all().insert(name.to_owned(), (figures, now));
    }

    /// The streams that were measured lately, by their names.
    pub(crate) fn lately(&self, now: Instant) -> Vec<(String, Figures)> {
        let all = self.all();
        let lately = all
            .iter()
            .filter(|(_, (_, at))| now.saturating_duration_since(*at) < LIFETIME);
        lately
            .map(|(name, (figures, _))| (name.clone(), *figures))
            .collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, (Figures, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the streams' figures are shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Those of each stream.
    pub readings: Readings,
    /// Those of all together.
    pub backlog: WorkerBacklog,
    /// Those of each, for the admin API.
    pub measured: Measured,
    /// How many show them. Several look less often each.
    pub replicas: Replicas,
}

/// Creates the event streams, and again after every reconnection, because the server may be a new, empty one, and when
/// one is gone.
pub(crate) async fn keep_streams(
    config: StreamsConfig,
    nats: Nats,
    readiness: Readiness,
    shown: Shown,
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
                    name = watch(&config, &jetstream, &shown) => {
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
async fn watch(config: &StreamsConfig, jetstream: &jetstream::Context, shown: &Shown) -> String {
    loop {
        let mut depths = Some(Depth::default());
        for partition in 0..config.event_streams {
            let name = stream::name(partition);
            let depth = match jetstream.get_stream(&name).await {
                Ok(stream) => {
                    let (info, now) = (stream.cached_info(), UnixMicros::now().to_date_time());
                    let figures = Figures::new(info, now);
                    show(&name, &figures, &shown.readings);
                    shown.measured.set(&name, figures, Instant::now());
                    Depth::of(&stream, info, now).await
                }
                Err(error) if is_gone(&error) => return name,
                Err(error) => Err(error.into()),
            };
            // The connection's own log says why.
            if let Err(error) = &depth {
                tracing::debug!(%error, stream = name, "cannot look at a stream, trying again later");
            }
            depths = depths.zip(depth.ok()).map(|(sum, depth)| sum.and(depth));
        }
        if let Some(depths) = depths {
            shown.backlog.set_streams(Part {
                deliveries: depths.events,
                age: depths.age,
            });
        }
        let pause = shown.replicas.pause(LOOK_INTERVAL);
        tokio::time::sleep(pause).await;
    }
}

impl Figures {
    fn new(info: &Info, now: OffsetDateTime) -> Self {
        let is_empty = info.state.messages == 0;
        Self {
            frames: info.state.messages,
            bytes: info.state.bytes,
            max_bytes: u64::try_from(info.config.max_bytes).ok(),
            oldest_frame_seconds: if is_empty {
                0.0
            } else {
                // The server's time and ours, which may be apart.
                (now - info.state.first_timestamp).as_seconds_f64().max(0.0)
            },
        }
    }
}

fn show(name: &str, figures: &Figures, readings: &Readings) {
    let set = |gauge: &'static str, value: f64| readings.set_labelled(gauge, ("stream", name), value);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let count = |value: u64| value as f64;
    set("penstock_event_stream_frames", count(figures.frames));
    set("penstock_event_stream_bytes", count(figures.bytes));
    let most = figures.max_bytes.unwrap_or(u64::MAX);
    set("penstock_event_stream_max_bytes", count(most));
    set(
        "penstock_event_stream_oldest_frame_seconds",
        figures.oldest_frame_seconds,
    );
}

fn is_gone(error: &GetStreamError) -> bool {
    let GetStreamErrorKind::JetStream(error) = error.kind() else {
        return false;
    };
    error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_not_measured_again_is_not_shown() {
        let (measured, now) = (Measured::default(), Instant::now());
        let figures = Figures {
            frames: 1,
            bytes: 2,
            max_bytes: Some(3),
            oldest_frame_seconds: 4.0,
        };
        measured.set("EVENTS-0", figures, now);
        assert_eq!(measured.lately(now), [("EVENTS-0".to_owned(), figures)]);
        assert!(measured.lately(now + LIFETIME).is_empty());
    }
}
