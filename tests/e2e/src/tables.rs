//! What tests read in the tables.

use shared::domain::id::{EndpointId, EventId};
use sqlx::{FromRow, PgPool};

use crate::wait::until;
use crate::world::World;

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
