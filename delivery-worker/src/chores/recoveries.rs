//! Paced returns of an endpoint's finished deliveries to `pending`, as its owner asked for. One worker at a time takes a
//! step of a recovery, and leaves the time at which the next one is due.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, EventId, OrgId};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::endpoints::permits::Permits;
use crate::store::usage::late::recount;

/// Pause between two looks at the recoveries.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// Most deliveries, and events without one, that are looked at in one step.
const MAX_LOOKED_AT: usize = 2_000;

/// A recovery that has a step to take.
struct Recovery {
    id: Uuid,
    org_id: OrgId,
    endpoint_id: EndpointId,
    /// The tenant that the endpoint belongs to. It gets no other events.
    tenant: Option<String>,
    since: OffsetDateTime,
    until: OffsetDateTime,
    statuses: Vec<DeliveryStatus>,
    per_second: i32,
    position_at: Option<OffsetDateTime>,
    position_event: Option<EventId>,
}

/// A delivery, or an event that may have one, in the order in which a recovery goes through them.
struct Candidate {
    accepted_at: OffsetDateTime,
    event_id: EventId,
    matches: bool,
}

/// The candidates of one step.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// How many of them are looked at.
    length: usize,
    /// No candidate comes after them.
    is_last: bool,
}

/// Takes the steps that are due. Says whether a recovery runs: its next step is due soon.
///
/// # Errors
/// When Postgres does not answer; then the step was taken as a whole or not at all.
pub(crate) async fn take_steps(pool: &PgPool, permits: &Permits) -> Result<bool, sqlx::Error> {
    let Some(is_due) = is_one_due(pool).await? else {
        return Ok(false);
    };
    while is_due && take_step(pool, permits).await? {}
    Ok(true)
}

/// Whether a running recovery has a step to take; `None` when none runs. That of a deleted endpoint runs until it is
/// [cancelled](crate::chores::deleted::endpoints), and takes no step.
async fn is_one_due(pool: &PgPool) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar!("select bool_or(next_step_at <= now()) from recoveries where status = 'running'")
        .fetch_one(pool)
        .await
}

/// False when none was due, or another worker takes it.
async fn take_step(pool: &PgPool, permits: &Permits) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let Some(recovery) = next_due(&mut transaction).await? else {
        return Ok(false);
    };
    let candidates = if recovery.statuses == [DeliveryStatus::Dead] {
        dead(&mut transaction, &recovery).await?
    } else {
        finished(&mut transaction, &recovery).await?
    };
    let most = usize::try_from(recovery.per_second).unwrap_or(1);
    let page = page(candidates.iter().map(|candidate| candidate.matches), most);
    let candidates = &candidates[..page.length];
    let recovered = revive(&mut transaction, &recovery, candidates).await?;
    if recovered > 0 {
        let hours = hours_of(candidates.iter().filter(|candidate| candidate.matches));
        recount(&mut *transaction, &hours).await?;
    }
    advance(
        &mut transaction,
        &recovery,
        candidates.last(),
        page.is_last,
        recovered,
    )
    .await?;
    transaction.commit().await?;
    if recovered > 0 {
        permits.note_due(recovery.endpoint_id, Duration::ZERO);
        permits.wake_claimer();
    }
    Ok(true)
}

/// Ends a page after the `most`th matching candidate.
fn page(matches: impl ExactSizeIterator<Item = bool>, most: usize) -> Page {
    let all = matches.len();
    let last = matches
        .enumerate()
        .filter(|&(_, matches)| matches)
        .nth(most.saturating_sub(1));
    let length = last.map_or(all, |(index, _)| index + 1);
    Page {
        length,
        is_last: length == all && all < MAX_LOOKED_AT,
    }
}

async fn next_due(connection: &mut PgConnection) -> Result<Option<Recovery>, sqlx::Error> {
    sqlx::query_as!(
        Recovery,
        r#"select id, org_id as "org_id: OrgId", endpoint_id as "endpoint_id: EndpointId",
                  (select e.tenant from endpoints e where e.id = r.endpoint_id and e.org_id = r.org_id) as tenant, since, until,
                  statuses as "statuses: Vec<DeliveryStatus>", per_second, position_at, position_event as "position_event: EventId"
           from recoveries r
           where status = 'running' and next_step_at <= now()
             and not exists (select from endpoints e where e.id = r.endpoint_id and e.deleted_at is not null)
           order by next_step_at limit 1 for update skip locked"#
    )
    .fetch_optional(connection)
    .await
}

async fn dead(connection: &mut PgConnection, recovery: &Recovery) -> Result<Vec<Candidate>, sqlx::Error> {
    sqlx::query_as!(
        Candidate,
        r#"select accepted_at, event_id as "event_id: EventId", true as "matches!"
           from deliveries
           where org_id = $1 and endpoint_id = $2 and status = 'dead' and accepted_at < $3
             and (accepted_at, event_id) > ($4, $5)
           order by accepted_at, event_id limit $6"#,
        recovery.org_id.as_uuid(),
        recovery.endpoint_id.as_uuid(),
        recovery.until,
        recovery.position_at.unwrap_or(recovery.since),
        recovery.position_event.map_or(Uuid::nil(), EventId::as_uuid),
        i64::try_from(MAX_LOOKED_AT).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await
}

/// Delivered deliveries have no index, so this reads the organisation's events, or those of the endpoint's tenant.
async fn finished(connection: &mut PgConnection, recovery: &Recovery) -> Result<Vec<Candidate>, sqlx::Error> {
    sqlx::query_as!(
        Candidate,
        r#"select e.accepted_at as "accepted_at!", e.id as "event_id!: EventId",
                  coalesce(d.status = any($7), false) as "matches!"
           from (
               -- Two branches, each with an index of its own.
               (select accepted_at, id from events
                where $8::text is null and org_id = $1
                  and accepted_at < $3 and accepted_at >= $4 and (accepted_at, id) > ($4, $5::uuid)
                order by accepted_at, id limit $6)
               union all
               (select accepted_at, id from events
                where org_id = $1 and tenant = $8
                  and accepted_at < $3 and accepted_at >= $4 and (accepted_at, id) > ($4, $5::uuid)
                order by accepted_at, id limit $6)
           ) e
           left join deliveries d on d.event_id = e.id and d.endpoint_id = $2 and d.accepted_at = e.accepted_at
                                 and d.org_id = $1
           order by e.accepted_at, e.id"#,
        recovery.org_id.as_uuid(),
        recovery.endpoint_id.as_uuid(),
        recovery.until,
        recovery.position_at.unwrap_or(recovery.since),
        recovery.position_event.map_or(Uuid::nil(), EventId::as_uuid),
        i64::try_from(MAX_LOOKED_AT).unwrap_or(i64::MAX),
        &recovery.statuses as _,
        recovery.tenant,
    )
    .fetch_all(connection)
    .await
}

/// Makes deliveries pending again, with all attempts allowed anew. Skips those whose payload was removed. The payloads of the
/// others are locked, so that none is removed in between.
async fn revive(
    connection: &mut PgConnection,
    recovery: &Recovery,
    candidates: &[Candidate],
) -> Result<i64, sqlx::Error> {
    let matching: Vec<_> = candidates.iter().filter(|candidate| candidate.matches).collect();
    let done = sqlx::query!(
        "with kept as materialized (
             select e.id, e.accepted_at
             from unnest($3::uuid[], $4::timestamptz[]) as c (event_id, accepted_at)
             join events e on e.org_id = $1 and e.accepted_at = c.accepted_at and e.id = c.event_id
             where e.expunged_at is null
             order by e.accepted_at, e.id for share of e
         )
         update deliveries d
         set status = 'pending', next_attempt_at = now(), finished_at = null, revived_at = clock_timestamp(),
             attempts_before = d.attempts
         from kept k
         where d.event_id = k.id and d.endpoint_id = $2 and d.accepted_at = k.accepted_at and d.org_id = $1
           and d.status = any($5)",
        recovery.org_id.as_uuid(),
        recovery.endpoint_id.as_uuid(),
        &matching
            .iter()
            .map(|candidate| candidate.event_id.as_uuid())
            .collect::<Vec<_>>(),
        &matching
            .iter()
            .map(|candidate| candidate.accepted_at)
            .collect::<Vec<_>>(),
        &recovery.statuses as _,
    )
    .execute(connection)
    .await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}

/// The hours in which their events were accepted.
fn hours_of<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Vec<OffsetDateTime> {
    let hours: BTreeSet<_> = candidates
        .map(|candidate| candidate.accepted_at.truncate_to_hour())
        .collect();
    hours.into_iter().collect()
}

async fn advance(
    connection: &mut PgConnection,
    recovery: &Recovery,
    last: Option<&Candidate>,
    is_last: bool,
    recovered: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update recoveries
         set recovered = recovered + $2, position_at = coalesce($3, position_at),
             position_event = coalesce($4, position_event),
             next_step_at = now() + $2::float8 / per_second * interval '1 second',
             status = case when $5 then 'finished' else status end, finished_at = case when $5 then now() end
         where id = $1",
        recovery.id,
        recovered,
        last.map(|candidate| candidate.accepted_at),
        last.map(|candidate| candidate.event_id.as_uuid()),
        is_last,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_step_ends_with_its_last_match_and_only_the_last_step_sees_the_end(
            matches in proptest::collection::vec(any::<bool>(), 0..300),
            most in 1usize..100,
        ) {
            let page = page(matches.iter().copied(), most);
            let taken = &matches[..page.length];
            let count = taken.iter().filter(|matches| **matches).count();
            prop_assert!(count <= most);
            prop_assert_eq!(page.is_last, page.length == matches.len());
            prop_assert!(page.is_last || (count == most && taken.last() == Some(&true)));
        }

        #[test]
        fn as_many_candidates_as_are_looked_at_are_never_the_end(most in 1usize..5_000) {
            let page = page(std::iter::repeat_n(false, MAX_LOOKED_AT), most);
            prop_assert_eq!(page, Page { length: MAX_LOOKED_AT, is_last: false });
        }
    }
}
