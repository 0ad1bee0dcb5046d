//! Claiming due deliveries from the table: retries, what found no permit at intake, what a dead worker left, and
//! everything of endpoints that are ordered, paced or failing.
//!
//! Claims are fair by endpoint: each endpoint with permits gets a few of its own due rows, so a million due rows of one
//! endpoint do not slow the others. Rows that are not due cost no work: an endpoint is looked at when one may be due.
//!
//! Imports `store`, `endpoints`, `send` and `record`, and one function each of `intake` and `chores`.

pub(crate) mod floors;

mod agenda;
mod survey;
mod share;
mod divide;
mod unordered;
mod ordered;
mod pace;
mod claimed;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::id::EndpointId;
use sqlx::PgConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::claim::agenda::{Agenda, WalkFrom};
use crate::claim::claimed::Claimed;
use crate::claim::floors::FloorRequests;
use crate::claim::ordered::Cursors;
use crate::claim::share::Share;
use crate::claim::survey::Waiting;
use crate::crash::{self, Point};
use crate::endpoints::directory::{Directory, Snapshot};
use crate::endpoints::permits::Permits;
use crate::record::probes;
use crate::send::Dispatcher;
use crate::store::warm::WarmPool;

/// Most endpoints that one claim looks at. Those that have waited longest come first.
const MAX_LOOKED_AT: usize = 512;

/// Endpoints in one part of the walk over all that have pending rows.
const WALK_LENGTH: usize = 200;

/// Claims until the stop.
#[derive(Debug)]
pub(crate) struct Claimer {
    /// The database.
    pub database: WarmPool,
    /// The endpoints.
    pub directory: Arc<Directory>,
    /// What limits the claims.
    pub permits: Permits,
    /// Where the claimed deliveries go.
    pub dispatcher: Dispatcher,
    /// Where ordered deliveries ask how far their streams are stored.
    pub floors: FloorRequests,
    /// How often the table is searched when no permit wakes the claimer.
    pub interval: Duration,
    /// How much longer a lease lasts than the endpoint's timeout.
    pub lease_margin: Duration,
}

/// What one claim leaves for the next.
#[derive(Default)]
struct Rounds {
    /// Endpoints whose gates were told that they are held.
    held: HashSet<EndpointId>,
    agenda: Agenda,
    cursors: Cursors,
    ordered_first: bool,
    /// The last endpoint that was given permits. The next claim begins after it.
    last_served: Option<EndpointId>,
}

impl Claimer {
    /// Searches the table at every interval, and at once when a backlogged endpoint has a permit again.
    ///
    /// # Errors
    /// When Postgres refuses a statement for another reason than being away: the worker is broken.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut rounds = Rounds::default();
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_tick = tokio::select! {
                _ = tick.tick() => true,
                () = self.permits.freed() => false,
                () = stop.cancelled() => return Ok(()),
            };
            let claim = self.claim_once(&mut rounds, is_tick);
            match self.database.pool().within(claim).await {
                Ok(()) => {}
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, "cannot look for due deliveries, trying again");
                    let _ = stop.run_until_cancelled(tokio::time::sleep(self.interval)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn claim_once(&self, rounds: &mut Rounds, is_tick: bool) -> Result<(), sqlx::Error> {
        if self.dispatcher.is_behind() {
            return Ok(());
        }
        let endpoints = self.directory.refresh().await?;
        let mut connection = self.database.acquire().await?;
        if is_tick {
            self.mark_held(&mut connection, &endpoints, &mut rounds.held)
                .await?;
        }
        let waiting = self
            .survey(&mut connection, &endpoints, &mut rounds.agenda, is_tick)
            .await?;
        let mut shares = self.shares(&mut connection, &endpoints, waiting).await?;
        share::begin_after(&mut shares, rounds.last_served);
        // In turn, so that neither the ordered nor the other deliveries of an endpoint take all its permits for long.
        rounds.ordered_first = !rounds.ordered_first;
        if !shares.is_empty() {
            crash::reach(Point::Claiming);
        }
        for ordered in [rounds.ordered_first, !rounds.ordered_first] {
            let claimed = if ordered {
                let cursors = &mut rounds.cursors;
                ordered::claim(&mut connection, &mut shares, cursors, &self.permits, &self.floors).await?
            } else {
                unordered::claim(&mut connection, &mut shares, &self.permits).await?
            };
            if !claimed.is_empty() {
                crash::reach(Point::Claimed);
            }
            metrics::counter!("penstock_deliveries_claimed_total").increment(claimed.len() as u64);
            self.start(&mut shares, claimed);
            if !ordered {
                for share in shares.iter().filter(|share| share.waiting.has_due()) {
                    // A permit is left over: the endpoint has no more due rows.
                    share.endpoint.gate.set_backlogged(share.permits.is_empty());
                }
            }
        }
        if let Some(last) = shares.iter().rfind(|share| share.served) {
            rounds.last_served = Some(last.endpoint.id);
        }
        probes::give_back_probes(&mut connection, &share::unused_probes(&shares)).await?;
        pace::give_back(&mut connection, &shares).await?;
        connection.keep();
        Ok(())
    }

    /// What waits for endpoints that may have due rows: at a tick for all of them, otherwise only for those with free permits.
    async fn survey(
        &self,
        connection: &mut PgConnection,
        endpoints: &Snapshot,
        agenda: &mut Agenda,
        is_tick: bool,
    ) -> Result<Vec<Waiting>, sqlx::Error> {
        let now = Instant::now();
        for (id, look_at) in self.permits.take_notes() {
            agenda.note(id, look_at, now);
        }
        if is_tick || agenda.is_first_round() {
            self.walk(connection, endpoints, agenda).await?;
        }
        let now = Instant::now();
        let may_be_sent = |id| {
            let endpoint = endpoints.get(id)?;
            Some(is_tick || endpoint.gate.available() > 0)
        };
        let due = agenda.due(now, MAX_LOOKED_AT, may_be_sent);
        let waiting = if due.is_empty() {
            Vec::new()
        } else {
            survey::look(connection, &due).await?
        };
        agenda.looked(now, &waiting);
        if is_tick {
            for endpoint in agenda
                .take_without_due()
                .into_iter()
                .filter_map(|id| endpoints.get(id))
            {
                endpoint.gate.set_backlogged(false);
            }
        }
        Ok(waiting)
    }

    /// Takes the next part of the walk, if it is time.
    async fn walk(
        &self,
        connection: &mut PgConnection,
        endpoints: &Snapshot,
        agenda: &mut Agenda,
    ) -> Result<(), sqlx::Error> {
        let now = Instant::now();
        let Some(WalkFrom(after)) = agenda.next_walk(now) else {
            return Ok(());
        };
        let found = survey::walk(connection, after, WALK_LENGTH).await?;
        let is_full = found.len() == WALK_LENGTH;
        agenda.walked(now, &found, is_full, |id| endpoints.get(id).is_some());
        if agenda.is_first_round() {
            self.permits.wake_claimer();
        }
        Ok(())
    }

    /// Tells the gates which endpoints are held, so that new events of these endpoints do not start at once.
    async fn mark_held(
        &self,
        connection: &mut PgConnection,
        endpoints: &Snapshot,
        marked: &mut HashSet<EndpointId>,
    ) -> Result<(), sqlx::Error> {
        let known_at = UnixMicros::now();
        let held: HashSet<_> = probes::held(connection).await?.into_iter().collect();
        for id in marked.union(&held) {
            match endpoints.get(*id) {
                Some(endpoint) if held.contains(id) => endpoint.gate.hold(),
                Some(endpoint) => endpoint.gate.release(known_at),
                None => {}
            }
        }
        *marked = held;
        Ok(())
    }

    fn start(&self, shares: &mut [Share], claimed: Vec<Claimed>) {
        let mut shares: HashMap<_, _> = shares
            .iter_mut()
            .map(|share| (share.endpoint.id, share))
            .collect();
        for delivery in claimed {
            let Some(share) = shares.get_mut(&delivery.endpoint_id) else {
                continue;
            };
            if let Some(permit) = share.permits.pop() {
                share.turns -= 1;
                self.dispatcher
                    .start(delivery.into_job(share.endpoint.clone()), permit);
            }
        }
    }
}
