//! `delivery-worker audit`: compares the streams with the tables, and counts unfinished deliveries by reason.
//!
//! The streams are read before the tables: a frame that is stored in between is counted in both, and no frame is
//! missed.

mod print;
mod usage;

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use async_nats::jetstream::stream::Info;
use serde::Serialize;
use shared::domain::id::{EndpointId, OrgId};
use shared::process::output::print;
use sqlx::{PgConnection, PgPool};
use time::{OffsetDateTime, Time};

use self::usage::Miscounted;
use crate::chores::retention::RetentionConfig;
use crate::config::AuditOptions;
use crate::intake::consume::streams::{event_streams, workers_consumer};
use crate::store::partitions;

/// Prints the audit.
///
/// # Errors
/// When NATS or Postgres does not answer, and, after printing, when something is stuck.
pub(crate) async fn run(
    options: &AuditOptions,
    retention: RetentionConfig,
    jetstream: &jetstream::Context,
    pool: &PgPool,
) -> anyhow::Result<()> {
    let streams = streams(jetstream).await.context("cannot read the streams")?;
    let tables = tables(pool, options.since, retention)
        .await
        .context("cannot read the tables")?;
    let audit = Audit {
        since: options.since,
        streams,
        tables,
    };
    let text = if options.json {
        serde_json::to_string_pretty(&audit)? + "\n"
    } else {
        audit.to_string()
    };
    print(&text).await?;
    let stuck = audit.stuck();
    ensure!(stuck.is_empty(), "stuck: {}", stuck.join(", "));
    Ok(())
}

#[derive(Debug, Serialize)]
struct Audit {
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    since: OffsetDateTime,
    streams: Vec<Stream>,
    #[serde(flatten)]
    tables: Tables,
}

/// An event stream. Its frames are of any age.
#[derive(Debug, Serialize)]
struct Stream {
    name: String,
    /// Frames that no worker has acknowledged.
    frames: u64,
    bytes: u64,
    /// Frames that were given to no worker. None before the first worker came.
    pending: Option<u64>,
    /// Frames that were given to a worker.
    ack_pending: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Tables {
    events: i64,
    /// Events that no endpoint wanted.
    events_without_deliveries: i64,
    deliveries: Vec<Count>,
    overdue: Vec<Overdue>,
    /// The pending deliveries that keep days older than `RETENTION`.
    keeping_days: Vec<Keeping>,
    /// Dead deliveries by the outcome of their last attempt.
    dead: Vec<Count>,
    /// Frames and events in quarantine, by reason.
    quarantine: Vec<Count>,
    /// Stored secrets by the id of the key that they are under, or `unnamed`.
    secrets: Vec<Count>,
    /// Hours since then, within `RETENTION`, that are counted for good, and of which usage says something else than the events.
    miscounted: Vec<Miscounted>,
}

#[derive(Debug, Serialize)]
struct Count {
    what: String,
    count: i64,
}

/// Deliveries of one endpoint that have been due for more than a minute, for one reason.
#[derive(Debug, Serialize)]
struct Overdue {
    endpoint_id: EndpointId,
    org_id: OrgId,
    reason: String,
    /// Whether workers could send them now.
    stuck: bool,
    deliveries: i64,
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    due_since: OffsetDateTime,
}

/// Pending deliveries of one endpoint whose events' days `RETENTION` would have dropped.
#[derive(Debug, Serialize)]
struct Keeping {
    endpoint_id: EndpointId,
    org_id: OrgId,
    deliveries: i64,
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    accepted_since: OffsetDateTime,
}

impl Audit {
    fn stuck(&self) -> Vec<String> {
        let overdue = self.tables.overdue.iter().filter(|overdue| overdue.stuck);
        let overdue = overdue.map(|overdue| {
            let Overdue {
                deliveries,
                endpoint_id,
                reason,
                ..
            } = overdue;
            format!("{deliveries} deliveries to {endpoint_id} ({reason})")
        });
        let quarantine = self.tables.quarantine.iter();
        let quarantine = quarantine.map(|Count { what, count }| format!("{count} in quarantine ({what})"));
        let miscounted = self.tables.miscounted.iter();
        let miscounted = miscounted.map(Miscounted::in_words);
        overdue.chain(quarantine).chain(miscounted).collect()
    }
}

async fn streams(jetstream: &jetstream::Context) -> anyhow::Result<Vec<Stream>> {
    let mut infos = event_streams(jetstream).await?;
    infos.sort_unstable_by(|one, other| one.config.name.cmp(&other.config.name));
    let mut streams = Vec::new();
    for Info { config, state, .. } in infos {
        let stream = jetstream.get_stream_no_info(&config.name).await?;
        let consumer = workers_consumer(&stream).await?;
        streams.push(Stream {
            frames: state.messages,
            bytes: state.bytes,
            pending: consumer.as_ref().map(|info| info.num_pending),
            ack_pending: consumer.as_ref().map(|info| info.num_ack_pending),
            name: config.name,
        });
    }
    Ok(streams)
}

/// Reads the tables as of one moment.
async fn tables(
    pool: &PgPool,
    since: OffsetDateTime,
    retention: RetentionConfig,
) -> Result<Tables, sqlx::Error> {
    let cutoff = partitions::now(pool).await? - retention.retention;
    let mut snapshot = pool
        .begin_with("begin isolation level repeatable read read only")
        .await?;
    let events = sqlx::query!(
        r#"select count(*) as "stored!", count(*) filter (where not exists (
               select from deliveries d where d.event_id = e.id and d.accepted_at = e.accepted_at
           )) as "unwanted!"
           from events e where accepted_at >= $1"#,
        since
    )
    .fetch_one(&mut *snapshot)
    .await?;
    let deliveries = sqlx::query_as!(
        Count,
        r#"select status as what, count(*) as "count!" from deliveries where accepted_at >= $1
           group by status order by status"#,
        since
    );
    let deliveries = deliveries.fetch_all(&mut *snapshot).await?;
    let dead = sqlx::query_as!(
        Count,
        r#"select coalesce(last_outcome, 'unknown') as "what!", count(*) as "count!" from deliveries
           where accepted_at >= $1 and status = 'dead' group by 1 order by 2 desc, 1"#,
        since
    );
    let dead = dead.fetch_all(&mut *snapshot).await?;
    let quarantine = sqlx::query_as!(
        Count,
        r#"select reason as what, count(*) as "count!" from quarantine group by reason order by 2 desc, 1"#,
    );
    let quarantine = quarantine.fetch_all(&mut *snapshot).await?;
    Ok(Tables {
        events: events.stored,
        events_without_deliveries: events.unwanted,
        deliveries,
        overdue: overdue(&mut snapshot).await?,
        keeping_days: keeping_days(&mut snapshot, cutoff).await?,
        dead,
        quarantine,
        secrets: secrets(&mut snapshot).await?,
        miscounted: usage::miscounted(&mut snapshot, since.max(cutoff)).await?,
    })
}

/// Ciphertexts of earlier releases, and those that were written under `SECRETS_KEY`, do not name their key.
async fn secrets(snapshot: &mut PgConnection) -> Result<Vec<Count>, sqlx::Error> {
    let query = sqlx::query_as!(
        Count,
        r#"select case when starts_with(encode(sealed, 'hex'), '02') then encode(substr(sealed, 2, 8), 'hex')
                       else 'unnamed' end as "what!", count(*) as "count!"
           from endpoints cross join lateral (
               values (secret), (previous_secret), (headers), (signatures), (auth)
           ) as each (sealed)
           where octet_length(sealed) > 0 group by 1 order by 1"#,
    );
    query.fetch_all(snapshot).await
}

/// A lease ends when its delivery comes due, so an overdue delivery has no lease. A token in its row shows that a
/// worker died or was late.
async fn overdue(snapshot: &mut PgConnection) -> Result<Vec<Overdue>, sqlx::Error> {
    let query = sqlx::query_as!(
        Overdue,
        r#"with late as (
               select d.endpoint_id, d.org_id, d.next_attempt_at, case
                   when e.deleted_at is not null then 'endpoint deleted'
                   when e.status = 'disabled' then 'endpoint disabled'
                   when not e.tenant_enabled then 'tenant disabled'
                   when d.pull then 'not pulled yet'
                   when h.open_until is not null then 'circuit open'
                   when h.waits_until is not null then 'receiver asked to wait'
                   when d.ordering_key is not null and exists (
                       select from deliveries earlier
                       where earlier.endpoint_id = d.endpoint_id and earlier.ordering_key = d.ordering_key
                         and earlier.status = 'pending' and earlier.ordinal < d.ordinal
                   ) then 'behind another of its key'
                   when p.next_at > now() - interval '1 minute' then 'rate limit'
                   when d.lease_token is not null then 'lease ran out'
                   else 'backlog'
               end as reason
               from deliveries d
               join endpoints e on e.id = d.endpoint_id
               left join endpoint_health h on h.endpoint_id = d.endpoint_id
               left join endpoint_pace p on p.endpoint_id = d.endpoint_id
               where d.status = 'pending' and d.next_attempt_at < now() - interval '1 minute'
           )
           select endpoint_id as "endpoint_id: EndpointId", org_id as "org_id: OrgId", reason as "reason!",
                  reason in ('lease ran out', 'backlog') as "stuck!", count(*) as "deliveries!",
                  min(next_attempt_at) as "due_since!"
           from late group by endpoint_id, org_id, reason order by 5 desc, 1"#,
    );
    query.fetch_all(snapshot).await
}

/// A day ends at midnight, so the one of the cutoff is not over.
async fn keeping_days(
    snapshot: &mut PgConnection,
    cutoff: OffsetDateTime,
) -> Result<Vec<Keeping>, sqlx::Error> {
    let query = sqlx::query_as!(
        Keeping,
        r#"select endpoint_id as "endpoint_id: EndpointId", org_id as "org_id: OrgId", count(*) as "deliveries!",
                  min(accepted_at) as "accepted_since!"
           from deliveries where status = 'pending' and accepted_at < $1
           group by endpoint_id, org_id order by 4, 1"#,
        cutoff.replace_time(Time::MIDNIGHT),
    );
    query.fetch_all(snapshot).await
}
