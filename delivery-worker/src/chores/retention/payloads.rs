//! Payloads that go before their events, of organisations that keep them for a shorter time.
//!
//! Events are read in the order of their acceptance. `payload_removals` says up to when nothing is left, so that a round does not
//! read again what others have read. A payload that a pending delivery needs holds that time back.

use shared::domain::id::{EventId, OrgId};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::STEP;

/// An organisation that keeps payloads for less time than events.
struct Organization {
    id: OrgId,
    /// For so many days.
    days: i32,
    /// Nothing is left of events that were accepted before; `None` when no round has looked yet.
    since: Option<OffsetDateTime>,
}

/// Removes the payloads that are too old.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn remove(pool: &PgPool, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    for organization in organizations(pool).await? {
        let cutoff = now - time::Duration::days(organization.days.into());
        let removed_before = remove_before(pool, &organization, cutoff).await?;
        note(pool, organization.id, removed_before, now).await?;
    }
    Ok(())
}

/// Events that were stored late, out of a backlog for example, may have come behind the place up to which others have looked. No
/// statement that stores events takes an hour.
async fn organizations(pool: &PgPool) -> Result<Vec<Organization>, sqlx::Error> {
    sqlx::query_as!(
        Organization,
        r#"select o.id as "id!: OrgId", o.payload_retention_days as "days!",
                  least(r.removed_before,
                        (select min(e.accepted_at) from events e
                         where e.org_id = o.id and e.stored_at > r.looked_at - interval '1 hour'
                           and e.stored_at - e.accepted_at > interval '5 seconds')) as since
           from organizations o left join payload_removals r on r.org_id = o.id
           where o.payload_retention_days is not null"#
    )
    .fetch_all(pool)
    .await
}

/// Removes the payloads of events that were accepted before `cutoff`. Returns the time before which nothing is left.
async fn remove_before(
    pool: &PgPool,
    organization: &Organization,
    cutoff: OffsetDateTime,
) -> Result<OffsetDateTime, sqlx::Error> {
    let since = organization.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (mut position, mut left_at) = ((since, EventId::from(Uuid::nil())), None);
    loop {
        let page = events_after(pool, organization.id, cutoff, position).await?;
        let Some(last) = page.last() else {
            return Ok(left_at.unwrap_or(cutoff));
        };
        position = (last.accepted_at, last.id);
        let due: Vec<_> = page.iter().filter(|event| event.due).collect();
        let removed = remove_payloads_of(pool, organization.id, &due).await?;
        // A replay, or another worker, may have been at some that were due.
        let all_removed = removed == due.len();
        let left = page
            .iter()
            .find(|event| event.kept && !(event.due && all_removed));
        left_at = left_at.or(left.map(|event| event.accepted_at));
    }
}

async fn note(
    pool: &PgPool,
    org_id: OrgId,
    removed_before: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    // It may have been deleted meanwhile.
    sqlx::query!(
        "insert into payload_removals (org_id, removed_before, looked_at)
         select id, $2, $3 from organizations where id = $1 for key share
         on conflict (org_id) do update
         set removed_before = excluded.removed_before, looked_at = excluded.looked_at",
        org_id.as_uuid(),
        removed_before,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// An event of an organisation that keeps payloads for less time.
struct Aged {
    accepted_at: OffsetDateTime,
    id: EventId,
    /// It has a payload.
    kept: bool,
    /// It has one, and no pending delivery needs it.
    due: bool,
}

/// The next events, in the order of their keys.
async fn events_after(
    pool: &PgPool,
    org_id: OrgId,
    cutoff: OffsetDateTime,
    (at, id): (OffsetDateTime, EventId),
) -> Result<Vec<Aged>, sqlx::Error> {
    sqlx::query_as!(
        Aged,
        r#"
        select accepted_at, id as "id: EventId", expunged_at is null as "kept!",
               expunged_at is null and not exists (
                   select from deliveries d
                   where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = e.org_id
                     and d.status = 'pending'
               ) as "due!"
        from events e
        where org_id = $1 and accepted_at < $2 and (accepted_at, id) > ($3, $4)
        order by accepted_at, id limit $5
        "#,
        org_id.as_uuid(),
        cutoff,
        at,
        id.as_uuid(),
        STEP,
    )
    .fetch_all(pool)
    .await
}

/// Removes payloads, and what receivers answered, where no delivery needs them any more. Returns how many payloads.
async fn remove_payloads_of(pool: &PgPool, org_id: OrgId, events: &[&Aged]) -> Result<usize, sqlx::Error> {
    if events.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = events.iter().map(|event| event.id.as_uuid()).collect();
    let times: Vec<_> = events.iter().map(|event| event.accepted_at).collect();
    // Two statements, so that the second one sees what a replay wrote that held the event's row.
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "select from events e
         join unnest($2::uuid[], $3::timestamptz[]) as due (id, accepted_at)
             on e.accepted_at = due.accepted_at and e.id = due.id
         where e.org_id = $1
         order by e.accepted_at, e.id for update of e",
        org_id.as_uuid(),
        &ids,
        &times,
    )
    .execute(&mut *transaction)
    .await?;
    let removed = sqlx::query_scalar!(
        r#"with expunged as (
               update events e set data = '', baggage = null, expunged_at = now()
               from unnest($2::uuid[], $3::timestamptz[]) as due (id, accepted_at)
               where e.org_id = $1 and e.accepted_at = due.accepted_at and e.id = due.id and e.expunged_at is null
                 and not exists (
                     select from deliveries d
                     where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = e.org_id
                       and d.status = 'pending'
                 )
               returning e.org_id, e.accepted_at, e.id
           ),
           last_answers as (
               update deliveries d set last_response_body = null
               from expunged e
               where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = e.org_id
                 and d.last_response_body is not null
           ),
           answers as (
               update attempts a set response_body = null
               from expunged e
               where a.event_id = e.id and a.accepted_at = e.accepted_at and a.org_id = e.org_id
                 and a.response_body is not null
           )
           select count(*) as "count!" from expunged"#,
        org_id.as_uuid(),
        &ids,
        &times,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(usize::try_from(removed).unwrap_or_default())
}
