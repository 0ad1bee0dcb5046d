//! What is new of a realm. Each statement looks at a bounded number of rows.

use std::ops::Range;

use shared::db::limited::Transaction;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId};
use time::{Duration, OffsetDateTime};

use crate::domain::access::realm::Realm;
use crate::store::{EventPlace, MAX_COUNTED, Result, Store};

/// An event that is stored longer than this after its acceptance is late. The statements below and the condition of the index
/// `events_stored_late` say the same.
pub(crate) const LATE: Duration = Duration::seconds(5);

/// How an event was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Soon after its acceptance.
    InTime,
    /// Later than [`LATE`] after it.
    Late,
}

/// An event, without its payload.
#[derive(Clone, Debug)]
pub(crate) struct TailedEvent {
    pub id: EventId,
    pub accepted_at: OffsetDateTime,
    /// When the statement that stored it began, by the clock of Postgres.
    pub stored_at: OffsetDateTime,
    pub event_type: String,
    pub tenant: Option<String>,
}

impl TailedEvent {
    /// How it was stored.
    pub(crate) fn arrival(&self) -> Arrival {
        if self.stored_at - self.accepted_at > LATE {
            Arrival::Late
        } else {
            Arrival::InTime
        }
    }
}

/// The events of one second.
#[derive(Debug)]
struct SecondRow {
    /// Since the Unix epoch.
    second: i64,
    /// How many rows were looked at.
    looked_at: i64,
    /// How many of them are counted.
    found: i64,
}

/// How many events there are, by second since the Unix epoch. None when there are more than are counted.
pub(crate) type Seconds = Option<Vec<(i64, i64)>>;

/// A delivery with its last attempt.
#[derive(Debug)]
pub(crate) struct TailedDelivery {
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub status: DeliveryStatus,
    /// How many have ended.
    pub attempts: i32,
    pub last_outcome: Option<Outcome>,
    pub response_status: Option<i16>,
    pub started_at: Option<OffsetDateTime>,
    pub duration_ms: Option<i32>,
}

/// A look at the events of a realm: all its statements see the same rows.
#[derive(Debug)]
pub(crate) struct TailLook<'a> {
    snapshot: Transaction,
    realm: &'a Realm,
    now: OffsetDateTime,
}

impl TailLook<'_> {
    /// When it began, by the clock of Postgres. What it does not see is committed later.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// The newest events from a time on, oldest first. For those in time it is the time of their acceptance, and late ones are
    /// among them. For late ones it is the time of their storing, and those of all tenants are among them.
    pub(crate) async fn events(
        &mut self,
        arrival: Arrival,
        from: OffsetDateTime,
        most: usize,
    ) -> Result<Vec<TailedEvent>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        match arrival {
            Arrival::InTime => self.accepted_events(from, most).await,
            Arrival::Late => self.late_events(from, most).await,
        }
    }

    async fn accepted_events(&mut self, from: OffsetDateTime, most: i64) -> Result<Vec<TailedEvent>> {
        // Two branches, each with an index of its own.
        let rows = sqlx::query_as!(
            TailedEvent,
            r#"select id as "id!: EventId", accepted_at as "accepted_at!", stored_at as "stored_at!",
                      type as "event_type!", tenant
               from (
                   (select id, accepted_at, stored_at, type, tenant from events
                    where $2::text is null and org_id = $1 and accepted_at >= $3
                    order by accepted_at desc, id desc limit $4)
                   union all
                   (select id, accepted_at, stored_at, type, tenant from events
                    where org_id = $1 and tenant = $2 and accepted_at >= $3
                    order by accepted_at desc, id desc limit $4)
               ) found
               order by accepted_at, id"#,
            self.realm.org_id.as_uuid(),
            self.realm.tenant(),
            from,
            most,
        );
        rows.fetch_all(&mut *self.snapshot).await
    }

    async fn late_events(&mut self, from: OffsetDateTime, most: i64) -> Result<Vec<TailedEvent>> {
        let rows = sqlx::query_as!(
            TailedEvent,
            r#"select id as "id!: EventId", accepted_at as "accepted_at!", stored_at as "stored_at!",
                      type as "event_type!", tenant
               from (
                   select id, accepted_at, stored_at, type, tenant from events
                   where org_id = $1 and stored_at >= $2 and stored_at - accepted_at > interval '5 seconds'
                   order by stored_at desc, id desc limit $3
               ) found
               order by stored_at, id"#,
            self.realm.org_id.as_uuid(),
            from,
            most,
        );
        rows.fetch_all(&mut *self.snapshot).await
    }

    /// How many events there are in a stretch of such times, by second, of those that were stored from `begun` on.
    pub(crate) async fn count(
        &mut self,
        arrival: Arrival,
        begun: OffsetDateTime,
        times: Range<OffsetDateTime>,
    ) -> Result<Seconds> {
        let rows = match arrival {
            Arrival::InTime => self.count_accepted(begun, times).await?,
            Arrival::Late => self.count_late(begun, times).await?,
        };
        let looked_at: i64 = rows.iter().map(|row| row.looked_at).sum();
        let seconds = rows.into_iter().map(|row| (row.second, row.found));
        Ok((looked_at <= MAX_COUNTED).then(|| seconds.collect()))
    }

    async fn count_accepted(
        &mut self,
        begun: OffsetDateTime,
        times: Range<OffsetDateTime>,
    ) -> Result<Vec<SecondRow>> {
        let rows = sqlx::query_as!(
            SecondRow,
            r#"select extract(epoch from date_trunc('second', accepted_at))::bigint as "second!",
                      count(*) as "looked_at!",
                      count(*) filter (
                          where stored_at >= $5 and stored_at - accepted_at <= interval '5 seconds'
                      ) as "found!"
               from (
                   (select accepted_at, stored_at from events
                    where $2::text is null and org_id = $1 and accepted_at >= $3 and accepted_at < $4
                    order by accepted_at limit $6)
                   union all
                   (select accepted_at, stored_at from events
                    where org_id = $1 and tenant = $2 and accepted_at >= $3 and accepted_at < $4
                    order by accepted_at limit $6)
               ) counted
               group by 1"#,
            self.realm.org_id.as_uuid(),
            self.realm.tenant(),
            times.start,
            times.end,
            begun,
            MAX_COUNTED + 1,
        );
        rows.fetch_all(&mut *self.snapshot).await
    }

    async fn count_late(
        &mut self,
        begun: OffsetDateTime,
        times: Range<OffsetDateTime>,
    ) -> Result<Vec<SecondRow>> {
        let rows = sqlx::query_as!(
            SecondRow,
            r#"select extract(epoch from date_trunc('second', stored_at))::bigint as "second!",
                      count(*) as "looked_at!",
                      count(*) filter (where stored_at >= $5 and ($2::text is null or tenant = $2)) as "found!"
               from (
                   select stored_at, tenant from events
                   where org_id = $1 and stored_at >= $3 and stored_at < $4
                     and stored_at - accepted_at > interval '5 seconds'
                   order by stored_at limit $6
               ) counted
               group by 1"#,
            self.realm.org_id.as_uuid(),
            self.realm.tenant(),
            times.start,
            times.end,
            begun,
            MAX_COUNTED + 1,
        );
        rows.fetch_all(&mut *self.snapshot).await
    }
}

impl Store {
    /// Begins a look at the events of a realm.
    pub(crate) async fn look_at_tail<'a>(&self, realm: &'a Realm) -> Result<TailLook<'a>> {
        let mut snapshot = self.snapshot().await?;
        let now = sqlx::query_scalar!(r#"select now() as "now!""#);
        let now = now.fetch_one(&mut *snapshot).await?;
        Ok(TailLook { snapshot, realm, now })
    }

    /// The deliveries of some events to the endpoints of a realm, at most `limit` of each event.
    pub(crate) async fn tail_deliveries(
        &self,
        realm: &Realm,
        events: &[EventPlace],
        limit: i64,
    ) -> Result<Vec<TailedDelivery>> {
        let rows = sqlx::query_as!(
            TailedDelivery,
            r#"select d.event_id as "event_id: EventId", d.endpoint_id as "endpoint_id: EndpointId",
                      d.status as "status: DeliveryStatus", d.attempts, d.last_outcome as "last_outcome: Outcome",
                      case when d.last_attempt = d.attempts then d.last_response_status end as response_status,
                      case when d.last_attempt = d.attempts then d.last_started_at end as started_at,
                      case when d.last_attempt = d.attempts then d.last_duration_ms end as duration_ms
               from unnest($2::uuid[], $3::timestamptz[]) as e (id, accepted_at)
               cross join lateral (
                   select * from deliveries
                   where event_id = e.id and accepted_at = e.accepted_at and org_id = $1
                     and ($5::text is null or endpoint_id in (
                         select id from endpoints where org_id = $1 and coalesce(tenant, '') = $5
                     ))
                   order by endpoint_id limit $4
               ) d"#,
            realm.org_id.as_uuid(),
            &events.iter().map(|event| event.id.as_uuid()).collect::<Vec<_>>(),
            &events.iter().map(|event| event.accepted_at).collect::<Vec<_>>(),
            limit,
            realm.tenant(),
        );
        rows.fetch_all(&self.pool).await
    }
}
