//! Replays of deliveries, and the removal of payloads.

use shared::db::limited::Transaction;
use shared::domain::endpoint::EndpointKind;
use shared::domain::id::EndpointId;

use crate::domain::access::realm::Realm;
use crate::store::{EventPlace, Result, Store};

/// The result of a replay.
#[derive(Debug)]
pub(crate) enum Replayed {
    /// The event's payload was removed, so nothing was replayed.
    Expunged,
    /// These deliveries are pending again. Those with an attempt in progress are not among them.
    Revived(Vec<EndpointId>),
}

impl Store {
    /// Whether an event has a delivery to an endpoint.
    pub(crate) async fn has_delivery(&self, event: EventPlace, endpoint_id: EndpointId) -> Result<bool> {
        sqlx::query_scalar!(
            r#"select exists (
                   select from deliveries
                   where event_id = $2 and accepted_at = $3 and endpoint_id = $4 and org_id = $1
               ) as "there!""#,
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
            endpoint_id.as_uuid(),
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Whether an endpoint gets the events of an event's tenant.
    pub(crate) async fn may_get(&self, event: EventPlace, endpoint_id: EndpointId) -> Result<bool> {
        sqlx::query_scalar!(
            r#"select exists (
                   select from endpoints n
                   join events e on e.org_id = $1 and e.accepted_at = $3 and e.id = $2
                   where n.id = $4 and n.org_id = $1 and (n.all_tenants or n.tenant is not distinct from e.tenant)
               ) as "may!""#,
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
            endpoint_id.as_uuid(),
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Makes an event's deliveries to the endpoints of a realm pending and due, all of them or that to one endpoint. Those that a worker or a
    /// consumer holds stay as they are, those to deleted endpoints too.
    pub(crate) async fn replay_event(
        &self,
        event: EventPlace,
        realm: &Realm,
        endpoint: Option<EndpointId>,
    ) -> Result<Replayed> {
        let mut transaction = self.pool.begin().await?;
        if !lock_payload(&mut transaction, event).await? {
            return Ok(Replayed::Expunged);
        }
        let revived = sqlx::query_scalar!(
            r#"update deliveries d
               set status = 'pending', next_attempt_at = now(), finished_at = null, revived_at = clock_timestamp(),
                   attempts_before = d.attempts
               from endpoints e
               where d.event_id = $2 and d.accepted_at = $3 and d.org_id = $1 and d.lease_token is null
                 and ($4::uuid is null or d.endpoint_id = $4)
                 and e.id = d.endpoint_id and e.org_id = $1 and e.deleted_at is null
                 and ($5::text is null or e.tenant = $5)
               returning d.endpoint_id as "endpoint_id: EndpointId""#,
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
            endpoint.map(EndpointId::as_uuid),
            realm.tenant(),
        );
        let revived = revived.fetch_all(&mut *transaction).await?;
        count_again(&mut transaction, event).await?;
        transaction.commit().await?;
        Ok(Replayed::Revived(revived))
    }

    /// Makes a delivery of an event to an endpoint that has none, unless the endpoint or its tenant is disabled. An ordered endpoint
    /// gets it out of order, because its place in the order is past. Its age counts from the replay, not from the event.
    pub(crate) async fn add_delivery(&self, event: EventPlace, endpoint_id: EndpointId) -> Result<Replayed> {
        let mut transaction = self.pool.begin().await?;
        if !lock_payload(&mut transaction, event).await? {
            return Ok(Replayed::Expunged);
        }
        let fetched = EndpointKind::fetched();
        let added = sqlx::query_scalar!(
            r#"insert into deliveries (org_id, event_id, endpoint_id, accepted_at, pull, next_attempt_at, revived_at)
               select e.org_id, $2, e.id, $3, e.kind = any($5), now(), now()
               from endpoints e
               where e.id = $4 and e.org_id = $1 and e.status = 'enabled' and e.tenant_enabled and e.deleted_at is null
               on conflict do nothing
               returning endpoint_id as "endpoint_id: EndpointId""#,
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
            endpoint_id.as_uuid(),
            &fetched as _,
        );
        let added = added.fetch_all(&mut *transaction).await?;
        count_again(&mut transaction, event).await?;
        transaction.commit().await?;
        Ok(Replayed::Revived(added))
    }

    /// Removes an event's payload, and the receivers' answers, which may repeat it. Its pending deliveries become dead;
    /// the result of an attempt in progress is not recorded.
    pub(crate) async fn expunge_event(&self, event: EventPlace) -> Result<()> {
        // Several statements: the second one sees what a replay wrote that held the event's row, and those after it what came with a
        // result that held a delivery's.
        let mut transaction = self.pool.begin().await?;
        let has_key = sqlx::query_scalar!(
            r#"update events set data = '', baggage = null, expunged_at = coalesce(expunged_at, now())
               where org_id = $1 and accepted_at = $3 and id = $2
               returning ordering_key is not null as "has_key!""#,
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
        );
        let has_key = has_key.fetch_optional(&mut *transaction).await?;
        sqlx::query!(
            "select from deliveries where org_id = $1 and event_id = $2 and accepted_at = $3
             order by endpoint_id for no key update",
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
        )
        .execute(&mut *transaction)
        .await?;
        // The next ones may be of any day, so all partitions are looked into.
        if has_key == Some(true) {
            hold_next_of_keys(&mut transaction, event).await?;
        }
        sqlx::query!(
            "with answers as (
                 update attempts set response_body = null
                 where org_id = $1 and event_id = $2 and accepted_at = $3 and response_body is not null
             ),
             last_answers as (
                 update deliveries set last_response_body = null
                 where org_id = $1 and event_id = $2 and accepted_at = $3 and status <> 'pending'
                   and last_response_body is not null
             )
             update deliveries
             set status = 'dead', last_outcome = 'expunged', next_attempt_at = null, lease_token = null,
                 finished_at = now(), last_response_body = null
             where org_id = $1 and event_id = $2 and accepted_at = $3 and status = 'pending'",
            event.org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }
}

/// Has the usage of the event's hour counted again: its deliveries change.
async fn count_again(transaction: &mut Transaction, event: EventPlace) -> Result<()> {
    sqlx::query!(
        "insert into usage_recounts (hour) values (date_trunc('hour', $1::timestamptz, 'UTC'))",
        event.accepted_at,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Lets the next deliveries of ordering keys wait for those of an event that are in flight, as long as these may be. They end now, so
/// nothing else keeps the next ones back.
async fn hold_next_of_keys(transaction: &mut Transaction, event: EventPlace) -> Result<()> {
    sqlx::query!(
        "with in_flight as materialized (
             select endpoint_id, ordering_key, ordinal, next_attempt_at as lease_ends from deliveries
             where org_id = $1 and event_id = $2 and accepted_at = $3 and status = 'pending' and ordering_key is not null
               and lease_token is not null and next_attempt_at > now()
         )
         update deliveries d set next_attempt_at = f.lease_ends
         from in_flight f
         cross join lateral (
             select event_id, accepted_at from deliveries
             where endpoint_id = f.endpoint_id and ordering_key = f.ordering_key and status = 'pending'
               and ordinal >= f.ordinal and event_id <> $2
             order by ordinal limit 1
         ) next
         where d.event_id = next.event_id and d.endpoint_id = f.endpoint_id and d.accepted_at = next.accepted_at
           and d.org_id = $1 and d.status = 'pending' and d.lease_token is null and d.next_attempt_at < f.lease_ends",
        event.org_id.as_uuid(),
        event.id.as_uuid(),
        event.accepted_at,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Keeps an event's payload from being removed until the transaction ends. False when it was removed.
async fn lock_payload(transaction: &mut Transaction, event: EventPlace) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select expunged_at is null as "there!" from events
           where org_id = $1 and accepted_at = $3 and id = $2 for share"#,
        event.org_id.as_uuid(),
        event.id.as_uuid(),
        event.accepted_at,
    );
    Ok(found.fetch_optional(&mut **transaction).await?.unwrap_or(false))
}
