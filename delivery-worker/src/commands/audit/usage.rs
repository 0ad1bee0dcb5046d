//! Whether the counts of usage are what the tables hold.

use serde::Serialize;
use shared::domain::clock::Timestamp;
use shared::domain::event::OPERATIONAL_TYPES;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// An hour whose usage is not what its events are.
#[derive(Debug, Serialize)]
pub(super) struct Miscounted {
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    pub hour: OffsetDateTime,
    /// Events that are stored.
    pub accepted: i64,
    /// Events that were counted.
    pub counted: i64,
}

impl Miscounted {
    /// In a line with whatever else is stuck.
    pub(super) fn in_words(&self) -> String {
        let Self {
            hour,
            accepted,
            counted,
        } = self;
        format!(
            "usage of {counted} events in the hour from {}, in which {accepted} are stored",
            Timestamp(*hour)
        )
    }
}

/// Of the hours that are counted for good. An organisation that is being deleted loses its events before its counts.
pub(super) async fn miscounted(
    snapshot: &mut PgConnection,
    since: OffsetDateTime,
) -> Result<Vec<Miscounted>, sqlx::Error> {
    let query = sqlx::query_as!(
        Miscounted,
        r#"select h.hour, e.accepted as "accepted!", u.accepted as "counted!"
           from usage_hours h
           cross join lateral (
               select count(*) as accepted from events e join organizations o on o.id = e.org_id
               where e.accepted_at >= h.hour and e.accepted_at < h.hour + interval '1 hour' and e.type <> all($2)
                 and o.deleting_since is null
           ) e
           cross join lateral (
               select coalesce(sum(u.accepted), 0)::bigint as accepted
               from usage u join organizations o on o.id = u.org_id
               where u.day = (h.hour at time zone 'UTC')::date
                 and u.hour = extract(hour from h.hour at time zone 'UTC')::smallint and o.deleting_since is null
           ) u
           where h.hour >= $1 and h.state = 'settled' and e.accepted <> u.accepted
             and not exists (select from usage_recounts r where r.hour = h.hour)
           order by h.hour"#,
        since,
        &OPERATIONAL_TYPES as &[&str],
    );
    query.fetch_all(snapshot).await
}
