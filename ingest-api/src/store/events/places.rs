//! From an event's id to where it is stored.

use shared::domain::clock::UnixMicros;
use shared::domain::id::{EventId, OrgId};
use time::{Duration, OffsetDateTime};

use crate::domain::access::realm::Realm;
use crate::store::{Result, Store};

/// A stored event: its id may have been stored more than once, a day and more apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventPlace {
    /// The organisation's.
    pub org_id: OrgId,
    /// Its id.
    pub id: EventId,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
}

impl Store {
    /// Where an event is stored, newest first. An id that holds a time is found by that time. An id that is derived
    /// from an idempotency key has an index of its own, and several places when the key was used again after a day.
    pub(crate) async fn find_event_places(&self, realm: &Realm, id: EventId) -> Result<Vec<EventPlace>> {
        let times = match id.accepted_millis() {
            None => self.times_of_derived(realm, id).await?,
            Some(millis) => self.times_within(realm, id, millis).await?,
        };
        let place = |accepted_at| EventPlace {
            org_id: realm.org_id,
            id,
            accepted_at,
        };
        Ok(times.into_iter().map(place).collect())
    }

    async fn times_of_derived(&self, realm: &Realm, id: EventId) -> Result<Vec<OffsetDateTime>> {
        sqlx::query_scalar!(
            "select accepted_at from events
             where id = $1 and org_id = $2 and ($3::text is null or tenant = $3) and idempotency_key is not null
             order by accepted_at desc",
            id.as_uuid(),
            realm.org_id.as_uuid(),
            realm.tenant(),
        )
        .fetch_all(&self.pool)
        .await
    }

    async fn times_within(&self, realm: &Realm, id: EventId, millis: i64) -> Result<Vec<OffsetDateTime>> {
        let from = UnixMicros::new(millis * 1_000).to_date_time();
        let Some(to) = from.checked_add(Duration::MILLISECOND) else {
            // A client may name the last millisecond there is; no event was accepted then.
            return Ok(Vec::new());
        };
        sqlx::query_scalar!(
            "select accepted_at from events
             where org_id = $1 and accepted_at >= $2 and accepted_at < $3 and id = $4
               and ($5::text is null or tenant = $5)",
            realm.org_id.as_uuid(),
            from,
            to,
            id.as_uuid(),
            realm.tenant(),
        )
        .fetch_all(&self.pool)
        .await
    }
}
