//! Rate limits of endpoints, kept by all workers together (GCRA): one row says when the endpoint's next turn is, and each
//! worker takes its turns from it. Unused turns are saved up for a quarter of a second.

use std::collections::HashMap;

use shared::domain::id::EndpointId;
use sqlx::PgConnection;

use super::Share;

/// Cuts the turns of endpoints with a rate limit down to what the limit allows, and drops shares without a turn.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn take_turns(
    connection: &mut PgConnection,
    shares: &mut Vec<Share>,
) -> Result<(), sqlx::Error> {
    let paced: Vec<_> = limited(shares).collect();
    if paced.is_empty() {
        return Ok(());
    }
    let given = sqlx::query!(
        r#"
        with wanted as materialized (
            select endpoint_id, org_id, turns, rate, greatest(rate / 4, 1) as burst
            from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::float8[]) as w (endpoint_id, org_id, turns, rate)
        ),
        -- Not seen by the rest of this statement: the first turn is given by the next claim.
        made as (
            insert into endpoint_pace (endpoint_id, org_id, next_at) select endpoint_id, org_id, now() from wanted
            on conflict do nothing
        ),
        paced as materialized (
            select w.*, greatest(p.next_at, now() - (burst - 1) / rate * interval '1 second') as first
            from wanted w join endpoint_pace p on p.endpoint_id = w.endpoint_id
            order by w.endpoint_id for update of p
        ),
        given as (
            select endpoint_id, rate, first,
                   least(turns, floor(extract(epoch from now() - first)::float8 * rate)::integer + 1) as turns
            from paced where first <= now()
        )
        update endpoint_pace p set next_at = g.first + g.turns / g.rate * interval '1 second'
        from given g where p.endpoint_id = g.endpoint_id
        returning p.endpoint_id as "endpoint_id: EndpointId", g.turns as "turns!"
        "#,
        &paced.iter().map(|(share, _)| share.endpoint.id.as_uuid()).collect::<Vec<_>>(),
        &paced.iter().map(|(share, _)| share.endpoint.org_id.as_uuid()).collect::<Vec<_>>(),
        &paced.iter().map(|(share, _)| share.turns()).collect::<Vec<_>>(),
        &paced.iter().map(|(_, rate)| *rate).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    let given: HashMap<_, _> = given
        .into_iter()
        .map(|row| (row.endpoint_id, row.turns))
        .collect();
    for share in shares
        .iter_mut()
        .filter(|share| share.endpoint.rate_limit.is_some())
    {
        let turns = given.get(&share.endpoint.id).copied().unwrap_or(0);
        share.turns = usize::try_from(turns).unwrap_or(0);
    }
    shares.retain(|share| share.turns > 0);
    Ok(())
}

/// Gives back the turns that found no due delivery.
///
/// # Errors
/// When Postgres does not answer; then the turns are lost, and the endpoint is sent less for a moment.
pub(super) async fn give_back(connection: &mut PgConnection, shares: &[Share]) -> Result<(), sqlx::Error> {
    let unused: Vec<_> = limited(shares)
        .filter(|(share, _)| share.turns > 0)
        .map(|(share, rate)| (share.endpoint.id, f64::from(share.turns()) / rate))
        .collect();
    if unused.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update endpoint_pace p set next_at = p.next_at - u.seconds * interval '1 second'
         from (
             select p.endpoint_id, u.seconds
             from unnest($1::uuid[], $2::float8[]) as u (endpoint_id, seconds)
             join endpoint_pace p on p.endpoint_id = u.endpoint_id
             order by p.endpoint_id for update of p
         ) u
         where p.endpoint_id = u.endpoint_id",
        &unused.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>(),
        &unused.iter().map(|(_, seconds)| *seconds).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The shares whose endpoint has a rate limit, with it.
fn limited(shares: &[Share]) -> impl Iterator<Item = (&Share, f64)> {
    shares
        .iter()
        .filter_map(|share| Some((share, f64::from(share.endpoint.rate_limit?))))
}
