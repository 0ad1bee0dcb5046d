//! Events that come again at an earlier place of their stream.
//!
//! A frame is in its stream twice when its publisher did not hear of the first copy and sent another one. A server that hung may pass
//! the first one on after later frames, and a worker may store it before the other copy. Its events then stand behind later ones of
//! their keys. Nothing of these is sent before the other copy is stored, too, and moves the events to where they belong.

use shared::db::limited::LimitedPool;
use shared::domain::event::Event;

use super::Order;

/// Moves the pending deliveries of events to the places at which these come now, if they are earlier ones of the same stream. To be
/// called before the frame is acknowledged.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn move_forward(
    pool: &LimitedPool,
    events: &[(&Event<'_>, Order<'_>)],
) -> Result<(), sqlx::Error> {
    let accepted_at = || events.iter().map(|(event, _)| event.accepted_at.to_date_time());
    sqlx::query!(
        "update deliveries d
         set ordinal = e.ordinal, parked = false
         from (
             select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[])
                 as e (org_id, event_id, accepted_at, stream, ordinal)
             limit cardinality($1)
         ) e
         where d.event_id = e.event_id and d.accepted_at = e.accepted_at and d.org_id = e.org_id
           and d.accepted_at between $6 and $7
           and d.stream = e.stream and d.ordinal > e.ordinal and d.status = 'pending'",
        &events
            .iter()
            .map(|(event, _)| event.org_id.as_uuid())
            .collect::<Vec<_>>(),
        &events
            .iter()
            .map(|(event, _)| event.id.as_uuid())
            .collect::<Vec<_>>(),
        &accepted_at().collect::<Vec<_>>(),
        &events.iter().map(|(_, order)| order.stream).collect::<Vec<_>>() as _,
        &events.iter().map(|(_, order)| order.ordinal).collect::<Vec<_>>(),
        accepted_at().min(),
        accepted_at().max(),
    )
    .execute(pool)
    .await?;
    Ok(())
}
