//! A receiver for thousands of webhooks a second: it keeps the digest of each payload and not the webhook.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::domain::id::EventId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::webhook::{Body, Receipt};
use crate::world::World;
use crate::world::api::Organization;

/// How a sink treats what arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// How long it takes over each webhook.
    pub delay: Duration,
    /// One event in so many is refused when it comes for the first time; none when 0.
    pub refuse_one_in: u32,
}

#[derive(Debug, Default)]
struct Seen {
    receipts: Vec<Receipt>,
    arrivals: HashMap<EventId, u32>,
    // What was wrong with webhooks that no worker should have sent.
    complaints: Vec<String>,
}

struct Inner {
    address: SocketAddr,
    manners: Manners,
    verifier: watch::Sender<Option<Arc<standardwebhooks::Webhook>>>,
    seen: Mutex<Seen>,
    server: Mutex<JoinSet<()>>,
}

/// The receiver of one endpoint. Clones are the same receiver.
#[derive(Clone)]
pub struct Sink(Arc<Inner>);

impl Sink {
    /// A receiver that waits for the secret of its endpoint.
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port on loopback");
        let sink = Self(Arc::new(Inner {
            address: listener.local_addr().expect("a bound socket has an address"),
            manners,
            verifier: watch::Sender::default(),
            seen: Mutex::default(),
            server: Mutex::default(),
        }));
        // Not the sink itself: the server would keep alive what it ends with.
        let inner = Arc::downgrade(&sink.0);
        let receive = async move |headers, body| match inner.upgrade() {
            Some(inner) => Self(inner).receive(headers, body).await,
            None => StatusCode::GONE,
        };
        let routes = Router::new().fallback(receive);
        lock(&sink.0.server).spawn(async move {
            let served = axum::serve(listener, routes).await;
            served.expect("accepting connections does not fail");
        });
        sink
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Says what its webhooks are signed with. Those that come earlier wait for it.
    ///
    /// # Panics
    /// When it is no secret.
    pub fn expect_secret(&self, secret: &str) {
        let verifier = standardwebhooks::Webhook::new(secret).expect("an endpoint's secret is one");
        self.0.verifier.send_replace(Some(Arc::new(verifier)));
    }

    /// Everything that has arrived, in this order, with the payloads' digests.
    pub fn receipts(&self) -> Vec<Receipt> {
        lock(&self.0.seen).receipts.clone()
    }

    /// How many webhooks have arrived.
    pub fn count(&self) -> usize {
        lock(&self.0.seen).receipts.len()
    }

    /// How often the event arrived that arrived most often.
    pub fn most_arrivals(&self) -> u32 {
        lock(&self.0.seen)
            .arrivals
            .values()
            .copied()
            .max()
            .unwrap_or_default()
    }

    /// What was wrong with webhooks: signatures that are not the endpoint's, bodies that are none.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.0.seen).complaints.clone()
    }

    async fn receive(self, headers: HeaderMap, body: Bytes) -> StatusCode {
        let verifier = self.verifier().await;
        let receipt = match read(&verifier, &headers, &body) {
            Ok(receipt) => receipt,
            Err(complaint) => {
                lock(&self.0.seen).complaints.push(complaint);
                return StatusCode::BAD_REQUEST;
            }
        };
        let id = receipt.id;
        let (index, number) = {
            let mut seen = lock(&self.0.seen);
            seen.receipts.push(receipt);
            let number = seen.arrivals.entry(id).or_default();
            *number += 1;
            let number = *number;
            (seen.receipts.len() - 1, number)
        };
        tokio::time::sleep(self.0.manners.delay).await;
        if number == 1 && self.refuses_first(id) {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        let mut seen = lock(&self.0.seen);
        let arrived_by_then = seen.receipts.len();
        let receipt = &mut seen.receipts[index];
        (receipt.taken, receipt.arrived_by_then) = (true, arrived_by_then);
        StatusCode::NO_CONTENT
    }

    fn refuses_first(&self, id: EventId) -> bool {
        let (_, low) = id.as_uuid().as_u64_pair();
        let one_in = u64::from(self.0.manners.refuse_one_in);
        one_in > 0 && low % one_in == 0
    }

    async fn verifier(&self) -> Arc<standardwebhooks::Webhook> {
        let mut known = self.0.verifier.subscribe();
        let known = known.wait_for(Option::is_some).await;
        let known = known.expect("the sender is in the same sink").clone();
        known.expect("it was waited for")
    }
}

fn read(verifier: &standardwebhooks::Webhook, headers: &HeaderMap, body: &[u8]) -> Result<Receipt, String> {
    // Not the time in the signature: the clocks of some runs are wrong.
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    let timestamp = timestamp
        .parse()
        .map_err(|_| format!("signed at {timestamp:?}"))?;
    let signature = verifier
        .sign(id, timestamp, body)
        .map_err(|error| error.to_string())?;
    if text("webhook-signature") != signature {
        return Err(format!("{id} has another signature than {signature}"));
    }
    let id = id.parse().map_err(|_| format!("{id:?} is no event's id"))?;
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| format!("{id}: {error}"))?;
    if body.id != id {
        return Err(format!("{id} in the header, {} in the body", body.id));
    }
    let data = Sha256::digest(body.data.get()).to_vec();
    Ok(Receipt {
        id,
        data,
        taken: false,
        arrived_by_then: 0,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("address", &self.0.address)
            .field("webhooks", &self.count())
            .finish_non_exhaustive()
    }
}

impl World {
    /// An endpoint that gets all of an organisation's events at a sink of its own, which it reaches at `via`, such as
    /// a proxy's address, if that is given.
    pub async fn sink(
        &self,
        organization: &Organization,
        sink: &Sink,
        via: Option<SocketAddr>,
        fields: Value,
    ) {
        let url = format!("http://{}/", via.unwrap_or(sink.address()));
        let (_, secret) = self.endpoint_at(organization, &url, fields).await;
        sink.expect_secret(&secret);
    }
}
