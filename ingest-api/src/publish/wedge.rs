//! Whether NATS stores what it is sent.
//!
//! When a write fails, as on a full disk, nats-server stores nothing more in that stream until it is restarted, and does not
//! say so: publishes time out, also when there is room again, and everything else is answered. Then the stream is wedged.
//!
//! Only publishing tells, so as soon as a publish has timed out, frames without events are published, until one is
//! acknowledged. That also heals a replica to which no requests come because it is not ready. Such a frame is written like
//! any other, and workers find nothing in it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use futures_util::future::join_all;
use shared::process::nats::Nats;
use shared::process::telemetry::Readiness;
use shared::wire::frame;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::publish::send::{is_full, send};
use crate::publish::tally::{Counts, Tally};

/// The readiness condition that does not hold while no stream stores anything.
const STORES: &str = "NATS answers and stores nothing: restart it, see PenstockNatsWedged in the runbook";

/// How often a stream in doubt is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long an empty frame waits for its acknowledgement.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// For how long nothing may be stored by a server that answers. The election of a stream's leader takes up to 7 s.
const WEDGED_AFTER: Duration = Duration::from_secs(10);

/// What a look at a stream has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A publish was acknowledged, or refused because the stream is full.
    Stores,
    /// The server answers, but has not acknowledged a publish.
    StoresNothing,
    /// The server does not answer.
    Unknown,
}

/// What is known of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// As far as anybody knows it stores what it is sent.
    #[default]
    Well,
    /// No publish was acknowledged since then, while the server answered all the time.
    InDoubt { since: Instant },
    /// It stores nothing.
    Wedged,
}

impl State {
    /// The state after a look. A server that does not answer is away, which says nothing about its disk.
    fn after(self, look: Look, now: Instant) -> Self {
        match (look, self) {
            (Look::Stores, _) => Self::Well,
            (_, Self::Wedged) => Self::Wedged,
            (Look::StoresNothing, Self::InDoubt { since })
                if now.saturating_duration_since(since) >= WEDGED_AFTER =>
            {
                Self::Wedged
            }
            (Look::StoresNothing, Self::InDoubt { .. }) => self,
            (Look::StoresNothing, Self::Well) | (Look::Unknown, _) => Self::InDoubt { since: now },
        }
    }
}

/// A stream whose acknowledgements are watched.
#[derive(Debug)]
pub(crate) struct Watched {
    name: String,
    subject: String,
    tally: Arc<Tally>,
    last: Counts,
    state: State,
}

impl Watched {
    /// The stream of this name and subject, of which `tally` tells.
    pub(crate) fn new(name: String, subject: String, tally: Arc<Tally>) -> Self {
        let watched = Self {
            name,
            subject,
            tally,
            last: Counts::default(),
            state: State::Well,
        };
        watched.show();
        watched
    }

    /// Takes note of what was published since the last time.
    fn hear(&mut self, now: Instant) {
        let counts = self.tally.counts();
        let last = std::mem::replace(&mut self.last, counts);
        if counts.stored > last.stored {
            self.note(Look::Stores, now);
        } else if counts.missed > last.missed && self.state == State::Well {
            self.state = State::InDoubt { since: now };
        }
    }

    fn note(&mut self, look: Look, now: Instant) {
        let before = self.state;
        self.state = before.after(look, now);
        match (before, self.state) {
            (State::Wedged, State::Well) => {
                tracing::info!(stream = self.name, "NATS stores events again");
            }
            (State::InDoubt { .. }, State::Wedged) => tracing::error!(
                stream = self.name,
                "NATS answers and stores nothing, as after its disk was full; it must be restarted"
            ),
            _ => return,
        }
        self.show();
    }

    fn show(&self) {
        let is_wedged = u8::from(self.state == State::Wedged);
        metrics::gauge!("penstock_nats_wedged", "stream" => self.name.clone()).set(is_wedged);
    }
}

/// Watches the streams until the stop.
///
/// # Errors
/// Never; it returns a result because it runs as a long-lived task.
pub(crate) async fn watch(
    mut streams: Vec<Watched>,
    nats: Nats,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let jetstream = nats.jetstream();
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = Instant::now();
        for stream in &mut streams {
            stream.hear(now);
        }
        if streams.iter().any(|stream| stream.state != State::Well) {
            // All of them: a stream without traffic may be wedged too, or be the one that still stores.
            let looking = look(&streams, &jetstream, &nats);
            let Some(looks) = stop.run_until_cancelled(looking).await else {
                break;
            };
            let now = Instant::now();
            for (stream, look) in streams.iter_mut().zip(looks) {
                stream.note(look, now);
            }
        }
        readiness.set(STORES, !is_stuck(&streams));
    }
    Ok(())
}

/// Whether a stream is wedged and none stores. Events of the others are accepted otherwise.
fn is_stuck(streams: &[Watched]) -> bool {
    let any = |state: State| streams.iter().any(|stream| stream.state == state);
    any(State::Wedged) && !any(State::Well)
}

/// Looks at all streams at once.
async fn look(streams: &[Watched], jetstream: &jetstream::Context, nats: &Nats) -> Vec<Look> {
    let connection = nats.connection();
    if connection.is_none() {
        return vec![Look::Unknown; streams.len()];
    }
    let stored = join_all(streams.iter().map(|stream| stores(jetstream, &stream.subject))).await;
    // It must be the server that had the frames.
    let answers = stored.iter().all(|stored| *stored) || nats.answers().await;
    let otherwise = if answers && nats.connection() == connection {
        Look::StoresNothing
    } else {
        Look::Unknown
    };
    let looks = stored.into_iter();
    looks
        .map(|stored| if stored { Look::Stores } else { otherwise })
        .collect()
}

/// Publishes a frame without events. A stream that is full refuses it, and that is no wedge: it ends when workers have
/// taken something out.
async fn stores(jetstream: &jetstream::Context, subject: &str) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(frame::VERSION_HEADER, frame::VERSION);
    let empty = frame::encode(std::iter::empty());
    match timeout(PATIENCE, send(jetstream, subject, empty, headers)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => is_full(&error),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
