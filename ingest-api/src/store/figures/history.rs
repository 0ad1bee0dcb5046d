//! What went on in a realm lately, in stretches of time. Of each stretch a bounded number of rows is looked at, however many
//! events it has.

use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::access::realm::Realm;
use crate::store::{Result, Store};

/// Most events that are counted in each stretch.
pub(crate) const COUNTED_OF_EACH: i64 = 500;

/// How many of the first events of each stretch are looked at for what became of them, and how many deliveries of each.
const EVENTS_OF_EACH: i64 = 20;
const DELIVERIES_OF_EACH: i64 = 10;

/// Stretches of time, one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretches {
    /// When the first one begins.
    pub from: OffsetDateTime,
    /// When the last one begins.
    pub last: OffsetDateTime,
    /// How long each is.
    pub length: Duration,
}

/// The events of a stretch.
#[derive(Debug)]
pub(crate) struct CountedRow {
    pub begins: OffsetDateTime,
    /// Up to as many as are counted.
    pub events: i64,
    /// When the last one that was counted was accepted.
    pub last: Option<OffsetDateTime>,
}

/// What became of the first events of a stretch.
#[derive(Debug)]
pub(crate) struct OutcomeRow {
    pub begins: OffsetDateTime,
    pub deliveries: i64,
    pub delivered: i64,
    pub dead: i64,
    /// In milliseconds.
    pub p95: Option<f64>,
}

impl Store {
    /// The events of each stretch.
    pub(crate) async fn count_in_stretches(
        &self,
        realm: &Realm,
        stretches: Stretches,
    ) -> Result<Vec<CountedRow>> {
        // Two branches, each with an index of its own.
        let rows = sqlx::query_as!(
            CountedRow,
            r#"select s.begins as "begins!", c.events as "events!", c.last
               from generate_series($3::timestamptz, $4::timestamptz, $5::float8 * interval '1 second') as s (begins)
               cross join lateral (
                   select count(*) as events, max(e.accepted_at) as last from (
                       (select accepted_at from events
                        where $2::text is null and org_id = $1 and accepted_at >= s.begins
                          and accepted_at < s.begins + $5::float8 * interval '1 second'
                        order by accepted_at limit $6)
                       union all
                       (select accepted_at from events
                        where org_id = $1 and tenant = $2 and accepted_at >= s.begins
                          and accepted_at < s.begins + $5::float8 * interval '1 second'
                        order by accepted_at limit $6)
                   ) e
               ) c
               order by s.begins"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            stretches.from,
            stretches.last,
            stretches.length.as_secs_f64(),
            COUNTED_OF_EACH,
        );
        let mut snapshot = self.snapshot().await?;
        rows.fetch_all(&mut *snapshot).await
    }

    /// What became of the first events of each stretch that has any.
    pub(crate) async fn outcomes_in_stretches(
        &self,
        realm: &Realm,
        stretches: Stretches,
    ) -> Result<Vec<OutcomeRow>> {
        let rows = sqlx::query_as!(
            OutcomeRow,
            r#"select s.begins as "begins!", count(*) as "deliveries!",
                      count(*) filter (where d.status = 'delivered') as "delivered!",
                      count(*) filter (where d.status = 'dead') as "dead!",
                      percentile_cont(0.95) within group (
                          order by extract(epoch from d.finished_at - d.accepted_at)::float8 * 1000
                      ) filter (where d.status = 'delivered') as p95
               from generate_series($3::timestamptz, $4::timestamptz, $5::float8 * interval '1 second') as s (begins)
               cross join lateral (
                   (select id, accepted_at from events
                    where $2::text is null and org_id = $1 and accepted_at >= s.begins
                      and accepted_at < s.begins + $5::float8 * interval '1 second'
                    order by accepted_at, id limit $6)
                   union all
                   (select id, accepted_at from events
                    where org_id = $1 and tenant = $2 and accepted_at >= s.begins
                      and accepted_at < s.begins + $5::float8 * interval '1 second'
                    order by accepted_at, id limit $6)
               ) e
               cross join lateral (
                   select status, finished_at, accepted_at from deliveries
                   where event_id = e.id and accepted_at = e.accepted_at and org_id = $1
                     and ($2::text is null or endpoint_id in (
                         select id from endpoints where org_id = $1 and coalesce(tenant, '') = $2
                     ))
                   limit $7
               ) d
               group by s.begins"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            stretches.from,
            stretches.last,
            stretches.length.as_secs_f64(),
            EVENTS_OF_EACH,
            DELIVERIES_OF_EACH,
        );
        let mut snapshot = self.snapshot().await?;
        rows.fetch_all(&mut *snapshot).await
    }
}
