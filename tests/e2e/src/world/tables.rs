//! What tests read in the tables.

use shared::domain::id::{EndpointId, EventId};
use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::World;
use crate::wait::until;

/// One row of `deliveries`.
#[derive(Clone, Debug, FromRow)]
pub struct Delivery {
    /// The event.
    pub event_id: EventId,
    /// Where it goes.
    pub endpoint_id: EndpointId,
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// How many attempts were recorded.
    pub attempts: i32,
    /// Whether a worker holds it, or held it when it died.
    pub leased: bool,
}

/// One row of `attempts`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Attempt {
    /// From 1.
    pub number: i32,
    /// `delivered`, or the class of the failure.
    pub outcome: String,
    /// What the receiver answered.
    pub response_status: Option<i16>,
}

impl World {
    /// The database.
    pub fn database(&self) -> &PgPool {
        &self.database
    }

    /// Runs statements without parameters.
    pub async fn execute(&self, statements: impl Into<String>) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.into()));
        let done = statements.execute(&self.database).await;
        done.expect("Postgres runs");
    }

    /// What a query counts.
    pub async fn count(&self, query: &'static str) -> i64 {
        let counted = sqlx::query_scalar(query).fetch_one(&self.database).await;
        counted.expect("Postgres runs")
    }

    /// Waits until a query counts this many.
    pub async fn until_count_is(&self, awaited: &str, query: &'static str, expected: i64) {
        until(awaited, async || {
            let seen: sqlx::Result<i64> = sqlx::query_scalar(query).fetch_one(&self.database).await;
            match seen {
                Ok(count) if count == expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// The day so many days ago (UTC), such as `2026-01-31`.
    pub async fn day(&self, ago: i32) -> String {
        let day = sqlx::query_scalar("select to_char((now() at time zone 'UTC')::date - $1, 'YYYY-MM-DD')");
        let day = day.bind(ago).fetch_one(&self.database).await;
        day.expect("Postgres runs")
    }

    /// All deliveries.
    pub async fn deliveries(&self) -> Vec<Delivery> {
        let query = sqlx::query_as(
            "select event_id, endpoint_id, status, attempts, lease_token is not null as leased
             from deliveries order by event_id, endpoint_id",
        );
        query.fetch_all(&self.database).await.expect("Postgres runs")
    }

    /// The deliveries of one event.
    pub async fn deliveries_of(&self, id: EventId) -> Vec<Delivery> {
        let mut all = self.deliveries().await;
        all.retain(|delivery| delivery.event_id == id);
        all
    }

    /// The attempts of one event, at all its endpoints.
    pub async fn attempts_of(&self, id: EventId) -> Vec<Attempt> {
        let query = sqlx::query_as(
            "select number, outcome, response_status from attempt_history where event_id = $1 order by number",
        );
        let attempts = query.bind(id).fetch_all(&self.database).await;
        attempts.expect("Postgres runs")
    }

    /// The payload that is stored of an event; one for each time it is stored.
    pub async fn stored_data(&self, id: EventId) -> Vec<Vec<u8>> {
        let query = sqlx::query_scalar("select data from events where id = $1").bind(id);
        query.fetch_all(&self.database).await.expect("Postgres runs")
    }

    /// Waits until an event is stored.
    pub async fn until_event_is_stored(&self, id: EventId) {
        until(&format!("{id} to be stored"), async || {
            if self.stored_data(id).await.is_empty() {
                Err("not yet".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
    }

    /// Waits until the workers have stored this many deliveries.
    pub async fn until_deliveries_are_stored(&self, count: usize) {
        until(&format!("{count} stored deliveries"), async || {
            match self.deliveries().await.len() {
                stored if stored == count => Ok(()),
                stored => Err(stored.to_string()),
            }
        })
        .await;
    }

    /// Waits until an event has one delivery and that has a status, and returns it.
    pub async fn until_delivery_is(&self, id: EventId, status: &str) -> Delivery {
        until(&format!("{id} to be {status}"), async || {
            match self.deliveries_of(id).await.as_slice() {
                [only] if only.status == status => Ok(only.clone()),
                others => Err(format!("{others:?}")),
            }
        })
        .await
    }

    /// Waits until `count` deliveries have a status.
    pub async fn until_deliveries_are(&self, count: i64, status: &str) {
        until(&format!("{count} deliveries to be {status}"), async || {
            let query = sqlx::query_scalar("select count(*) from deliveries where status = $1");
            let seen: i64 = query
                .bind(status)
                .fetch_one(&self.database)
                .await
                .map_err(|error| error.to_string())?;
            if seen == count {
                Ok(())
            } else {
                Err(seen.to_string())
            }
        })
        .await;
    }
}
