//! Which endpoints an event goes to.
//!
//! The endpoints are held in memory. The database counts their changes, and the statement that stores events
//! compares the count: a worker that has not read a change of an endpoint that they may go to stores nothing, reads the
//! changes and tries again. So an event that was accepted after a change is always fanned out with it, with no message
//! that could be lost.
//!
//! A change costs the same however many other endpoints there are: maps share what is not changed.

use std::sync::{Arc, PoisonError, RwLock};

use rpds::HashTrieMapSync;
use shared::domain::endpoint::{EndpointKind, Format, OnExhausted};
use shared::domain::event::Event;
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::{EndpointId, OrgId};
use shared::domain::name::Tenant;
use shared::secret::SecretsKey;

use crate::endpoints::endpoint::{Endpoint, EndpointRow, EventsOf};
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
    by_id: HashTrieMapSync<EndpointId, Arc<Endpoint>>,
    by_organization: HashTrieMapSync<OrgId, Organization>,
}

/// The endpoints of an organisation, by whose events they get.
#[derive(Clone, Debug, Default)]
struct Organization {
    /// Those of no tenant.
    own: Arc<Subscribers>,
    /// Those of one tenant.
    by_tenant: HashTrieMapSync<Tenant, Arc<Subscribers>>,
    /// All of them.
    of_all: Arc<Subscribers>,
}

impl Organization {
    /// Changes the endpoints that get these events.
    fn change(&mut self, events: &EventsOf, change: impl FnOnce(&mut Subscribers)) {
        match events {
            EventsOf::NoTenant => change(Arc::make_mut(&mut self.own)),
            EventsOf::AllTenants => change(Arc::make_mut(&mut self.of_all)),
            EventsOf::Tenant(tenant) => {
                let mut subscribers = self.by_tenant.get(tenant).cloned().unwrap_or_default();
                change(Arc::make_mut(&mut subscribers));
                if subscribers.len() == 0 {
                    self.by_tenant.remove_mut(tenant);
                } else {
                    self.by_tenant.insert_mut(tenant.clone(), subscribers);
                }
            }
        }
    }
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

    /// The endpoints that an event may go to: those of its tenant, or of no tenant, and those of all.
    pub(crate) fn of(&self, event: &Event<'_>) -> impl Iterator<Item = &Subscribers> {
        let organization = self.by_organization.get(&event.org_id);
        let those = organization.and_then(|organization| match event.tenant {
            Some(tenant) => organization.by_tenant.get(tenant),
            None => Some(&organization.own),
        });
        let of_all = organization.map(|organization| &organization.of_all);
        let both = those.into_iter().chain(of_all).map(|subscribers| &**subscribers);
        both.filter(|subscribers| subscribers.len() > 0)
    }

    /// Whether an event is of a tenant that has no endpoint of its own.
    pub(crate) fn has_no_endpoint_of_tenant(&self, event: &Event<'_>) -> bool {
        event.tenant.is_some_and(|tenant| {
            let organization = self.by_organization.get(&event.org_id);
            organization.is_none_or(|organization| !organization.by_tenant.contains_key(tenant))
        })
    }

    /// The endpoints that an event goes to: see [`Subscribers::takers`].
    pub(crate) async fn takers(&self, event: &Event<'_>, slices: &mut Slices) -> Vec<Taker<'_>> {
        let (mut takers, mut steps) = (Vec::new(), self.filter_steps);
        for subscribers in self.of(event) {
            takers.append(&mut subscribers.takers(event, &mut steps, slices).await);
        }
        takers
    }

    /// An endpoint that deliveries are sent to, when it is enabled.
    pub(crate) fn get(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.by_id.get(&id)
    }

    /// All endpoints that deliveries are sent to.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_id.values()
    }

    /// Puts an endpoint in the place of what is known of it: `None` takes it out.
    fn replace(&mut self, row: &EndpointRow, subscriber: Option<Subscriber>) {
        match subscriber
            .as_ref()
            .and_then(|subscriber| subscriber.target.webhook())
        {
            Some(endpoint) => self.by_id.insert_mut(row.id, endpoint.clone()),
            None => _ = self.by_id.remove_mut(&row.id),
        }
        let known = self.by_organization.get(&row.org_id).cloned();
        let mut organization = known.unwrap_or_default();
        organization.change(&row.events_of(), |subscribers| {
            subscribers.remove(row.id);
            if let Some(subscriber) = subscriber {
                subscribers.insert(subscriber);
            }
        });
        self.by_organization.insert_mut(row.org_id, organization);
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
                      tenant as "tenant: Tenant", all_tenants,
                      (status = 'enabled' and tenant_enabled and deleted_at is null) as "enabled!"
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
        let mut subscriber = None;
        if row.enabled {
            let known = snapshot.get(row.id);
            let filter = row.filter().map_err(|error| {
                let text = format!("endpoint {}: the filter cannot be read: {error:#}", row.id);
                sqlx::Error::Decode(text.into())
            })?;
            subscriber = Some(Subscriber {
                endpoint_id: row.id,
                target: match row.kind {
                    EndpointKind::Pull => Target::Pull,
                    EndpointKind::Push => {
                        Target::Webhook(self.endpoint(row, known.map(|known| &**known)).map(Arc::new))
                    }
                },
                ordered: row.ordered,
                types: Arc::new(EventTypes::new(&row.event_types)),
                filter: filter.map(Arc::new),
            });
        }
        snapshot.replace(row, subscriber);
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
