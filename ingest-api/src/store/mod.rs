//! The ingest API's SQL, by resource.
//!
//! Imports `config` and `domain`. Knows no HTTP.

mod error;
mod endpoints;
mod deliveries;
mod events;
mod pull;
mod legacy;
mod accounts;
mod figures;

use std::time::Duration;

use shared::db::explain::{self, Facts};
use shared::db::limited::{LimitedPool, Transaction};
use shared::db::{self, SESSION_SETTINGS};
use shared::domain::id::{EventId, OrgId};
use shared::process::shutdown::Tasks;
use sqlx::PgPool;

use self::endpoints::creations::Creations;
use crate::config::DatabaseConfig;
use crate::domain::access::actor::Actor;
use crate::domain::accounts::maximum::Maximum;

pub(crate) use self::accounts::audit_log::{AuditFilter, AuditRow};
pub(crate) use self::accounts::ended_sessions::EndedRow;
pub(crate) use self::accounts::key_lookups::{KeyRow, KeyUse};
pub(crate) use self::accounts::keys::{KeyStored, KeyToStore, Rotation};
pub(crate) use self::accounts::tenants::{TenantExpected, TenantFilter, TenantRow, TenantWritten};
pub(crate) use self::accounts::usage::Days;
pub(crate) use self::deliveries::dead::DeadRow;
pub(crate) use self::deliveries::recoveries::{NewRecovery, RecoveryRow};
pub(crate) use self::deliveries::replay::Replayed;
pub(crate) use self::deliveries::{DeliveryFilter, EndpointDeliveryRow, MAX_COUNTED, OutcomeCount};
pub(crate) use self::endpoints::EndpointRow;
pub(crate) use self::endpoints::hours::HourRow;
pub(crate) use self::error::{RETRY_AFTER, unavailable};
pub(crate) use self::events::places::EventPlace;
pub(crate) use self::events::{AttemptRow, DeliveryRow, EventFilter, EventRow, PulledRow};
pub(crate) use self::figures::history::{COUNTED_OF_EACH, CountedRow, OutcomeRow, Stretches};
pub(crate) use self::figures::stats::{BacklogRow, EndpointCounts, RecentRow, TroubledRow, WaitingRow};
pub(crate) use self::figures::tail::{Arrival, LATE, Seconds, TailLook, TailedDelivery, TailedEvent};
pub(crate) use self::figures::workers::WorkerRow;
pub(crate) use self::legacy::{InboxFilter, InboxRow, OrganizationWithWebhook};
pub(crate) use self::pull::leases::{ExtendedRow, NackedRow};
pub(crate) use self::pull::limits::PullEndpointRow;
pub(crate) use self::pull::{AcknowledgedRow, Pull};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Connections for changes of keys.
const KEY_CHANGES: u32 = 2;

/// A change may become visible this long after the time that it bears. Its transaction has several statements, each with a time
/// limit, and a commit, which may wait for a standby or a slow disk.
pub(crate) const LATE_COMMIT: Duration = Duration::from_secs(40);

/// How long a request waits beyond the time limit of its statement: for a connection, and for the end of the statement.
const MARGIN: Duration = Duration::from_secs(5);

/// Begins a transaction that reads a page and the page's end from one snapshot. Without bitmap scans the planner reads
/// the events in the order of their index, up to the page's end. With them it may read and sort all events of an
/// organisation, because it expects the 10 000 events that a page looks at to be most of them.
const SNAPSHOT: &str = "begin isolation level repeatable read read only; set local enable_bitmapscan = off";

/// A page, or a pull, ends before the event that would take its payloads beyond this many bytes, but holds one event.
const MAX_PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// The database, as far as this service uses it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: LimitedPool,
    // A pool of its own, so that keys can be looked up and revoked while other requests hold all connections of the
    // first.
    key_lookups: LimitedPool,
    key_changes: LimitedPool,
    creations: Creations,
    /// Who asks for changes.
    actor: Option<Actor>,
}

impl Store {
    /// Connects when it is first used. What goes on when its request goes away runs in `tasks`, which must outlive the requests.
    ///
    /// # Errors
    /// When the URL is not one of Postgres.
    pub(crate) fn new(config: &DatabaseConfig, key_lookups: u32, tasks: &Tasks) -> anyhow::Result<Self> {
        // For Postgres, zero is no limit.
        let timeout = config.statement_timeout.max(Duration::from_millis(1));
        let milliseconds = timeout.as_millis().to_string();
        let settings = [SESSION_SETTINGS, &[("statement_timeout", &milliseconds)]].concat();
        let pool = |connections| {
            db::pool("ingest-api", &config.address, connections, &settings)
                .map(|pool| LimitedPool::new(pool, timeout.saturating_add(MARGIN)))
        };
        Ok(Self {
            pool: pool(config.database_connections)?,
            key_lookups: pool(key_lookups)?,
            key_changes: pool(KEY_CHANGES)?,
            creations: Creations::new(tasks.clone()),
            actor: None,
        })
    }

    /// What is stored of an event, whoever's it is.
    pub(crate) async fn find_facts(&self, id: EventId) -> Result<Option<Facts>> {
        let found = explain::find(self.pool.connections(), id);
        self.pool.within(found).await
    }

    /// Shows how many connections are in use.
    pub(crate) fn show_pools(&self) {
        for (name, pool) in ["requests", "key_lookups", "key_changes"]
            .into_iter()
            .zip(self.pools())
        {
            db::show_pool(name, &pool);
        }
    }

    /// Its connections.
    pub(crate) fn pools(&self) -> [PgPool; 3] {
        [&self.pool, &self.key_lookups, &self.key_changes].map(|pool| pool.connections().clone())
    }

    /// The transaction that reads a page. Dropping it ends it.
    async fn snapshot(&self) -> Result<Transaction> {
        self.pool.begin_with(SNAPSHOT).await
    }
}

/// The result of an insert under a limit per organisation.
#[derive(Debug)]
pub(crate) enum Stored<T> {
    /// The row is stored.
    Done(T),
    /// Its owner does not exist.
    Missing,
    /// Its owner is being deleted.
    OwnerLeaves,
    /// There are as many rows as there may be.
    Full(Maximum),
}

/// Locks an organisation until the transaction ends, so that its counted rows stay as many as a later statement counts.
/// False when the organisation does not exist or is being deleted.
async fn lock_organization(transaction: &mut Transaction, org_id: OrgId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select true as "there!" from organizations
           where id = $1 and deleting_since is null for no key update"#,
        org_id.as_uuid(),
    );
    Ok(found.fetch_optional(&mut **transaction).await?.is_some())
}
