//! Looking host names up, with a bound for each organisation and for each of its tenants.
//!
//! The system's resolver blocks a thread until it is done, long after the attempt that asked has ended. New connections to
//! Postgres and NATS are looked up on the same threads. So webhooks get only some of them, each organisation only some of
//! those, and each of its tenants only some of the organisation's. An organisation's attempts that ask for the same name at
//! the same time wait for the same answer.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use shared::domain::id::OrgId;
use shared::shares::{Owner, Shares};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Look-ups at once. Tokio's pool has 512 threads that may block. Each takes a descriptor or two.
pub(crate) const SLOTS: usize = 128;

/// Look-ups at once of one organisation.
const SLOTS_EACH: usize = 16;

/// Of these, look-ups at once of one tenant, or for the organisation's own webhooks when it has tenants.
const SLOTS_OWNER: usize = 4;

/// How long a look-up may wait for its turn: shorter than a connection may take, so that an attempt ends with the reason.
const MAX_WAIT: Duration = Duration::from_secs(4);

/// How long a look-up may take, and after how much of that it is asked whether the name server answers anything at all.
const MAX_TIME: Duration = Duration::from_millis(4_500);
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A name that does not exist; every name server that works says so (RFC 6761). No answer means that the name server is
/// away, and that its silence about another name is not that name's fault.
const CONTROL: &str = "penstock.invalid.";

tokio::task_local! {
    /// Whose webhook this task is sending.
    static SENDER: Owner;
}

/// A host name that leads to no address.
#[derive(Clone, Debug, Error)]
pub(crate) enum LookupFailed {
    /// The name's fault, or that of the name servers responsible for it.
    #[error("the host name cannot be resolved: {0}")]
    Name(Arc<io::Error>),
    /// The fault of this worker or of its own name server.
    #[error("host names cannot be looked up: {0}")]
    Own(&'static str),
}

impl LookupFailed {
    /// The name exists and has no address.
    pub(crate) fn no_address() -> Self {
        Self::Name(Arc::new(io::ErrorKind::NotFound.into()))
    }
}

/// Result of a look-up. The addresses have port 0.
pub(crate) type Answer = Result<Arc<[SocketAddr]>, LookupFailed>;

type Found = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

type Running = Shared<BoxFuture<'static, Found>>;

/// Asks the system's resolver, on a thread that may block.
type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Sends a webhook of an owner, which the look-ups for it count to.
pub(crate) async fn on_behalf_of<T>(owner: Owner, sending: impl Future<Output = T>) -> T {
    SENDER.scope(owner, sending).await
}

/// The owner that [`on_behalf_of`] was told; `None` outside of it.
pub(crate) fn sender() -> Option<Owner> {
    SENDER.try_with(Clone::clone).ok()
}

/// All look-ups for webhooks.
pub(crate) struct Lookups {
    ask: Arc<Ask>,
    slots: Arc<Semaphore>,
    /// The slots of each owner, in organisations that have tenants.
    owners: Shares<Owner>,
    /// One for each organisation that ever had a webhook here.
    shares: Mutex<HashMap<Option<OrgId>, Arc<Share>>>,
    /// Asks whether the name server is there, one at a time.
    control: Arc<Share>,
}

/// The look-ups of one organisation.
struct Share {
    slots: Arc<Semaphore>,
    /// A tenant has had a look-up here. Until then the whole share is the organisation's own.
    has_tenants: AtomicBool,
    running: Mutex<HashMap<String, Running>>,
}

/// The right to one look-up, kept until its thread is free again.
type Slot = Vec<OwnedSemaphorePermit>;

impl Lookups {
    /// Uses the system's resolver, with a bound on the look-ups at once.
    pub(crate) fn of_system(slots: usize) -> Self {
        Self::new(slots, |name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    fn new(slots: usize, ask: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self {
            ask: Arc::new(ask),
            slots: Arc::new(Semaphore::new(slots)),
            owners: Shares::new(SLOTS_OWNER),
            shares: Mutex::default(),
            control: Arc::default(),
        }
    }

    /// Looks a host name up for an owner.
    ///
    /// # Errors
    /// When the name leads to no address. When too many other look-ups are not done, or when the name server answers no
    /// question, that is not the name's fault.
    pub(crate) async fn look_up(&self, owner: Option<&Owner>, name: &str) -> Answer {
        let org_id = owner.map(|(org_id, _)| *org_id);
        let share = lock(&self.shares).entry(org_id).or_default().clone();
        let running = lock(&share.running).get(name).cloned();
        let running = match running {
            Some(running) => running,
            None => match tokio::time::timeout(MAX_WAIT, self.slot(&share, owner)).await {
                Ok(slot) => share.join(name, slot, self.ask.clone()),
                Err(_) => {
                    return Err(LookupFailed::Own(
                        "its turn did not come, other names are still being looked up",
                    ));
                }
            },
        };
        let (found, is_there) = match tokio::time::timeout(PATIENCE, running.clone()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) if !is_temporary(&error) => return Err(LookupFailed::Name(error)),
            Ok(Err(error)) => (Some(Err(error)), self.is_answered().await),
            Err(_) => tokio::join!(in_time(running), self.is_answered()),
        };
        match found {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) if error.raw_os_error().is_some() => {
                Err(LookupFailed::Own("the system refuses to"))
            }
            Some(Err(error)) if is_there || !is_temporary(&error) => Err(LookupFailed::Name(error)),
            None if is_there => Err(LookupFailed::Name(Arc::new(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer in time",
            )))),
            Some(Err(_)) | None => Err(LookupFailed::Own("the name server does not answer")),
        }
    }

    /// Whether the name server answers at all, in time.
    async fn is_answered(&self) -> bool {
        let running = lock(&self.control.running).get(CONTROL).cloned();
        let running = match running {
            Some(running) => running,
            // Takes no slot: all slots may be waiting for the same silent server.
            None => self.control.clone().join(CONTROL, Vec::new(), self.ask.clone()),
        };
        match in_time(running).await {
            Some(Ok(_)) => true,
            Some(Err(error)) => !is_temporary(&error),
            None => false,
        }
    }

    /// Takes the owner's permit before the organisation's, and that before the global one, so that neither ever queues more
    /// look-ups than its own limit.
    async fn slot(&self, share: &Share, owner: Option<&Owner>) -> Slot {
        let mut slot = Vec::with_capacity(3);
        if let Some(owner) = owner {
            if owner.1.is_some() {
                share.has_tenants.store(true, Ordering::Relaxed);
            }
            if share.has_tenants.load(Ordering::Relaxed) {
                slot.push(self.owners.take(owner.clone()).await);
            }
        }
        for slots in [&share.slots, &self.slots] {
            let permit = slots.clone().acquire_owned().await;
            slot.push(permit.expect("nobody closes it"));
        }
        slot
    }
}

/// Waits for a running look-up for the rest of its time.
async fn in_time(running: Running) -> Option<Found> {
    tokio::time::timeout(MAX_TIME.saturating_sub(PATIENCE), running)
        .await
        .ok()
}

/// Nobody knows whether the name exists, `EAI_AGAIN`. The standard library has only the C library's words for it.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    error.raw_os_error().is_some()
        || ["Temporary failure", "Try again"]
            .iter()
            .any(|words| text.contains(words))
}

impl Default for Share {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(SLOTS_EACH)),
            has_tenants: AtomicBool::new(false),
            running: Mutex::default(),
        }
    }
}

impl Share {
    /// The look-up of a name that another attempt has begun by now, or else a new one.
    fn join(self: Arc<Self>, name: &str, slot: Slot, ask: Arc<Ask>) -> Running {
        let share = self.clone();
        let mut running = lock(&share.running);
        if let Some(running) = running.get(name) {
            return running.clone();
        }
        let ended = Ended {
            share: self,
            name: name.to_owned(),
        };
        // It begins when it is first polled, outside the lock: a runtime that ends drops it at once, which takes the lock.
        let looking = async move {
            let look_up = move || {
                let _slot = slot;
                ask(&ended.name)
            };
            tokio::task::spawn_blocking(look_up).await
        };
        let answer = looking.map(|answer| match answer {
            Ok(found) => found.map(Arc::from).map_err(Arc::new),
            Err(panic) => Err(Arc::new(io::Error::other(panic))),
        });
        let answer = answer.boxed().shared();
        running.insert(name.to_owned(), answer.clone());
        answer
    }
}

/// Forgets the look-up when it ends: the next attempt asks again.
struct Ended {
    share: Arc<Share>,
    name: String,
}

impl Drop for Ended {
    fn drop(&mut self) {
        lock(&self.share.running).remove(&self.name);
    }
}

/// What is under the locks is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
