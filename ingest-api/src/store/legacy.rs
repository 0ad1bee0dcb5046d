//! The SQL of the Zapier Triggers API: the inbox, its acknowledgements, and the one webhook.

use shared::db::limited::Transaction;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, EventId, OrgId};
use shared::domain::inbox::InboxStatus;
use shared::domain::tier::Tier;
use time::OffsetDateTime;

use super::events::{ALWAYS, end_of_events};
use super::{MAX_PAGE_BYTES, Result, Store, Stored};
use crate::domain::access::key::NewKey;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scopes;
use crate::domain::accounts::organization::Organization;
use crate::domain::accounts::quota::QuotaAction;
use crate::domain::cursor::Cursor;
use crate::domain::endpoint::{DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT_MS, is_https};
use crate::store::accounts::owners::admit_endpoint;

/// Most events that a page of one status looks at. The next page looks at the rest.
const MAX_SCANNED: i64 = 10_000;

/// Which events a page of the inbox holds.
#[derive(Debug)]
pub(crate) struct InboxFilter {
    /// The organisation's.
    pub org_id: OrgId,
    /// In this status.
    pub status: Option<InboxStatus>,
    /// Older than this.
    pub before: Cursor,
    /// Leaves out this many events at the start.
    pub offset: i64,
    /// At most this many.
    pub limit: i64,
}

/// An event in the inbox.
#[derive(Debug)]
pub(crate) struct InboxRow {
    pub id: EventId,
    pub accepted_at: OffsetDateTime,
    pub event_type: String,
    pub content_type: String,
    pub idempotency_key: Option<String>,
    pub data: Vec<u8>,
    pub status: InboxStatus,
    /// This and the next field are None for an event that had no webhook to go to.
    pub delivery_status: Option<DeliveryStatus>,
    pub attempts: Option<i32>,
    /// Of the last attempt.
    pub response_status: Option<i16>,
    /// Of the last attempt, when it failed.
    pub last_error: Option<String>,
}

impl Store {
    /// Stores a new organisation with its first key, which has all scopes.
    pub(crate) async fn sign_up(&self, name: &str, tier: Tier, key: &NewKey) -> Result<Organization> {
        let org_id = OrgId::generate();
        let created_at = sqlx::query_scalar!(
            "with organization as (
                 insert into organizations (id, name, tier) values ($1, $2, $3) returning id, created_at
             ),
             key as (
                 insert into api_keys (id, org_id, name, hash, scopes)
                 select $4, id, 'first key', $5, $6 from organization
             )
             select created_at from organization",
            org_id.as_uuid(),
            name,
            tier as _,
            key.id.as_str(),
            key.hash,
            &Scopes::all().to_names(false),
        );
        let mut transaction = self.begin_change(&self.pool).await?;
        let created_at = created_at.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Organization {
            id: org_id,
            name: name.to_owned(),
            tier,
            rate_limit_per_minute: None,
            payload_retention_days: None,
            events_per_month: None,
            quota_action: QuotaAction::default(),
            created_at,
            deleting_since: None,
            events_left: None,
        })
    }

    /// A page of the inbox, newest first, and where the next page begins.
    pub(crate) async fn list_inbox(&self, filter: &InboxFilter) -> Result<(Vec<InboxRow>, Option<Cursor>)> {
        let scanned = match filter.status {
            Some(_) => MAX_SCANNED,
            None => filter.offset + filter.limit + 1,
        };
        let mut snapshot = self.snapshot().await?;
        let rows = sqlx::query!(
            r#"
            with webhook as materialized (
                select id from endpoints where org_id = $1 and zapier and deleted_at is null
            ),
            scanned as (
                select id, accepted_at, octet_length(data) as size from events
                where org_id = $1 and accepted_at <= $2 and (accepted_at, id) < ($2, $3::uuid)
                order by accepted_at desc, id desc limit $4
            ),
            judged as (
                select s.id, s.accepted_at, s.size, d.endpoint_id, d.status as delivery_status, d.attempts,
                       case when exists (select from inbox_acknowledgements a
                                         where a.org_id = $1 and a.accepted_at = s.accepted_at and a.event_id = s.id)
                            then 'acknowledged'
                            when d.status = 'delivered' then 'delivered'
                            else 'pending' end as status
                from scanned s
                left join deliveries d on d.event_id = s.id and d.endpoint_id = (select id from webhook)
                                      and d.accepted_at = s.accepted_at and d.org_id = $1
            ),
            page as materialized (
                select *, row_number() over (order by accepted_at desc, id desc) as number
                from judged where $5::text is null or status = $5
                order by accepted_at desc, id desc offset $6 limit $7::bigint + 1
            ),
            sized as (select *, sum(size) over (order by number) as total, count(*) over () as found from page)
            select e.id as "id: EventId", e.accepted_at, e.type as event_type, e.content_type, e.idempotency_key,
                   e.data, s.status as "status!: InboxStatus", s.delivery_status as "delivery_status?: DeliveryStatus",
                   s.attempts as "attempts?", t.response_status as "response_status?",
                   case when t.outcome = 'status' then 'the receiver answered ' || t.response_status
                        when t.outcome <> 'delivered' then coalesce(t.error, t.outcome) end as last_error,
                   s.found as "found!"
            from sized s
            join events e on e.org_id = $1 and e.accepted_at = s.accepted_at and e.id = s.id
            left join attempt_history t on t.event_id = s.id and t.endpoint_id = s.endpoint_id
                                and t.accepted_at = s.accepted_at and t.number = s.attempts and t.org_id = $1
            where s.number <= $6 + $7 and (s.total <= $8 or s.number = $6 + 1)
            order by s.number
            "#,
            filter.org_id.as_uuid(),
            filter.before.at,
            filter.before.id,
            scanned,
            filter.status as _,
            filter.offset,
            filter.limit,
            MAX_PAGE_BYTES as _,
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let found = rows.first().map_or(0, |row| row.found);
        let more = usize::try_from(found).is_ok_and(|found| found > rows.len());
        let events: Vec<_> = rows
            .into_iter()
            .map(|row| InboxRow {
                id: row.id,
                accepted_at: row.accepted_at,
                event_type: row.event_type,
                content_type: row.content_type,
                idempotency_key: row.idempotency_key,
                data: row.data,
                status: row.status,
                delivery_status: row.delivery_status,
                attempts: row.attempts,
                response_status: row.response_status,
                last_error: row.last_error,
            })
            .collect();
        let next = match (events.last(), filter.status) {
            (Some(last), _) if more => Some(Cursor {
                at: last.accepted_at,
                id: last.id.as_uuid(),
            }),
            (_, Some(_)) => end_of_events(&mut snapshot, filter.org_id, None, ALWAYS, filter.before).await?,
            _ => None,
        };
        Ok((events, next))
    }

    /// Acknowledges an event, or all events that are stored under its id. Repeating it changes nothing. False when the
    /// organisation has no such event.
    pub(crate) async fn acknowledge_in_inbox(&self, org_id: OrgId, id: EventId) -> Result<bool> {
        let places = self
            .find_event_places(&Realm::of_organization(org_id), id)
            .await?;
        if places.is_empty() {
            return Ok(false);
        }
        sqlx::query!(
            "insert into inbox_acknowledgements (org_id, accepted_at, event_id)
             select $1, accepted_at, $2 from unnest($3::timestamptz[]) as found (accepted_at)
             on conflict do nothing",
            org_id.as_uuid(),
            id.as_uuid(),
            &places.iter().map(|place| place.accepted_at).collect::<Vec<_>>(),
        )
        .execute(&self.pool)
        .await?;
        Ok(true)
    }

    /// An organisation and its webhook of this API.
    pub(crate) async fn get_organization_with_webhook(
        &self,
        org_id: OrgId,
    ) -> Result<Option<OrganizationWithWebhook>> {
        let found = sqlx::query_as!(
            OrganizationWithWebhook,
            r#"select o.name, o.tier as "tier: Tier", o.rate_limit_per_minute, e.url as "webhook_url?"
               from organizations o
               left join endpoints e on e.org_id = o.id and e.zapier and e.deleted_at is null
               where o.id = $1"#,
            org_id.as_uuid(),
        );
        found.fetch_optional(&self.pool).await
    }

    /// Sets the organisation's webhook of this API. A webhook that exists keeps its id, its secret and its deliveries,
    /// gets the new URL and is enabled. Otherwise it is made, unless the organisation has the most endpoints that it
    /// may have. Returns the webhook's id; None when it shows a client certificate, which it can only over https.
    pub(crate) async fn set_zapier_webhook(
        &self,
        org_id: OrgId,
        new_id: EndpointId,
        url: &str,
        secret: &[u8],
    ) -> Result<Stored<Option<EndpointId>>> {
        let mut transaction = self.begin_change(&self.pool).await?;
        match admit_endpoint(&mut transaction, org_id).await? {
            Stored::Done(()) => {}
            Stored::Full(_) if has_webhook(&mut transaction, org_id).await? => {}
            Stored::Full(most) => return Ok(Stored::Full(most)),
            Stored::Missing | Stored::OwnerLeaves => return Ok(Stored::Missing),
        }
        let id = sqlx::query_scalar!(
            r#"with webhook as (
                   insert into endpoints (id, org_id, url, description, secret, max_in_flight, timeout_ms, zapier)
                   values ($1, $2, $3, 'Zapier Triggers API', $4, $5, $6, true)
                   on conflict (org_id) where zapier and deleted_at is null
                   do update set url = excluded.url, status = 'enabled', disabled_reason = null
                   where endpoints.certificate_expires_at is null or $7
                   returning id
               ),
               -- As whenever an endpoint is enabled.
               closed as (
                   delete from endpoint_health h using webhook w where h.endpoint_id = w.id and h.org_id = $2
               )
               select id as "id: EndpointId" from webhook"#,
            new_id.as_uuid(),
            org_id.as_uuid(),
            url,
            secret,
            DEFAULT_MAX_IN_FLIGHT,
            DEFAULT_TIMEOUT_MS,
            is_https(url),
        );
        let id = id.fetch_optional(&mut *transaction).await?;
        if id.is_some() {
            transaction.commit().await?;
        }
        Ok(Stored::Done(id))
    }
}

/// An organisation, as this API's list of keys shows it.
#[derive(Debug)]
pub(crate) struct OrganizationWithWebhook {
    /// Its name.
    pub name: String,
    /// What it pays for.
    pub tier: Tier,
    /// A limit of its own.
    pub rate_limit_per_minute: Option<i64>,
    /// The URL of its webhook of this API, when it has one.
    pub webhook_url: Option<String>,
}

async fn has_webhook(transaction: &mut Transaction, org_id: OrgId) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from endpoints where org_id = $1 and zapier and deleted_at is null) as "there!""#,
        org_id.as_uuid(),
    )
    .fetch_one(&mut **transaction)
    .await
}
