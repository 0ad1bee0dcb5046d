//! Figures of what goes on in a realm now. Each statement looks at a bounded number of rows, however many there are.

use shared::domain::endpoint::EndpointStatus;
use shared::domain::id::EndpointId;
use time::OffsetDateTime;

use crate::domain::access::realm::Realm;
use crate::store::{MAX_COUNTED, Result, Store};

/// How many of the newest events are looked at.
const RECENT_EVENTS: i64 = 500;

/// How many deliveries of each of them.
const DELIVERIES_OF_EACH: i64 = 10;

/// How many of the newest endpoints are looked at for what waits.
const WAITED_FOR: i64 = 1_000;

/// How many endpoints that need attention are named.
const TROUBLED: i64 = 20;

/// How old the counts of all pending deliveries may be, in seconds. All replicas and workers share them.
const BACKLOG_AGE_SECONDS: f64 = 4.0;

/// What became of the newest events of the last hour.
#[derive(Debug)]
pub(crate) struct RecentRow {
    pub events: i64,
    pub deliveries: i64,
    pub delivered: i64,
    pub dead: i64,
    /// Three percentiles, in milliseconds.
    pub latency: Option<Vec<f64>>,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct WaitingRow {
    pub pending: i64,
    pub oldest_due_seconds: Option<f64>,
}

/// How many endpoints there are.
#[derive(Debug)]
pub(crate) struct EndpointCounts {
    pub total: i64,
    pub failing: i64,
    pub disabled: i64,
}

/// An endpoint that fails or is disabled.
#[derive(Debug)]
pub(crate) struct TroubledRow {
    pub id: EndpointId,
    pub url: Option<String>,
    pub status: EndpointStatus,
    pub disabled_reason: Option<String>,
    pub failing_since: Option<OffsetDateTime>,
}

/// Pending deliveries of all organisations that the same thing keeps.
#[derive(Debug)]
pub(crate) struct BacklogRow {
    pub state: String,
    /// How many there are, up to one more than are counted.
    pub deliveries: i64,
    pub due_seconds: Option<f64>,
}

impl Store {
    /// All pending deliveries, as they were counted lately. Empty when another one counts for long.
    pub(crate) async fn read_backlog(&self) -> Result<Vec<BacklogRow>> {
        let rows = sqlx::query_as!(
            BacklogRow,
            r#"select state as "state!", deliveries as "deliveries!", due_seconds
               from read_backlog($1::float8 * interval '1 second')"#,
            BACKLOG_AGE_SECONDS,
        );
        rows.fetch_all(&self.pool).await
    }

    /// How many endpoints fail, of all organisations, up to one more than are counted.
    pub(crate) async fn count_failing_endpoints(&self) -> Result<i64> {
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from (
                   select 1 from endpoint_health where consecutive_failures > 0 limit $1
               ) counted"#,
            MAX_COUNTED + 1,
        );
        count.fetch_one(&self.pool).await
    }

    /// Events that were accepted in the last minute, up to one more than are counted.
    pub(crate) async fn count_accepted(&self, realm: &Realm) -> Result<i64> {
        // Two branches, each with an index of its own.
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from (
                   (select 1 from events
                    where $2::text is null and org_id = $1 and accepted_at > now() - interval '1 minute' limit $3)
                   union all
                   (select 1 from events
                    where org_id = $1 and tenant = $2 and accepted_at > now() - interval '1 minute' limit $3)
               ) counted"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            MAX_COUNTED + 1,
        );
        let mut snapshot = self.snapshot().await?;
        count.fetch_one(&mut *snapshot).await
    }

    /// What became of the newest events of the last hour.
    pub(crate) async fn recent_deliveries(&self, realm: &Realm) -> Result<RecentRow> {
        let row = sqlx::query_as!(
            RecentRow,
            r#"with recent as materialized (
                   (select id, accepted_at from events
                    where $2::text is null and org_id = $1 and accepted_at > now() - interval '1 hour'
                    order by accepted_at desc, id desc limit $3)
                   union all
                   (select id, accepted_at from events
                    where org_id = $1 and tenant = $2 and accepted_at > now() - interval '1 hour'
                    order by accepted_at desc, id desc limit $3)
               ),
               theirs as materialized (
                   select d.status, extract(epoch from d.finished_at - d.accepted_at)::float8 * 1000 as took
                   from recent r cross join lateral (
                       select status, finished_at, accepted_at from deliveries
                       where event_id = r.id and accepted_at = r.accepted_at and org_id = $1
                         and ($2::text is null or endpoint_id in (
                             select id from endpoints where org_id = $1 and coalesce(tenant, '') = $2
                         ))
                       limit $4
                   ) d
               )
               select (select count(*) from recent) as "events!", count(*) as "deliveries!",
                      count(*) filter (where status = 'delivered') as "delivered!",
                      count(*) filter (where status = 'dead') as "dead!",
                      percentile_cont(array[0.5, 0.95, 0.99]::float8[]) within group (order by took)
                          filter (where status = 'delivered') as latency
               from theirs"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            RECENT_EVENTS,
            DELIVERIES_OF_EACH,
        );
        let mut snapshot = self.snapshot().await?;
        row.fetch_one(&mut *snapshot).await
    }

    /// What waits for the newest endpoints: how many deliveries, up to one more than are counted, and for how long the oldest
    /// that could be sent has been due.
    pub(crate) async fn waiting_deliveries(&self, realm: &Realm) -> Result<WaitingRow> {
        let row = sqlx::query_as!(
            WaitingRow,
            r#"with mine as materialized (
                   select id, status from newest_endpoints($1, $2, $3)
               )
               select (select count(*) from (
                           select 1 from mine m cross join lateral (
                               (select 1 from deliveries
                                where endpoint_id = m.id and status = 'pending' and not pull and ordering_key is null
                                limit $4)
                               union all
                               (select 1 from deliveries
                                where endpoint_id = m.id and status = 'pending' and pull limit $4)
                               union all
                               (select 1 from deliveries
                                where endpoint_id = m.id and status = 'pending' and ordering_key is not null limit $4)
                           ) d limit $4
                       ) counted) as "pending!",
                      (select extract(epoch from now() - min(d.next_attempt_at))::float8 from mine m cross join lateral (
                           select next_attempt_at from deliveries
                           where endpoint_id = m.id and status = 'pending' and not pull and ordering_key is null
                             and next_attempt_at <= now()
                           order by next_attempt_at limit 1
                       ) d where m.status = 'enabled') as oldest_due_seconds"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            WAITED_FOR,
            MAX_COUNTED + 1,
        );
        let mut snapshot = self.snapshot().await?;
        row.fetch_one(&mut *snapshot).await
    }

    /// How many endpoints there are, up to one more than are counted, and how many of these fail or are disabled.
    pub(crate) async fn count_endpoints(&self, realm: &Realm) -> Result<EndpointCounts> {
        let row = sqlx::query_as!(
            EndpointCounts,
            r#"with mine as materialized (
                   select id, status from newest_endpoints($1, $2, $3)
               )
               select count(*) as "total!",
                      count(*) filter (where m.status = 'enabled' and h.consecutive_failures > 0) as "failing!",
                      count(*) filter (where m.status = 'disabled') as "disabled!"
               from mine m left join endpoint_health h on h.endpoint_id = m.id"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            MAX_COUNTED + 1,
        );
        row.fetch_one(&self.pool).await
    }

    /// The newest endpoints that fail or are disabled.
    pub(crate) async fn troubled_endpoints(&self, realm: &Realm) -> Result<Vec<TroubledRow>> {
        let rows = sqlx::query_as!(
            TroubledRow,
            r#"with mine as materialized (
                   select id, url, status, disabled_reason, created_at from newest_endpoints($1, $2, $3)
               )
               select m.id as "id!: EndpointId", m.url, m.status as "status!: EndpointStatus", m.disabled_reason,
                      case when h.consecutive_failures > 0 then h.failing_since end as failing_since
               from mine m left join endpoint_health h on h.endpoint_id = m.id
               where m.status = 'disabled' or h.consecutive_failures > 0
               order by m.created_at desc limit $4"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            MAX_COUNTED,
            TROUBLED,
        );
        rows.fetch_all(&self.pool).await
    }
}
