//! Which endpoints an event goes to.
//!
//! The endpoints are held in memory. The database counts their changes, and the statement that stores events
//! compares the count: a worker that is behind stores nothing, reads the changes and tries again. So an event
//! that was accepted after a change is always fanned out with it, with no message that could be lost.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use shared::filter::PayloadFilter;
use shared::id::{EndpointId, OrgId};
use shared::secret::SecretsKey;
use sqlx::PgPool;

use crate::endpoint::{Endpoint, EndpointRow, Format, OnExhausted};
use crate::retry::RetryPolicy;

/// An enabled endpoint of either kind, and which of its organisation's events it wants.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Where deliveries are sent; nothing when their owner pulls them.
    pub push: Option<Arc<Endpoint>>,
    event_types: Vec<String>,
    filter: Option<Arc<PayloadFilter>>,
}

impl Subscriber {
    /// Whether it says which types it wants; else it gets all that producers send.
    pub fn names_types(&self) -> bool {
        !self.event_types.is_empty()
    }

    fn wants(&self, event_type: &str) -> bool {
        self.event_types.is_empty()
            || self
                .event_types
                .iter()
                .any(|pattern| matches(pattern, event_type))
    }
}

fn matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => event_type == pattern,
    }
}

/// All enabled endpoints as of one version.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The database's count of changes that this is.
    pub version: i64,
    by_id: HashMap<EndpointId, Arc<Endpoint>>,
    by_organization: HashMap<OrgId, Vec<Subscriber>>,
}

impl Snapshot {
    /// The endpoints that want an event.
    pub fn matching<'a>(
        &'a self,
        org_id: OrgId,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Subscriber> {
        let subscribers = self
            .by_organization
            .get(&org_id)
            .map(Vec::as_slice)
            .unwrap_or_default();
        subscribers
            .iter()
            .filter(move |subscriber| subscriber.wants(event_type))
    }

    /// An endpoint that deliveries are sent to, when it is enabled.
    pub fn get(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.by_id.get(&id)
    }

    fn remove(&mut self, org_id: OrgId, id: EndpointId) -> Option<Arc<Endpoint>> {
        if let Some(subscribers) = self.by_organization.get_mut(&org_id) {
            subscribers.retain(|subscriber| subscriber.endpoint_id != id);
        }
        self.by_id.remove(&id)
    }

    fn insert(&mut self, org_id: OrgId, subscriber: Subscriber) {
        if let Some(endpoint) = &subscriber.push {
            self.by_id.insert(endpoint.id, endpoint.clone());
        }
        self.by_organization.entry(org_id).or_default().push(subscriber);
    }
}

/// The endpoints in memory.
#[derive(Debug)]
pub struct Directory {
    pool: PgPool,
    secrets_key: SecretsKey,
    policy: RetryPolicy,
    snapshot: RwLock<Arc<Snapshot>>,
    refresh: tokio::sync::Mutex<()>,
}

impl Directory {
    /// Empty; its version is older than any. `policy` is for the endpoints that have none of their own.
    pub fn new(pool: PgPool, secrets_key: SecretsKey, policy: RetryPolicy) -> Self {
        let snapshot = Snapshot {
            version: -1,
            ..Snapshot::default()
        };
        Self {
            pool,
            secrets_key,
            policy,
            snapshot: RwLock::new(Arc::new(snapshot)),
            refresh: tokio::sync::Mutex::default(),
        }
    }

    /// The endpoints as they were last read.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads what has changed since.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, sqlx::Error> {
        let _turn = self.refresh.lock().await;
        let before = self.snapshot();
        // Read first: the rows read after it hold every change up to it, and perhaps later ones.
        let version = sqlx::query_scalar!("select version from endpoint_version")
            .fetch_one(&self.pool)
            .await?;
        if version == before.version {
            return Ok(before);
        }
        let rows = sqlx::query_as!(
            EndpointRow,
            r#"select id as "id: EndpointId", org_id as "org_id: OrgId", url, event_types, filter, secret,
                      previous_secret, previous_secret_expires_at, headers, format as "format: Format", max_in_flight,
                      timeout_ms, rate_limit_per_second, ordered, on_exhausted as "on_exhausted: OnExhausted",
                      retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                      (status = 'enabled' and deleted_at is null) as "enabled!"
               from endpoints where version > $1"#,
            before.version,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut next = Snapshot {
            version,
            ..(*before).clone()
        };
        for row in &rows {
            self.apply(&mut next, row);
        }
        let next = Arc::new(next);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        Ok(next)
    }

    fn apply(&self, snapshot: &mut Snapshot, row: &EndpointRow) {
        let known = snapshot.remove(row.org_id, row.id);
        if !row.enabled {
            return;
        }
        match self.subscriber(row, known.as_deref()) {
            Ok(subscriber) => snapshot.insert(row.org_id, subscriber),
            // Its deliveries stay in the table until the operator has mended it.
            Err(error) => {
                tracing::error!(endpoint_id = %row.id, error = format!("{error:#}"), "unusable endpoint");
            }
        }
    }

    fn subscriber(&self, row: &EndpointRow, known: Option<&Endpoint>) -> anyhow::Result<Subscriber> {
        let endpoint = row
            .url
            .as_deref()
            .map(|url| row.endpoint(url, known, &self.secrets_key, &self.policy));
        Ok(Subscriber {
            endpoint_id: row.id,
            push: endpoint.transpose()?.map(Arc::new),
            event_types: row.event_types.clone(),
            filter: row.filter()?.map(Arc::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_exactly_or_by_prefix() {
        assert!(matches("order.created", "order.created"));
        assert!(!matches("order.created", "order.created.v2"));
        assert!(matches("order.*", "order.created"));
        assert!(!matches("order.*", "orders.created"));
        assert!(matches("*", "anything"));
    }
}
