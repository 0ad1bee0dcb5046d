//! Recoveries, which workers carry out.

use shared::domain::delivery::{DeliveryStatus, RecoveryStatus};
use shared::domain::id::{EndpointId, OrgId, RecoveryId};
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::page::Page;
use crate::store::{MAX_COUNTED, Result, Store};

/// A stored recovery.
#[derive(Debug)]
pub(crate) struct RecoveryRow {
    pub id: RecoveryId,
    pub endpoint_id: EndpointId,
    pub since: OffsetDateTime,
    pub until: OffsetDateTime,
    pub statuses: Vec<DeliveryStatus>,
    pub per_second: i32,
    pub status: RecoveryStatus,
    pub matched: i64,
    pub recovered: i64,
    pub created_at: OffsetDateTime,
    pub finished_at: Option<OffsetDateTime>,
}

/// A recovery about to be stored.
#[derive(Debug)]
pub(crate) struct NewRecovery {
    /// Its id.
    pub id: RecoveryId,
    /// The organisation's.
    pub org_id: OrgId,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The tenant that the endpoint belongs to. It gets no other events.
    pub tenant: Option<Tenant>,
    /// Deliveries of events that were accepted at this time or later.
    pub since: OffsetDateTime,
    /// Deliveries of events that were accepted before this time.
    pub until: OffsetDateTime,
    /// Whether dead deliveries become pending.
    pub dead: bool,
    /// Whether delivered ones do.
    pub delivered: bool,
    /// How many deliveries become pending in a second.
    pub per_second: i32,
}

impl Store {
    /// How many deliveries a recovery would make pending now. It is [`MAX_COUNTED`] when more have to be looked at.
    pub(crate) async fn count_recoverable(&self, new: &NewRecovery) -> Result<i64> {
        let counted = sqlx::query!(
            r#"
            select count(*) filter (where matches) as "matching!", count(*) as "seen!" from (
                -- Each delivery looks for its event: without statistics a join would read all events of the organisation.
                (select (select e.expunged_at is null from events e
                         where e.org_id = $1 and e.accepted_at = d.accepted_at and e.id = d.event_id) as matches
                 from deliveries d
                 where $5 and d.org_id = $1 and d.endpoint_id = $2 and d.status = 'dead'
                   and d.accepted_at >= $3 and d.accepted_at < $4
                 limit $7)
                union all
                (select e.expunged_at is null and d.event_id is not null
                 from (
                     -- Two branches, each with an index of its own.
                     (select id, accepted_at, expunged_at from events
                      where $6 and $8::text is null and org_id = $1 and accepted_at >= $3 and accepted_at < $4
                      limit $7)
                     union all
                     (select id, accepted_at, expunged_at from events
                      where $6 and org_id = $1 and tenant = $8 and accepted_at >= $3 and accepted_at < $4
                      limit $7)
                 ) e
                 left join deliveries d on d.event_id = e.id and d.endpoint_id = $2 and d.accepted_at = e.accepted_at
                                       and d.org_id = $1 and d.status = 'delivered')
            ) seen
            "#,
            new.org_id.as_uuid(),
            new.endpoint_id.as_uuid(),
            new.since,
            new.until,
            new.dead,
            new.delivered,
            MAX_COUNTED + 1,
            new.tenant.as_ref().map(Tenant::as_str),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(if counted.seen > MAX_COUNTED {
            MAX_COUNTED
        } else {
            counted.matching
        })
    }

    /// Stores a recovery. False when the endpoint has one that runs, or is deleted.
    pub(crate) async fn create_recovery(&self, new: &NewRecovery, matched: i64) -> Result<bool> {
        // Two statements: the second one sees what another request stored before the first one had the lock.
        let mut transaction = self.pool.begin().await?;
        sqlx::query!(
            "select from endpoints where id = $1 and org_id = $2 for no key update",
            new.endpoint_id.as_uuid(),
            new.org_id.as_uuid(),
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let done = sqlx::query!(
            "insert into recoveries (id, org_id, endpoint_id, since, until, statuses, per_second, matched)
             select $1, $2, e.id, $4, $5,
                    array_remove(array[case when $6 then 'dead' end, case when $7 then 'delivered' end], null), $8, $9
             from endpoints e
             where e.id = $3 and e.org_id = $2 and e.deleted_at is null
               and not exists (select from recoveries r where r.endpoint_id = e.id and r.status = 'running')",
            new.id.as_uuid(),
            new.org_id.as_uuid(),
            new.endpoint_id.as_uuid(),
            new.since,
            new.until,
            new.dead,
            new.delivered,
            new.per_second,
            matched,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// One of an endpoint's recoveries.
    pub(crate) async fn find_recovery(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        id: RecoveryId,
    ) -> Result<Option<RecoveryRow>> {
        sqlx::query_as!(
            RecoveryRow,
            r#"select id as "id: RecoveryId", endpoint_id as "endpoint_id: EndpointId", since, until,
                      statuses as "statuses: Vec<DeliveryStatus>", per_second,
                      status as "status: RecoveryStatus", matched, recovered, created_at, finished_at
               from recoveries where id = $3 and endpoint_id = $2 and org_id = $1"#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            id.as_uuid(),
        )
        .fetch_optional(&self.pool)
        .await
    }

    /// A page of an endpoint's recoveries, newest first, with one more when there are more.
    pub(crate) async fn list_recoveries(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        page: &Page<Uuid>,
    ) -> Result<Vec<RecoveryRow>> {
        sqlx::query_as!(
            RecoveryRow,
            r#"select id as "id: RecoveryId", endpoint_id as "endpoint_id: EndpointId", since, until,
                      statuses as "statuses: Vec<DeliveryStatus>", per_second,
                      status as "status: RecoveryStatus", matched, recovered, created_at, finished_at
               from recoveries
               where org_id = $1 and endpoint_id = $2
                 and (created_at, id) < ($3::timestamptz, $4::uuid)
               order by created_at desc, id desc limit $5"#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            page.before().at,
            page.before().id,
            page.limit + 1,
        )
        .fetch_all(&self.pool)
        .await
    }

    /// Stops a recovery that runs; another one stays as it is. False when the endpoint has no such recovery.
    pub(crate) async fn cancel_recovery(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        id: RecoveryId,
    ) -> Result<bool> {
        sqlx::query!(
            "update recoveries set status = 'cancelled', finished_at = now()
             where id = $3 and endpoint_id = $2 and org_id = $1 and status = 'running'",
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            id.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        Ok(self.find_recovery(org_id, endpoint_id, id).await?.is_some())
    }
}
