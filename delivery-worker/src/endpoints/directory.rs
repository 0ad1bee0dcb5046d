//! Which endpoints an event goes to.
//!
//! The endpoints are held in memory. The database counts their changes, and the statement that stores events
//! compares the count: a worker that is behind stores nothing, reads the changes and tries again. So an event
//! that was accepted after a change is always fanned out with it, with no message that could be lost.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use shared::domain::endpoint::{EndpointKind, Format, OnExhausted};
use shared::domain::event::Event;
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::{EndpointId, OrgId};
use shared::secret::SecretsKey;

use crate::endpoints::endpoint::{Endpoint, EndpointRow};
use crate::endpoints::event_types::EventTypes;
use crate::endpoints::retry::RetryPolicy;
use crate::endpoints::subscribers::{Subscriber, Subscribers, Taker, Target};
use crate::slices::Slices;
use crate::store::warm::WarmPool;

/// All enabled endpoints as of one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The database's count of changes up to which this was read.
    pub version: i64,
    /// The most that the filters of one event may take.
    filter_steps: u32,
    by_id: HashMap<EndpointId, Arc<Endpoint>>,
    by_organization: HashMap<OrgId, Arc<Subscribers>>,
}

impl Snapshot {
    /// Without endpoints, and older than any that was read.
    fn empty(filter_steps: u32) -> Self {
        Self {
            version: -1,
            filter_steps,
            ..Self::default()
        }
    }

    /// Whether it came from the database.
    pub(crate) fn is_read(&self) -> bool {
        self.version >= 0
    }

    /// The endpoints of an organisation, if it has any.
    pub(crate) fn of(&self, org_id: OrgId) -> Option<&Subscribers> {
        self.by_organization
            .get(&org_id)
            .map(|subscribers| &**subscribers)
    }

    /// The endpoints that an event goes to: see [`Subscribers::takers`].
    pub(crate) async fn takers(&self, event: &Event<'_>, slices: &mut Slices) -> Vec<Taker<'_>> {
        match self.of(event.org_id) {
            Some(subscribers) => subscribers.takers(event, self.filter_steps, slices).await,
            None => Vec::new(),
        }
    }

    /// An endpoint that deliveries are sent to, when it is enabled.
    pub(crate) fn get(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.by_id.get(&id)
    }

    /// All endpoints that deliveries are sent to.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_id.values()
    }

    fn remove(&mut self, org_id: OrgId, id: EndpointId) -> Option<Arc<Endpoint>> {
        if let Some(subscribers) = self.by_organization.get_mut(&org_id) {
            Arc::make_mut(subscribers).remove(id);
        }
        self.by_id.remove(&id)
    }

    fn insert(&mut self, org_id: OrgId, subscriber: Subscriber) {
        if let Some(endpoint) = subscriber.target.webhook() {
            self.by_id.insert(endpoint.id, endpoint.clone());
        }
        Arc::make_mut(self.by_organization.entry(org_id).or_default()).insert(subscriber);
    }
}

/// The endpoints in memory.
#[derive(Debug)]
pub(crate) struct Directory {
    database: WarmPool,
    secrets_key: SecretsKey,
    policy: RetryPolicy,
    snapshot: RwLock<Arc<Snapshot>>,
    refresh: tokio::sync::Mutex<()>,
}

impl Directory {
    /// Without endpoints. `policy` is for endpoints that have none of their own; the filters of one event take at most
    /// `filter_steps`.
    pub(crate) fn new(
        database: WarmPool,
        secrets_key: SecretsKey,
        policy: RetryPolicy,
        filter_steps: u32,
    ) -> Self {
        let snapshot = Snapshot::empty(filter_steps);
        Self {
            database,
            secrets_key,
            policy,
            snapshot: RwLock::new(Arc::new(snapshot)),
            refresh: tokio::sync::Mutex::default(),
        }
    }

    /// The endpoints as they were last read.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads what has changed since the last read.
    ///
    /// # Errors
    /// When Postgres does not answer; also when it cannot be known what an endpoint is or wants, because a later release
    /// wrote its kind or its filter: this worker must not store events then.
    pub(crate) async fn refresh(&self) -> Result<Arc<Snapshot>, sqlx::Error> {
        let _turn = self.refresh.lock().await;
        self.database.pool().within(self.read()).await
    }

    async fn read(&self) -> Result<Arc<Snapshot>, sqlx::Error> {
        let before = self.snapshot();
        let mut connection = self.database.acquire().await?;
        // Read before the rows, which then hold every change up to this version, and perhaps later ones.
        let version = sqlx::query_scalar!("select version from endpoint_version")
            .fetch_one(&mut *connection)
            .await?;
        if version == before.version {
            connection.keep();
            return Ok(before);
        }
        // A restored database counts from an earlier number, and what is in memory may never have happened there.
        let before = if version < before.version {
            Arc::new(Snapshot::empty(before.filter_steps))
        } else {
            before
        };
        let rows = sqlx::query_as!(
            EndpointRow,
            r#"select id as "id: EndpointId", org_id as "org_id: OrgId", kind as "kind: EndpointKind", url,
                      event_types as "event_types: Vec<EventTypePattern>", filter, secret, previous_secret,
                      previous_secret_expires_at, headers, format as "format: Format", max_in_flight, timeout_ms,
                      rate_limit_per_second, ordered, on_exhausted as "on_exhausted: OnExhausted",
                      retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                      (status = 'enabled' and deleted_at is null) as "enabled!"
               from endpoints where version > $1"#,
            before.version,
        )
        .fetch_all(&mut *connection)
        .await?;
        connection.keep();
        let mut next = Snapshot {
            version,
            ..(*before).clone()
        };
        for row in &rows {
            self.apply(&mut next, row)?;
        }
        let next = Arc::new(next);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        Ok(next)
    }

    fn apply(&self, snapshot: &mut Snapshot, row: &EndpointRow) -> Result<(), sqlx::Error> {
        let known = snapshot.remove(row.org_id, row.id);
        if row.enabled {
            let filter = row.filter().map_err(|error| {
                let text = format!("endpoint {}: the filter cannot be read: {error:#}", row.id);
                sqlx::Error::Decode(text.into())
            })?;
            let subscriber = Subscriber {
                endpoint_id: row.id,
                target: match row.kind {
                    EndpointKind::Pull => Target::Pull,
                    EndpointKind::Push => Target::Webhook(self.endpoint(row, known.as_deref()).map(Arc::new)),
                },
                ordered: row.ordered,
                types: Arc::new(EventTypes::new(&row.event_types)),
                filter: filter.map(Arc::new),
            };
            snapshot.insert(row.org_id, subscriber);
        }
        Ok(())
    }

    fn endpoint(&self, row: &EndpointRow, known: Option<&Endpoint>) -> Option<Endpoint> {
        let endpoint = row.endpoint(known, &self.secrets_key, &self.policy);
        endpoint
            .inspect_err(|error| {
                let error = format!("{error:#}");
                tracing::error!(endpoint_id = %row.id, error, "unusable endpoint, its deliveries wait in the table");
            })
            .ok()
    }
}
