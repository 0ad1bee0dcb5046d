//! A receiver of webhooks: a real HTTP server on loopback that writes down everything that comes, checks its
//! signature with the official library, and answers as a test tells it to.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use shared::domain::clock::UnixMicros;
use shared::domain::id::{EndpointId, EventId};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::webhook::{Answer, Webhook};
use crate::wait::until;

/// How far the time in a signature may be from the time at which the webhook arrives, on a machine that is busy.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(15);

type Script = Arc<dyn Fn(&Webhook) -> Answer + Send + Sync>;

struct Known {
    endpoint: EndpointId,
    verifier: standardwebhooks::Webhook,
}

struct Inner {
    address: SocketAddr,
    paths: AtomicUsize,
    requests: AtomicUsize,
    known: watch::Sender<HashMap<String, Arc<Known>>>,
    script: Mutex<Script>,
    released: watch::Sender<bool>,
    webhooks: Mutex<Vec<Webhook>>,
    // Ends with its receiver.
    server: Mutex<JoinSet<()>>,
}

/// A receiver of webhooks. Clones are the same receiver.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port on loopback");
        let receiver = Self(Arc::new(Inner {
            address: listener.local_addr().expect("a bound socket has an address"),
            paths: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            known: watch::Sender::default(),
            script: Mutex::new(Arc::new(|_| Answer::status(204))),
            released: watch::Sender::default(),
            webhooks: Mutex::default(),
            server: Mutex::default(),
        }));
        // Not the receiver itself: the server would keep alive what it ends with.
        let inner = Arc::downgrade(&receiver.0);
        let receive = async move |uri: Uri, headers, body| match inner.upgrade() {
            Some(inner) => Self(inner).receive(uri.path(), headers, body).await,
            None => StatusCode::GONE.into_response(),
        };
        let routes = Router::new().fallback(receive);
        lock(&receiver.0.server).spawn(async move {
            let served = axum::serve(listener, routes).await;
            served.expect("accepting connections does not fail");
        });
        receiver
    }

    /// Answers every webhook from now on as `script` says, which is told of each one as it arrives.
    pub fn answer(&self, script: impl Fn(&Webhook) -> Answer + Send + Sync + 'static) {
        *lock(&self.0.script) = Arc::new(script);
    }

    /// Sends the answers that are held, and holds no more.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    /// Everything that has arrived, in this order.
    pub fn webhooks(&self) -> Vec<Webhook> {
        lock(&self.0.webhooks).clone()
    }

    /// What has arrived of one event.
    pub fn webhooks_of(&self, id: EventId) -> Vec<Webhook> {
        let all = lock(&self.0.webhooks);
        all.iter().filter(|webhook| webhook.id == id).cloned().collect()
    }

    /// How many webhooks have arrived.
    pub fn count(&self) -> usize {
        lock(&self.0.webhooks).len()
    }

    /// How many requests have arrived, at any path.
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Waits until at least `count` webhooks have arrived and returns all.
    pub async fn wait_for(&self, count: usize) -> Vec<Webhook> {
        until(&format!("{count} webhooks"), async || match self.count() {
            enough if enough >= count => Ok(()),
            fewer => Err(format!("{fewer}")),
        })
        .await;
        self.webhooks()
    }

    /// Where a path of this receiver is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    /// A path for a new endpoint.
    pub fn new_path(&self) -> String {
        format!("/{}", self.0.paths.fetch_add(1, Ordering::Relaxed))
    }

    /// Names the endpoint that sends to a path. Webhooks that come earlier wait for it.
    pub fn register(&self, path: String, endpoint: EndpointId, secret: &str) {
        let verifier = standardwebhooks::Webhook::new(secret).expect("an endpoint's secret is one");
        let known = Arc::new(Known { endpoint, verifier });
        self.0.known.send_modify(|all| _ = all.insert(path, known));
    }

    /// # Panics
    /// When a webhook came whose signature or time was wrong, or a request to a path that is no endpoint's.
    pub(crate) fn check_signatures(&self) {
        assert_eq!(
            self.count(),
            self.requests(),
            "every request is a webhook of an endpoint"
        );
        for webhook in lock(&self.0.webhooks).iter() {
            assert_eq!(webhook.signature, Ok(()), "{webhook:?}");
        }
    }

    async fn receive(self, path: &str, headers: HeaderMap, body: Bytes) -> Response {
        let arrived = Instant::now();
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let known = self.known(path).await;
        let (index, webhook) = self.write_down(&known, headers, body, arrived);
        let script = lock(&self.0.script).clone();
        let answer = script(&webhook);
        tokio::time::sleep(answer.delay).await;
        if answer.held {
            let mut released = self.0.released.subscribe();
            let released = released.wait_for(|released| *released).await;
            released.expect("the sender is in the same receiver");
        }
        lock(&self.0.webhooks)[index].answered = Some(answer.status);
        let mut response = (answer.status, answer.body).into_response();
        response.headers_mut().extend(answer.headers);
        response
    }

    /// The endpoint that sends to `path`, as soon as a test has registered it.
    async fn known(&self, path: &str) -> Arc<Known> {
        let mut all = self.0.known.subscribe();
        let all = all.wait_for(|all| all.contains_key(path)).await;
        all.expect("the sender is in the same receiver")[path].clone()
    }

    fn write_down(
        &self,
        known: &Known,
        headers: HeaderMap,
        body: Bytes,
        arrived: Instant,
    ) -> (usize, Webhook) {
        let timestamp = header(&headers, "webhook-timestamp").unwrap_or_default();
        let id = header(&headers, "webhook-id").expect("every webhook has the id of an event");
        let signature = known.verifier.verify(&body, &headers);
        let mut webhooks = lock(&self.0.webhooks);
        let earlier = webhooks
            .iter()
            .filter(|other| other.id == id && other.endpoint == known.endpoint);
        let webhook = Webhook {
            endpoint: known.endpoint,
            id,
            timestamp,
            headers,
            body,
            arrived,
            number: earlier.count() + 1,
            answered: None,
            signature: signature
                .map_err(|error| error.to_string())
                .and(in_time(timestamp)),
        };
        webhooks.push(webhook.clone());
        (webhooks.len() - 1, webhook)
    }
}

/// The official library accepts any time of the last five minutes; a webhook that is signed when it is sent
/// arrives sooner.
fn in_time(timestamp: i64) -> Result<(), String> {
    let now = UnixMicros::now().to_date_time().unix_timestamp();
    if now.abs_diff(timestamp) <= MAX_CLOCK_DIFFERENCE.as_secs() {
        Ok(())
    } else {
        Err(format!("signed at {timestamp}, arrived at {now}"))
    }
}

fn header<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("address", &self.0.address)
            .field("webhooks", &self.count())
            .finish_non_exhaustive()
    }
}
