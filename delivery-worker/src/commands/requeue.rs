//! `delivery-worker requeue`: puts frames and events from quarantine back into the event streams, if this build can
//! read them.
//!
//! A row is deleted when JetStream has acknowledged its frame. A frame whose row was not deleted is published again by
//! the next run. That changes nothing, because its events keep their ids.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use shared::process::output::print;
use shared::wire::frame;
use shared::wire::stream::Spread;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::config::RequeueOptions;
use crate::intake::consume::streams::event_streams;
use crate::store::partitions;

/// Rows that are held at once; each may be as large as a frame.
const PAGE: usize = 16;

/// Puts back all that can be read, and prints the counts.
///
/// # Errors
/// When NATS or Postgres does not answer or refuses, and when a row stays in quarantine.
pub(crate) async fn run(options: &RequeueOptions, jetstream: &Context, pool: &PgPool) -> anyhow::Result<()> {
    let mut outcome = Outcome::default();
    let run = requeue(options, jetstream, pool, &mut outcome).await;
    let printed = print(&outcome.to_string()).await;
    run.and(printed)?;
    let stay: u64 = outcome.stay.values().sum();
    ensure!(stay == 0, "{stay} in quarantine could not be put back");
    Ok(())
}

/// Counts, for a person.
#[derive(Debug, Default)]
struct Outcome {
    put_back: u64,
    /// Frames and events that stay, by the reason.
    stay: BTreeMap<String, u64>,
}

impl Outcome {
    fn stays(&mut self, reason: impl fmt::Display) {
        *self.stay.entry(reason.to_string()).or_default() += 1;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "put back: {}", self.put_back)?;
        self.stay
            .iter()
            .try_for_each(|(reason, count)| writeln!(f, "stay in quarantine: {count} ({reason})"))
    }
}

async fn requeue(
    options: &RequeueOptions,
    jetstream: &Context,
    pool: &PgPool,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let targets = targets(jetstream).await?;
    let started = partitions::now(pool)
        .await
        .context("cannot read the quarantine")?;
    let mut last = None;
    loop {
        let page = next_page(pool, options, started, last.as_ref());
        let mut page = page.await.context("cannot read the quarantine")?;
        for row in &page {
            let payload = row.payload();
            let Some(spread) = readable(row, &payload, outcome) else {
                continue;
            };
            let target = target(&targets, &row.stream, spread);
            match publish(jetstream, target, row, payload).await {
                // A worker that puts it into quarantine again finds this row there and adds none.
                Ok(ack) if row.is_at(&ack) => {
                    outcome.stays(
                        "it came to the same place of a stream that was made again; try again in a minute",
                    );
                }
                Ok(_) => {
                    delete(pool, row)
                        .await
                        .context("cannot delete what was put back")?;
                    outcome.put_back += 1;
                }
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => outcome.stays(error),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot put back into {}", target.stream));
                }
            }
        }
        if page.len() < PAGE {
            return Ok(());
        }
        last = page.pop();
    }
}

/// Where the first event that can be read goes. Counts the events that cannot be read. When another event of
/// the frame can be read, the frame is put back, and a worker puts each unreadable event into quarantine by itself.
fn readable(row: &Row, payload: &[u8], outcome: &mut Outcome) -> Option<Spread> {
    let events = match frame::decode(row.frame_version.as_deref(), payload) {
        Ok(events) if events.is_empty() => {
            outcome.stays("a frame without events");
            return None;
        }
        Ok(events) => events,
        Err(error) => {
            outcome.stays(error);
            return None;
        }
    };
    let mut first = None;
    for event in events {
        match event {
            Ok(event) => first = first.or(Some(Spread::of(&event))),
            Err(error) => outcome.stays(error),
        }
    }
    first
}

/// A stream that takes frames.
#[derive(Debug)]
struct Target {
    stream: String,
    subject: String,
}

/// In the order of their partitions; at least one.
async fn targets(jetstream: &Context) -> anyhow::Result<Vec<Target>> {
    let mut targets: Vec<_> = event_streams(jetstream)
        .await?
        .into_iter()
        .filter_map(|info| {
            Some(Target {
                subject: info.config.subjects.into_iter().next()?,
                stream: info.config.name,
            })
        })
        .collect();
    ensure!(
        !targets.is_empty(),
        "there is no event stream to put anything into"
    );
    targets.sort_by(|one, other| (one.stream.len(), &one.stream).cmp(&(other.stream.len(), &other.stream)));
    Ok(targets)
}

/// The stream that it came from. If that is gone, the stream that its first event would go to now.
fn target<'a>(targets: &'a [Target], from: &str, spread: Spread) -> &'a Target {
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    targets
        .iter()
        .find(|target| target.stream == from)
        .unwrap_or_else(|| &targets[spread.partition(count) as usize])
}

async fn publish(
    jetstream: &Context,
    target: &Target,
    row: &Row,
    payload: Bytes,
) -> Result<PublishAck, PublishError> {
    let message = PublishMessage::build().payload(payload).headers(row.headers()?);
    jetstream
        .send_publish(target.subject.clone(), message)
        .await?
        .await
}

#[derive(Debug)]
struct Row {
    stream: String,
    sequence: i64,
    position: i32,
    digest: Vec<u8>,
    frame_version: Option<String>,
    bytes: Vec<u8>,
}

impl Row {
    /// A frame as it was, or a frame of the one event, whose bytes are as they were in a frame of the same version.
    fn payload(&self) -> Bytes {
        let bytes = self.bytes.clone();
        if self.position < 0 {
            bytes.into()
        } else {
            frame::pack([bytes.as_slice()].into_iter())
        }
    }

    /// Without a message id: the server's answer that it has seen an id does not say that it has the message.
    fn headers(&self) -> Result<HeaderMap, PublishError> {
        let version = self.frame_version.as_deref().unwrap_or_default();
        let value: HeaderValue = version
            .parse()
            .map_err(|error| PublishError::with_source(PublishErrorKind::Other, error))?;
        let mut headers = HeaderMap::new();
        headers.insert(frame::VERSION_HEADER, value);
        Ok(headers)
    }

    fn is_at(&self, ack: &PublishAck) -> bool {
        ack.stream == self.stream && i64::try_from(ack.sequence) == Ok(self.sequence)
    }
}

/// The rows after `last` that were there at `started`. Without that bound, a row that a worker puts into quarantine
/// again would be put back without end.
async fn next_page(
    pool: &PgPool,
    options: &RequeueOptions,
    started: OffsetDateTime,
    last: Option<&Row>,
) -> Result<Vec<Row>, sqlx::Error> {
    let query = sqlx::query_as!(
        Row,
        r#"select stream, sequence, position, digest, frame_version, bytes from quarantine
           where set_aside_at <= $1
             and ($2::text is null or stream = $2) and ($3::bigint is null or sequence = $3)
             and (stream, sequence, position, digest) > ($4, $5, $6, $7)
           order by stream, sequence, position, digest limit $8"#,
        started,
        options.stream.as_deref(),
        options.sequence,
        last.map_or("", |row| &row.stream),
        last.map_or(i64::MIN, |row| row.sequence),
        last.map_or(i32::MIN, |row| row.position),
        last.map_or(&[][..], |row| &row.digest),
        i64::try_from(PAGE).unwrap_or(i64::MAX),
    );
    query.fetch_all(pool).await
}

async fn delete(pool: &PgPool, row: &Row) -> Result<(), sqlx::Error> {
    let query = sqlx::query!(
        "delete from quarantine where stream = $1 and sequence = $2 and position = $3 and digest = $4",
        row.stream,
        row.sequence,
        row.position,
        row.digest,
    );
    query.execute(pool).await.map(drop)
}
