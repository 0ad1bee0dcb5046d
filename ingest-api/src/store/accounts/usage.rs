//! What workers have counted of usage, and the quotas that are used up.

use shared::domain::id::OrgId;
use time::{Date, OffsetDateTime};

use crate::domain::access::realm::Realm;
use crate::domain::accounts::usage::{UsageEntry, UsagePlace};
use crate::domain::form::day::Day;
use crate::domain::page::Page;
use crate::store::{Result, Store};

/// Which days to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Days {
    /// From this one on; the first one of the month unless given.
    pub from: Option<Date>,
    /// Before this one; all that are counted unless given.
    pub to: Option<Date>,
}

/// The columns that a look-up selects.
struct Found {
    org_id: OrgId,
    day: Date,
    /// Empty: events of none.
    tenant: String,
    accepted: i64,
    bytes: i64,
    delivered: i64,
    attempts: i64,
    dead: i64,
}

impl From<Found> for UsageEntry {
    fn from(found: Found) -> Self {
        Self {
            organization_id: found.org_id,
            day: Day(found.day),
            // It was a name when its events were accepted.
            tenant: found.tenant.parse().ok(),
            accepted: found.accepted,
            bytes: found.bytes,
            delivered: found.delivered,
            attempts: found.attempts,
            dead: found.dead,
        }
    }
}

/// A quota that is used up.
#[derive(Debug)]
pub(crate) struct UsedUpQuota {
    pub org_id: OrgId,
    /// Empty: the organisation's.
    pub tenant: String,
    pub events_per_month: u64,
    /// The end of the month.
    pub until: OffsetDateTime,
}

impl Store {
    /// A page of what an organisation has used, or one of its tenants, by day and tenant, with one more entry when there are more.
    pub(crate) async fn list_usage(
        &self,
        realm: &Realm,
        days: Days,
        page: &Page<UsagePlace>,
    ) -> Result<Vec<UsageEntry>> {
        let after = page.after.as_ref();
        // Two branches, each with an index that has its order.
        let found = sqlx::query_as!(
            Found,
            r#"select $1::uuid as "org_id!: OrgId", u.day as "day!", u.tenant as "tenant!", u.accepted as "accepted!",
                      u.bytes as "bytes!", u.delivered as "delivered!", u.attempts as "attempts!", u.dead as "dead!"
               from (
                   (select day, tenant, sum(accepted)::bigint as accepted, sum(bytes)::bigint as bytes,
                           sum(delivered)::bigint as delivered, sum(attempts)::bigint as attempts, sum(dead)::bigint as dead
                    from usage
                    where $2::text is null and org_id = $1
                      and day >= greatest(coalesce($3::date, date_trunc('month', now() at time zone 'UTC')::date), $5::date)
                      and ($4::date is null or day < $4) and ($5 is null or (day, tenant) > ($5, $6::text))
                    group by day, tenant order by day, tenant limit $7)
                   union all
                   (select day, tenant, sum(accepted)::bigint, sum(bytes)::bigint, sum(delivered)::bigint,
                           sum(attempts)::bigint, sum(dead)::bigint
                    from usage
                    where tenant = $2 and tenant <> '' and org_id = $1
                      and day >= greatest(coalesce($3::date, date_trunc('month', now() at time zone 'UTC')::date), $5::date)
                      and ($4::date is null or day < $4) and ($5 is null or (day, tenant) > ($5, $6::text))
                    group by day, tenant order by day, tenant limit $7)
               ) u
               order by u.day, u.tenant"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            days.from,
            days.to,
            after.map(|cursor| cursor.at.date()),
            after.map(|cursor| cursor.id.tenant()),
            page.limit + 1,
        );
        let found = found.fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    /// The same of all organisations, by their ids first.
    pub(crate) async fn list_all_usage(
        &self,
        days: Days,
        page: &Page<UsagePlace>,
    ) -> Result<Vec<UsageEntry>> {
        let after = page.after.as_ref();
        let found = sqlx::query_as!(
            Found,
            r#"select o.id as "org_id!: OrgId", u.day as "day!", u.tenant as "tenant!", u.accepted as "accepted!",
                      u.bytes as "bytes!", u.delivered as "delivered!", u.attempts as "attempts!", u.dead as "dead!"
               from organizations o
               cross join lateral (
                   select day, tenant, sum(accepted)::bigint as accepted, sum(bytes)::bigint as bytes,
                          sum(delivered)::bigint as delivered, sum(attempts)::bigint as attempts, sum(dead)::bigint as dead
                   from usage
                   where org_id = o.id
                     and day >= coalesce($1::date, date_trunc('month', now() at time zone 'UTC')::date)
                     and ($2::date is null or day < $2)
                     and ($3::uuid is null or (o.id, day, tenant) > ($3, $4::date, $5::text))
                   group by day, tenant order by day, tenant limit $6
               ) u
               where $3::uuid is null or o.id >= $3
               order by o.id, u.day, u.tenant limit $6"#,
            days.from,
            days.to,
            after.map(|cursor| cursor.id.org_id()),
            after.map(|cursor| cursor.at.date()),
            after.map(|cursor| cursor.id.tenant()),
            page.limit + 1,
        );
        let found = found.fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    /// The end of the last hour that is counted.
    pub(crate) async fn usage_counted_through(&self) -> Result<Option<OffsetDateTime>> {
        sqlx::query_scalar!(r#"select max(hour) + interval '1 hour' as "through" from usage_hours"#)
            .fetch_one(&self.pool)
            .await
    }

    /// The quotas that are used up, and whose events are refused.
    pub(crate) async fn used_up_quotas(&self) -> Result<Vec<UsedUpQuota>> {
        let rows = sqlx::query!(
            r#"select org_id as "org_id: OrgId", tenant, events_per_month, refused_until as "until!"
               from quota_uses where refused_until > now()"#
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let used_up = rows.into_iter().map(|row| UsedUpQuota {
            org_id: row.org_id,
            tenant: row.tenant,
            events_per_month: u64::try_from(row.events_per_month).unwrap_or(0),
            until: row.until,
        });
        Ok(used_up.collect())
    }
}
