//! Which endpoints an event goes to.
//!
//! The endpoints are held in memory. The database counts their changes, and the statement that stores events
//! compares the count: a worker that has not read a change of an endpoint that they may go to stores nothing, reads the
//! changes and tries again. So an event that was accepted after a change is always fanned out with it, with no message
//! that could be lost.
//!
//! The count is a row, not a sequence: whoever changes an endpoint holds the row until the change is committed. So changes are
//! seen in the order of their numbers, and who has read one has read all before it. A sequence gives numbers before the
//! commits, and the change with a lower one may be seen after that with a higher one, or never. Endpoints that one statement
//! makes have the same number.
//!
//! A change costs the same however many other endpoints there are: maps share what is not changed.

mod snapshot;

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::TryStreamExt as _;
use shared::domain::endpoint::EndpointKind;
use shared::secret::SecretsKey;

pub(crate) use self::snapshot::Snapshot;
use crate::endpoints::endpoint::EndpointRow;
use crate::endpoints::event_types::EventTypes;
use crate::endpoints::lazy::{KeysMet, LazyEndpoint, Opener};
use crate::endpoints::retry::RetryPolicy;
use crate::endpoints::subscribers::{Subscriber, Target};
use crate::store::warm::WarmPool;

/// The endpoints in memory.
#[derive(Debug)]
pub(crate) struct Directory {
    database: WarmPool,
    opener: Arc<Opener>,
    /// What most endpoints want, once for all of them.
    every_type: Arc<EventTypes>,
    snapshot: RwLock<Arc<Snapshot>>,
    refresh: tokio::sync::Mutex<KeysMet>,
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
            opener: Arc::new(Opener {
                key: secrets_key,
                policy,
            }),
            every_type: Arc::new(EventTypes::new(&[])),
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
        let mut keys_met = self.refresh.lock().await;
        self.database.pool().within(self.read(&mut keys_met)).await
    }

    async fn read(&self, keys_met: &mut KeysMet) -> Result<Arc<Snapshot>, sqlx::Error> {
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
        // One at a time: all of them together would take more memory than what is kept of them.
        let mut rows = EndpointRow::changed_since(&mut connection, before.version);
        let mut next = Snapshot {
            version,
            ..(*before).clone()
        };
        while let Some(row) = rows.try_next().await? {
            self.apply(&mut next, row, keys_met)?;
        }
        drop(rows);
        connection.keep();
        let next = Arc::new(next);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        Ok(next)
    }

    fn apply(
        &self,
        snapshot: &mut Snapshot,
        row: EndpointRow,
        keys_met: &mut KeysMet,
    ) -> Result<(), sqlx::Error> {
        let (id, org_id, events) = (row.id, row.org_id, row.events_of());
        let subscriber = if row.enabled {
            Some(self.subscriber(snapshot, row, keys_met)?)
        } else {
            None
        };
        snapshot.replace(id, org_id, &events, subscriber);
        Ok(())
    }

    fn subscriber(
        &self,
        snapshot: &Snapshot,
        mut row: EndpointRow,
        keys_met: &mut KeysMet,
    ) -> Result<Subscriber, sqlx::Error> {
        let filter = row.filter().map_err(|error| {
            let text = format!("endpoint {}: the filter cannot be read: {error:#}", row.id);
            sqlx::Error::Decode(text.into())
        })?;
        let types = match &*row.event_types {
            [] => self.every_type.clone(),
            some => Arc::new(EventTypes::new(some)),
        };
        // The row is kept until it is opened, which needs neither.
        (row.event_types, row.filter) = (Vec::new(), None);
        Ok(Subscriber {
            endpoint_id: row.id,
            ordered: row.ordered,
            types,
            filter: filter.map(Arc::new),
            target: match row.kind {
                EndpointKind::Pull => Target::Pull,
                EndpointKind::Push => Target::Webhook(self.webhook(snapshot, row, keys_met)),
            },
        })
    }

    fn webhook(&self, snapshot: &Snapshot, row: EndpointRow, keys_met: &mut KeysMet) -> Arc<LazyEndpoint> {
        let known = snapshot.opened(row.id);
        let is_first = keys_met.is_first(&row.secret);
        let endpoint = LazyEndpoint::new(row, self.opener.clone());
        if known.is_some() || is_first {
            endpoint.open(known);
        }
        Arc::new(endpoint)
    }
}
