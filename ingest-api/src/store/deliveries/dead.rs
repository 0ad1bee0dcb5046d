//! Dead deliveries of a whole realm.

use shared::domain::delivery::Outcome;
use shared::domain::id::EndpointId;
use time::OffsetDateTime;

use crate::domain::access::realm::Realm;
use crate::store::{MAX_COUNTED, Result, Store};

/// Most endpoints that are looked at, the newest first.
const ENDPOINTS: i64 = 1_000;

/// Most dead deliveries of an endpoint that are looked at, the oldest first.
const DEAD_OF_EACH: i64 = 1_000;

/// Most groups that are told.
const GROUPS: i64 = 500;

/// Dead deliveries of an endpoint whose last attempts ended alike.
#[derive(Debug)]
pub(crate) struct DeadRow {
    pub endpoint_id: EndpointId,
    pub url: Option<String>,
    pub outcome: Option<Outcome>,
    pub deliveries: i64,
    /// When the oldest of their events was accepted.
    pub oldest: OffsetDateTime,
    /// The endpoint has further dead deliveries that are not looked at.
    pub has_more: bool,
}

impl Store {
    /// The dead deliveries of a realm's endpoints, by endpoint and outcome, the largest group first.
    pub(crate) async fn dead_deliveries(&self, realm: &Realm) -> Result<Vec<DeadRow>> {
        // One more than is looked at tells that there are more.
        let rows = sqlx::query_as!(
            DeadRow,
            r#"with mine as materialized (
                   select id, url from newest_endpoints($1, $2, $3)
               ),
               dead as materialized (
                   select m.id, m.url, d.last_outcome, d.accepted_at,
                          d.number > $4 or row_number() over () > $5 as is_beyond
                   from mine m cross join lateral (
                       select last_outcome, accepted_at, row_number() over () as number from (
                           select last_outcome, accepted_at from deliveries
                           where org_id = $1 and endpoint_id = m.id and status = 'dead'
                           order by accepted_at limit $4::bigint + 1
                       ) oldest
                   ) d
                   limit $5::bigint + 1
               )
               select id as "endpoint_id!: EndpointId", url, last_outcome as "outcome: Outcome",
                      count(*) as "deliveries!", min(accepted_at) as "oldest!",
                      id in (select id from dead where is_beyond) as "has_more!"
               from dead where not is_beyond group by id, url, last_outcome
               order by count(*) desc, id limit $6"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            ENDPOINTS,
            DEAD_OF_EACH,
            MAX_COUNTED,
            GROUPS,
        );
        let mut snapshot = self.snapshot().await?;
        rows.fetch_all(&mut *snapshot).await
    }
}
