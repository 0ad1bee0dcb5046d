//! Live tails: what is stored of an organisation, or of a tenant, told to whoever listens.
//!
//! While anyone listens, one task asks once a second for what is new, once for all listeners of a realm. What it finds goes
//! into a bounded log, from which each listener reads at its own pace. Whoever falls behind the log is told how much it
//! missed. Where nobody listens, nothing is asked.
//!
//! Imports `domain` and `store`. Knows no HTTP.

pub(crate) mod item;
pub(crate) mod log;
mod strand;
mod open;
mod following;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::StreamExt as _;
use shared::secret::random_bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::following::Following;
use self::log::{Log, Read};
use crate::domain::access::realm::Realm;
use crate::store::Store;

/// How often the table is asked for each realm.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a realm is followed after its last listener has left: a client that comes back misses nothing.
const LINGER: Duration = Duration::from_secs(15);

/// Realms that are asked for at once.
const AT_ONCE: usize = 4;

/// Most listeners of an organisation with its tenants, and of all, on this replica.
const MOST_EACH: u32 = 20;
const MOST: u32 = 200;

/// Most of an organisation's listeners that are one tenant's, and that are its tenants': the rest is for its own keys.
const MOST_OF_TENANT: u32 = 5;
const MOST_OF_TENANTS: u32 = 15;

/// Most realms that are followed, those that nobody listens to any more among them: one for each listener.
const MOST_REALMS: usize = MOST as usize;

/// The tails of this replica.
#[derive(Debug)]
pub(crate) struct Tails {
    realms: DashMap<Realm, Arc<Tail>>,
    /// How many listen with the keys of each realm.
    listeners: Mutex<HashMap<Realm, u32>>,
    /// Notified whenever somebody comes.
    entered: Notify,
    stop: CancellationToken,
}

/// What is told of one realm.
#[derive(Debug)]
struct Tail {
    /// Tells its numbers from those of another replica, and of an earlier tail.
    name: u64,
    log: Log,
    following: tokio::sync::Mutex<Following>,
    presence: Mutex<Presence>,
}

/// Who listens.
#[derive(Clone, Copy, Debug)]
struct Presence {
    listeners: u32,
    /// When the last one left.
    left_at: Instant,
}

impl Tail {
    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_left(&self, now: Instant) -> bool {
        let Presence { listeners, left_at } = *self.presence();
        listeners == 0 && now.saturating_duration_since(left_at) > LINGER
    }
}

impl Tails {
    /// Nobody listens yet; nobody listens beyond `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            realms: DashMap::new(),
            listeners: Mutex::default(),
            entered: Notify::new(),
            stop,
        }
    }

    /// When all listening ends.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Takes a seat among those that an answer goes on for. `owner` is the realm of the key. None when as many have one as may.
    pub(crate) fn sit(self: &Arc<Self>, owner: &Realm) -> Option<Seat> {
        let mut listeners = self.listeners();
        if !has_room(&listeners, owner) {
            return None;
        }
        *listeners.entry(owner.clone()).or_default() += 1;
        metrics::gauge!("penstock_listeners").increment(1);
        Some(Seat {
            tails: self.clone(),
            owner: owner.clone(),
        })
    }

    /// Listens to a realm from now on, with a key of `owner`. None when as many listen as may.
    pub(crate) fn enter(self: &Arc<Self>, owner: &Realm, realm: &Realm) -> Option<Place> {
        let seat = self.sit(owner)?;
        if self.realms.len() >= MOST_REALMS && !self.realms.contains_key(realm) {
            // Those that nobody listens to: otherwise one who comes and goes for many tenants would keep all others out.
            self.realms.retain(|_, tail| tail.presence().listeners > 0);
        }
        let entry = self.realms.entry(realm.clone()).or_insert_with(|| {
            Arc::new(Tail {
                name: u64::from_le_bytes(random_bytes()),
                log: Log::default(),
                following: tokio::sync::Mutex::new(Following::new(realm.clone())),
                presence: Mutex::new(Presence {
                    listeners: 0,
                    left_at: Instant::now(),
                }),
            })
        });
        // While the entry is held, nobody removes it.
        entry.presence().listeners += 1;
        let tail = entry.value().clone();
        drop(entry);
        self.entered.notify_one();
        let newest = tail.log.newest();
        Some(Place {
            tail,
            newest,
            _seat: seat,
        })
    }

    /// Asks for what is new of the realms that anyone listens to, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub(crate) async fn watch(self: Arc<Self>, store: Store) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let now = Instant::now();
            self.realms.retain(|_, tail| !tail.is_left(now));
            if self.realms.is_empty() {
                let _ = self.stop.run_until_cancelled(self.entered.notified()).await;
                continue;
            }
            let tails: Vec<_> = self.realms.iter().map(|entry| entry.value().clone()).collect();
            let turns = tails.into_iter().map(|tail| take_turn(tail, store.clone()));
            let turns = futures_util::stream::iter(turns).for_each_concurrent(AT_ONCE, |turn| turn);
            let _ = self.stop.run_until_cancelled(turns).await;
        }
        Ok(())
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<Realm, u32>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more may listen with a key of this realm.
fn has_room(listeners: &HashMap<Realm, u32>, owner: &Realm) -> bool {
    let is_neighbour = |realm: &Realm| realm.org_id == owner.org_id;
    let has_part = || {
        count(listeners, |realm| realm == owner) < MOST_OF_TENANT
            && count(listeners, |realm| is_neighbour(realm) && realm.tenant.is_some()) < MOST_OF_TENANTS
    };
    count(listeners, |_| true) < MOST
        && count(listeners, is_neighbour) < MOST_EACH
        && (owner.tenant.is_none() || has_part())
}

fn count(listeners: &HashMap<Realm, u32>, counts: impl Fn(&Realm) -> bool) -> u32 {
    let counted = listeners.iter().filter(|(realm, _)| counts(realm));
    counted.map(|(_, listening)| *listening).sum()
}

async fn take_turn(tail: Arc<Tail>, store: Store) {
    let mut items = Vec::new();
    let mut following = tail.following.lock().await;
    if let Err(error) = following.take_turn(&store, &mut items).await {
        tracing::debug!(%error, "cannot look for what is new, trying again");
    }
    tail.log.push(items);
}

/// A seat. It is left by its drop, also when the client goes away.
#[derive(Debug)]
pub(crate) struct Seat {
    tails: Arc<Tails>,
    owner: Realm,
}

impl Drop for Seat {
    fn drop(&mut self) {
        metrics::gauge!("penstock_listeners").decrement(1);
        let mut listeners = self.tails.listeners();
        if let Some(own) = listeners.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                listeners.remove(&self.owner);
            }
        }
    }
}

/// A place at the tail of a realm, left by its drop.
#[derive(Debug)]
pub(crate) struct Place {
    tail: Arc<Tail>,
    newest: watch::Receiver<u64>,
    _seat: Seat,
}

impl Place {
    /// The name of the tail, which only this one has.
    pub(crate) fn name(&self) -> u64 {
        self.tail.name
    }

    /// The number of what comes next.
    pub(crate) fn next(&self) -> u64 {
        self.tail.log.next()
    }

    /// What came from this number on, as far as it is kept.
    pub(crate) fn read(&mut self, from: u64) -> Read {
        // Before the log is read: what comes meanwhile wakes the listener again.
        self.newest.mark_unchanged();
        self.tail.log.read(from)
    }

    /// Waits until more comes after the last look.
    pub(crate) async fn more(&mut self) {
        if self.newest.changed().await.is_err() {
            // The tail is there as long as this place.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut presence = self.tail.presence();
        presence.listeners -= 1;
        presence.left_at = Instant::now();
    }
}

#[cfg(test)]
mod tests;
