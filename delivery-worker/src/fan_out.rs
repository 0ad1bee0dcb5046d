//! Which endpoints an event goes to.
//!
//! The endpoints are held in memory. The database counts their changes, and the statement that stores events
//! compares the count: a worker that is behind stores nothing, reads the changes and tries again. So an event
//! that was accepted after a change is always fanned out with it, with no message that could be lost.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use shared::event::{Event, OPERATIONAL_TYPES, is_json};
use shared::filter::PayloadFilter;
use shared::id::{EndpointId, OrgId};
use shared::secret::SecretsKey;

use crate::endpoint::{Endpoint, EndpointRow, Format, OnExhausted};
use crate::retry::RetryPolicy;
use crate::warm::WarmPool;

/// An enabled endpoint of either kind, and which of its organisation's events it wants.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Its owner pulls the deliveries.
    pub pull: bool,
    /// Deliveries that have an ordering key keep their order.
    pub ordered: bool,
    /// Where deliveries are sent. Nothing when they are pulled, or when this worker cannot send them: they wait in the
    /// table for one that can.
    pub push: Option<Arc<Endpoint>>,
    event_types: Vec<String>,
    filter: Option<Arc<PayloadFilter>>,
}

impl Subscriber {
    /// The payload is looked at only when there is a filter.
    fn wants(&self, event: &Event<'_>) -> bool {
        self.wants_type(event.event_type) && self.filter.as_ref().is_none_or(|filter| passes(filter, event))
    }

    /// Events that Penstock itself sends go only to those who ask for them.
    fn wants_type(&self, event_type: &str) -> bool {
        let is_operational = OPERATIONAL_TYPES.contains(&event_type);
        let takes_all = self.event_types.is_empty() && !is_operational;
        takes_all
            || self
                .event_types
                .iter()
                .any(|pattern| matches(pattern, event_type) && !(is_operational && pattern == "*"))
    }
}

fn passes(filter: &PayloadFilter, event: &Event<'_>) -> bool {
    is_json(event.content_type) && filter.matches(event.data)
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
    /// The endpoints that want an event, or the one that it is for.
    pub fn matching<'a>(&'a self, event: &'a Event<'_>) -> impl Iterator<Item = &'a Subscriber> {
        let subscribers = self.by_organization.get(&event.org_id);
        let subscribers = subscribers.map(Vec::as_slice).unwrap_or_default();
        subscribers.iter().filter(|subscriber| match event.only_to {
            Some(endpoint_id) => subscriber.endpoint_id == endpoint_id,
            None => subscriber.wants(event),
        })
    }

    /// An endpoint that deliveries are sent to, when it is enabled.
    pub fn get(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.by_id.get(&id)
    }

    /// All endpoints that deliveries are sent to.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_id.values()
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
    database: WarmPool,
    secrets_key: SecretsKey,
    policy: RetryPolicy,
    snapshot: RwLock<Arc<Snapshot>>,
    refresh: tokio::sync::Mutex<()>,
}

impl Directory {
    /// Empty; its version is older than any. `policy` is for the endpoints that have none of their own.
    pub fn new(database: WarmPool, secrets_key: SecretsKey, policy: RetryPolicy) -> Self {
        let snapshot = Snapshot {
            version: -1,
            ..Snapshot::default()
        };
        Self {
            database,
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
    /// When Postgres does not answer; also when it cannot be known what an endpoint wants, because a later release wrote
    /// its filter: this worker must not store events then.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, sqlx::Error> {
        let _turn = self.refresh.lock().await;
        self.database.within_limit(self.read()).await
    }

    async fn read(&self) -> Result<Arc<Snapshot>, sqlx::Error> {
        let before = self.snapshot();
        let mut connection = self.database.acquire().await?;
        // Read first: the rows read after it hold every change up to it, and perhaps later ones.
        let version = sqlx::query_scalar!("select version from endpoint_version")
            .fetch_one(&mut *connection)
            .await?;
        if version == before.version {
            connection.keep();
            return Ok(before);
        }
        // A database that was restored counts from an earlier number: what is held is of a history that never was.
        let before = if version < before.version {
            Arc::default()
        } else {
            before
        };
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
                pull: row.url.is_none(),
                ordered: row.ordered,
                push: self.endpoint(row, known.as_deref()).map(Arc::new),
                event_types: row.event_types.clone(),
                filter: filter.map(Arc::new),
            };
            snapshot.insert(row.org_id, subscriber);
        }
        Ok(())
    }

    fn endpoint(&self, row: &EndpointRow, known: Option<&Endpoint>) -> Option<Endpoint> {
        let url = row.url.as_deref()?;
        let endpoint = row.endpoint(url, known, &self.secrets_key, &self.policy);
        endpoint
            .inspect_err(|error| {
                let error = format!("{error:#}");
                tracing::error!(endpoint_id = %row.id, error, "unusable endpoint, its deliveries wait in the table");
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::UnixMicros;
    use shared::id::EventId;

    use super::*;

    fn event<'a>(event_type: &'a str, data: &'a [u8]) -> Event<'a> {
        let accepted_at = UnixMicros::new(1_700_000_000_000_000);
        Event {
            id: EventId::at(accepted_at),
            org_id: OrgId::generate(),
            event_type,
            accepted_at,
            content_type: shared::event::JSON,
            idempotency_key: None,
            traceparent: None,
            cloudevent: None,
            ordering_key: None,
            only_to: None,
            data,
        }
    }

    fn subscriber(event_types: &[&str], filter: Option<&str>) -> Subscriber {
        Subscriber {
            endpoint_id: EndpointId::generate(),
            pull: true,
            ordered: false,
            push: None,
            event_types: event_types.iter().map(ToString::to_string).collect(),
            filter: filter.map(|filter| Arc::new(PayloadFilter::parse(filter).unwrap())),
        }
    }

    #[test]
    fn patterns_match_exactly_or_by_prefix() {
        let wants = |pattern: &str, event_type| subscriber(&[pattern], None).wants_type(event_type);
        assert!(wants("order.created", "order.created"));
        assert!(!wants("order.created", "order.created.v2"));
        assert!(wants("order.*", "order.created"));
        assert!(!wants("order.*", "orders.created"));
        assert!(wants("*", "anything"));
    }

    #[test]
    fn operational_events_go_only_to_endpoints_that_name_them() {
        for event_type in OPERATIONAL_TYPES {
            let wants = |patterns: &[&str]| subscriber(patterns, None).wants_type(event_type);
            assert!(
                !wants(&[]) && !wants(&["*"]) && !wants(&["order.*", "*"]),
                "{event_type}"
            );
            let (family, _) = event_type.split_once('.').unwrap();
            assert!(
                wants(&["*", event_type]) && wants(&[&format!("{family}.*")]),
                "{event_type}"
            );
        }
        assert!(subscriber(&[], None).wants_type("endpoint.created"));
    }

    #[test]
    fn a_filter_looks_at_json_payloads_of_the_right_type() {
        let subscriber = subscriber(&["order.*"], Some(r#"{"/total":{"gt":100}}"#));
        let large = br#"{"total":101}"#;
        assert!(subscriber.wants(&event("order.created", large)));
        assert!(!subscriber.wants(&event("order.created", br#"{"total":100}"#)));
        assert!(!subscriber.wants(&event("invoice.paid", large)));
        let text = Event {
            content_type: "text/plain",
            ..event("order.created", large)
        };
        assert!(!subscriber.wants(&text));
    }

    #[test]
    fn an_event_for_one_endpoint_goes_there_whatever_it_filters_and_nowhere_else() {
        let event = event("endpoint.test", b"1");
        let (target, other) = (subscriber(&["order.*"], None), subscriber(&[], None));
        let mut snapshot = Snapshot::default();
        snapshot.insert(event.org_id, target.clone());
        snapshot.insert(event.org_id, other.clone());
        let found = |event: &Event<'_>| -> Vec<_> {
            snapshot
                .matching(event)
                .map(|subscriber| subscriber.endpoint_id)
                .collect()
        };
        let only_to = Some(target.endpoint_id);
        assert_eq!(found(&event), [other.endpoint_id]);
        assert_eq!(found(&Event { only_to, ..event }), [target.endpoint_id]);
        let stranger = OrgId::generate();
        assert_eq!(
            found(&Event {
                only_to,
                org_id: stranger,
                ..event
            }),
            []
        );
    }
}
