//! Two kinds of load. A closed loop sends the next request when the answer is there: it finds out how much can be
//! done. An open loop sends at a rate, whatever becomes of the requests before, and measures from the moment at
//! which a request was due: waiting for a free connection, or for a stalled server, counts (no coordinated
//! omission).
//!
//! All connections of a driver share one thread, which is the cheapest client that there is.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::client::connection::{ACCEPTED, Connection};
use crate::client::ledger::{Ledger, new_histogram};
use crate::client::request::{FIRST_NUMBER, Request};
use crate::keys::Keys;

/// How long the answers to the last requests may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How fine the pace of an open loop is; several requests that are due within it are sent together.
const PACE: Duration = Duration::from_micros(50);

/// What a driver found.
#[derive(Clone, Debug)]
pub(crate) struct Driven {
    /// Latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Events that were accepted.
    pub(crate) events: u64,
    /// Requests that were answered otherwise, or not at all.
    pub(crate) failed: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

impl Driven {
    /// Accepted events a second.
    #[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
    pub(crate) fn per_second(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }
}

/// Where requests go and what they are.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The servers; connections are spread over them.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Taken in turn.
    pub(crate) requests: Vec<Request>,
    /// Keys that the requests are made with in turn, instead of their own.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Connections.
    pub(crate) connections: usize,
}

/// What the connections of a driver share; they run on one thread.
struct Shared {
    next: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
    events: Cell<u64>,
    failed: Cell<u64>,
    ledger: Option<Arc<Ledger>>,
}

impl Shared {
    fn new(ledger: Option<Arc<Ledger>>) -> Rc<Self> {
        Rc::new(Self {
            next: Cell::new(0),
            latency: RefCell::new(new_histogram()),
            events: Cell::new(0),
            failed: Cell::new(0),
            ledger,
        })
    }

    fn next_turn(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    fn driven(&self, elapsed: Duration) -> Driven {
        Driven {
            latency: self.latency.replace(new_histogram()),
            events: self.events.get(),
            failed: self.failed.get(),
            elapsed,
        }
    }
}

/// One connection and the requests that it makes.
struct Client {
    connection: Connection,
    requests: Vec<Request>,
    keys: Option<Arc<Keys>>,
    shared: Rc<Shared>,
}

impl Client {
    async fn connect(target: &Target, index: usize, shared: &Rc<Shared>) -> anyhow::Result<Self> {
        let address = target.addresses[index % target.addresses.len()];
        let connection = Connection::open(address).await;
        Ok(Self {
            connection: connection.with_context(|| format!("cannot connect to {address}"))?,
            requests: target.requests.clone(),
            keys: target.keys.clone(),
            shared: shared.clone(),
        })
    }

    /// Makes the request whose turn it is, which was due at `due`.
    async fn send(&mut self, turn: u64, due: Instant) -> anyhow::Result<()> {
        let kind = turn % self.requests.len() as u64;
        let request = &mut self.requests[usize::try_from(kind)?];
        let first = self
            .shared
            .ledger
            .as_ref()
            .map_or(FIRST_NUMBER, |ledger| ledger.first());
        request.number(first + turn * request.events);
        if let Some(keys) = &self.keys {
            request.set_key(keys.get(turn));
        }
        let shared = &self.shared;
        let status = self
            .connection
            .exchange(request)
            .await
            .context("no answer to a request")?;
        if status != ACCEPTED {
            shared.failed.set(shared.failed.get() + 1);
            return Ok(());
        }
        let nanos = u64::try_from(due.elapsed().as_nanos())?;
        shared.latency.borrow_mut().saturating_record(nanos);
        shared.events.set(shared.events.get() + request.events);
        if let Some(ledger) = &shared.ledger {
            ledger.accepted(first + turn, due);
        }
        Ok(())
    }
}

/// Sends as fast as answers come, for `length`.
///
/// # Errors
/// When a connection cannot be made or breaks.
pub(crate) async fn closed_loop(target: &Target, length: Duration) -> anyhow::Result<Driven> {
    let target = target.clone();
    on_a_thread(move || async move {
        let shared = Shared::new(None);
        let clients = connect_all(&target, &shared).await?;
        let started = Instant::now();
        let all = LocalSet::new();
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                all.spawn_local(async move {
                    while started.elapsed() < length {
                        let turn = client.shared.next_turn();
                        client.send(turn, Instant::now()).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        all.await;
        join(tasks).await?;
        Ok(shared.driven(started.elapsed()))
    })
    .await
}

/// Sends `per_second` requests a second for `length`.
///
/// # Errors
/// When a connection cannot be made or breaks, or answers do not come within half a minute after the last request.
pub(crate) async fn open_loop(
    target: &Target,
    per_second: f64,
    length: Duration,
    ledger: Option<Arc<Ledger>>,
) -> anyhow::Result<Driven> {
    let target = target.clone();
    on_a_thread(move || async move {
        let shared = Shared::new(ledger);
        let clients = connect_all(&target, &shared).await?;
        // Its permits are the requests that are due and not yet taken by a connection.
        let due = Arc::new(Semaphore::new(0));
        let started = Instant::now();
        let pacer = std::thread::spawn({
            let due = due.clone();
            move || pace(&due, started, per_second, length)
        });
        let all = LocalSet::new();
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let due = due.clone();
                all.spawn_local(async move {
                    while let Ok(permit) = due.acquire().await {
                        permit.forget();
                        let turn = client.shared.next_turn();
                        client.send(turn, started + offset(turn, per_second)).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let ended = tokio::time::timeout(length + PATIENCE, all).await;
        ended.context("answers are missing half a minute after the last request")?;
        join(tasks).await?;
        pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))?;
        Ok(shared.driven(started.elapsed()))
    })
    .await
}

/// Hands out a permit for each request at its time, and closes the semaphore when the last was taken.
fn pace(due: &Semaphore, started: Instant, per_second: f64, length: Duration) {
    // Without it the kernel may wake a thread 50 µs late.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut turn = 0;
    loop {
        let at = offset(turn, per_second);
        if at >= length {
            break;
        }
        std::thread::sleep(at.saturating_sub(started.elapsed()));
        let mut count = 0;
        while offset(turn, per_second) < length && offset(turn, per_second) <= started.elapsed() + PACE {
            turn += 1;
            count += 1;
        }
        due.add_permits(count);
    }
    while due.available_permits() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    due.close();
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
fn offset(turn: u64, per_second: f64) -> Duration {
    Duration::from_secs_f64(turn as f64 / per_second)
}

async fn connect_all(target: &Target, shared: &Rc<Shared>) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(target.connections);
    for index in 0..target.connections {
        clients.push(Client::connect(target, index, shared).await?);
    }
    Ok(clients)
}

async fn join(tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>) -> anyhow::Result<()> {
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Runs a driver on a thread and a runtime of its own.
async fn on_a_thread<F>(driver: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<Driven>
where
    F: Future<Output = anyhow::Result<Driven>>,
{
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("client".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime
            .context("cannot start a runtime")
            .and_then(|runtime| runtime.block_on(driver()));
        let _ = done.send(result);
    })?;
    outcome.await.context("a driver panicked")?
}
