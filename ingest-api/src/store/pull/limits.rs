//! What an endpoint's owner allows its consumers together: how many deliveries are leased at once, and how many are leased a
//! second (GCRA, as workers keep the pace of webhooks). An endpoint without limits costs nothing here.

use std::time::Duration;

use shared::domain::endpoint::{EndpointKind, Format};
use shared::domain::id::{EndpointId, LeaseToken, OrgId};
use time::OffsetDateTime;

use super::Pull;
use crate::domain::access::realm::Realm;
use crate::store::events::rows::{PulledRow, lease};
use crate::store::{Result, Store};

/// An endpoint, as far as a pull needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PullEndpointRow {
    pub kind: EndpointKind,
    pub enabled: bool,
    /// The form of its events.
    pub format: Format,
    /// Most deliveries that are leased at once.
    pub max_leased: Option<i32>,
    /// Most deliveries that are leased in a second.
    pub rate_limit_per_second: Option<i32>,
}

/// When an endpoint's next turn is, by Postgres's clock.
struct Pace {
    next_at: OffsetDateTime,
    now: OffsetDateTime,
}

/// Turns that may be taken now.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Turns {
    /// When the first of them came.
    first: OffsetDateTime,
    count: i32,
}

impl Pace {
    /// Unused turns are saved up for a quarter of a second.
    fn turns(&self, rate: i32) -> Turns {
        let (rate, burst) = (f64::from(rate), f64::from((rate / 4).max(1)));
        let saved = Duration::from_secs_f64((burst - 1.0) / rate);
        let first = self.next_at.max(self.now - saved);
        let waited = (self.now - first).as_seconds_f64();
        let count = if waited < 0.0 {
            0.0
        } else {
            (waited * rate).floor() + 1.0
        };
        #[expect(clippy::cast_possible_truncation, reason = "no more than the burst")]
        let count = count as i32;
        Turns { first, count }
    }
}

impl Store {
    /// An endpoint that somebody wants to pull from.
    pub(crate) async fn find_pull_endpoint(
        &self,
        realm: &Realm,
        endpoint_id: EndpointId,
    ) -> Result<Option<PullEndpointRow>> {
        sqlx::query_as!(
            PullEndpointRow,
            r#"select kind as "kind: EndpointKind", status = 'enabled' and tenant_enabled as "enabled!",
                      format as "format: Format", max_leased, rate_limit_per_second
               from endpoints
               where id = $1 and org_id = $2 and ($3::text is null or tenant = $3) and deleted_at is null"#,
            endpoint_id.as_uuid(),
            realm.org_id.as_uuid(),
            realm.tenant(),
        )
        .fetch_optional(&self.pool)
        .await
    }

    /// Leases due deliveries as [`lease`] does, as many as the endpoint's limits allow.
    pub(crate) async fn lease_within_limits(
        &self,
        pull: &Pull,
        endpoint: &PullEndpointRow,
        token: LeaseToken,
    ) -> Result<Vec<PulledRow>> {
        if endpoint.max_leased.is_none() && endpoint.rate_limit_per_second.is_none() {
            return lease(&self.pool, pull, token).await;
        }
        let mut transaction = self.pool.begin().await?;
        // Locks the row: no other pull of this endpoint counts or leases until the end.
        let pace = sqlx::query_as!(
            Pace,
            r#"insert into endpoint_pace as p (endpoint_id, org_id, next_at) values ($1, $2, clock_timestamp())
               on conflict (endpoint_id) do update set next_at = p.next_at
               returning next_at, clock_timestamp() as "now!""#,
            pull.endpoint_id.as_uuid(),
            pull.org_id.as_uuid(),
        );
        let pace = pace.fetch_one(&mut *transaction).await?;
        let turns = endpoint
            .rate_limit_per_second
            .map(|rate| (rate, pace.turns(rate)));
        let mut max = turns.map_or(pull.max, |(_, turns)| turns.count.min(pull.max));
        if let Some(most) = endpoint.max_leased {
            let leased = sqlx::query_scalar!(
                r#"select count(*)::integer as "leased!" from (
                       select from deliveries
                       where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull
                         and lease_token is not null and next_attempt_at > now()
                       limit $3
                   ) leased"#,
                pull.org_id.as_uuid(),
                pull.endpoint_id.as_uuid(),
                i64::from(most),
            );
            max = max.min(most - leased.fetch_one(&mut *transaction).await?);
        }
        if max < 1 {
            return Ok(Vec::new());
        }
        let leased = lease(&mut *transaction, &Pull { max, ..*pull }, token).await?;
        if let Some((rate, turns)) = turns {
            let count = i32::try_from(leased.len()).unwrap_or(i32::MAX);
            let next_at = turns.first + Duration::from_secs_f64(f64::from(count) / f64::from(rate));
            let taking = sqlx::query!(
                "update endpoint_pace set next_at = $2 where endpoint_id = $1",
                pull.endpoint_id.as_uuid(),
                next_at,
            );
            taking.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(leased)
    }

    /// Those of these endpoints from which [`lease`] would lease something now, and that their limits allow to be pulled from.
    pub(crate) async fn find_due_to_pull(
        &self,
        endpoints: &[(OrgId, EndpointId)],
    ) -> Result<Vec<EndpointId>> {
        sqlx::query_scalar!(
            r#"select e.id as "id: EndpointId"
               from unnest($1::uuid[], $2::uuid[]) as w (org_id, endpoint_id)
               join endpoints e on e.id = w.endpoint_id and e.org_id = w.org_id
               left join endpoint_pace p on p.endpoint_id = e.id and e.rate_limit_per_second is not null
               cross join lateral (
                   select from deliveries d
                   where d.org_id = e.org_id and d.endpoint_id = e.id and d.status = 'pending' and d.pull
                     and d.next_attempt_at <= now()
                     -- What `lease` leaves to the workers.
                     and (d.lease_token is not null
                          and d.attempts - d.attempts_before + 1 >= e.retry_attempts) is not true
                     and (coalesce(d.revived_at, d.created_at)
                          <= now() - e.retry_max_age_ms * interval '1 millisecond') is not true
                   limit 1
               ) due
               where e.status = 'enabled' and e.tenant_enabled and e.deleted_at is null
                 and (p.next_at <= now()) is not false
                 and (e.max_leased is null or e.max_leased > (
                     select count(*) from (
                         select from deliveries d
                         where d.org_id = e.org_id and d.endpoint_id = e.id and d.status = 'pending' and d.pull
                           and d.lease_token is not null and d.next_attempt_at > now()
                         limit e.max_leased
                     ) leased
                 ))"#,
            &endpoints.iter().map(|(org_id, _)| org_id.as_uuid()).collect::<Vec<_>>(),
            &endpoints.iter().map(|(_, id)| id.as_uuid()).collect::<Vec<_>>(),
        )
        .fetch_all(&self.pool)
        .await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(rate: i32, next_in_ms: i64) -> i32 {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let next_at = now + time::Duration::milliseconds(next_in_ms);
        Pace { next_at, now }.turns(rate).count
    }

    #[test]
    fn turns_come_at_the_rate_and_are_saved_up_for_a_quarter_of_a_second() {
        assert_eq!([turns(1, 1), turns(1, 0), turns(1, -10_000)], [0, 1, 1]);
        assert_eq!(
            [turns(40, 1), turns(40, 0), turns(40, -100), turns(40, -9_000)],
            [0, 1, 5, 10]
        );
        assert_eq!(turns(10_000, -9_000), 2_500);
    }

    proptest! {
        #[test]
        fn no_endpoint_has_more_turns_than_its_burst(rate in 1i32..=10_000, next_in_ms in -100_000i64..100_000) {
            let turns = turns(rate, next_in_ms);
            prop_assert!((0..=(rate / 4).max(1)).contains(&turns));
            prop_assert_eq!(turns == 0, next_in_ms > 0);
        }
    }
}
