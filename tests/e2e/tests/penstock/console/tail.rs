//! The live tail: what happens is told once, to whoever may see it, and what was missed is said.

use std::time::Duration;

use e2e::{Answer, Event, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::portal::tenant;
use crate::calls::{self, make, request, status, text};
use crate::{setup, world};

/// Only a failing test takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// One who asks again and again for what came since.
pub(super) struct Listener {
    key: String,
    query: String,
    last: String,
    pub heard: Vec<(String, Value)>,
}

impl Listener {
    /// Listens from now on.
    pub(super) async fn new(world: &World, key: &str, query: &str) -> Self {
        let mut listener = Self {
            key: key.to_owned(),
            query: query.to_owned(),
            last: String::new(),
            heard: Vec::new(),
        };
        listener.listen(world).await;
        listener
    }

    /// Takes what came since the last time.
    pub(super) async fn listen(&mut self, world: &World) {
        let path = format!("/v1/tail?seconds=0{}", self.query);
        let mut request = request(world, 0, Method::GET, &path, &self.key);
        if !self.last.is_empty() {
            request = request.header("last-event-id", &self.last);
        }
        let answer = request.send().await.expect("ingest-api answers");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let body = answer.text().await.expect("the answer is text");
        for block in body.split("\n\n") {
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let Some(id) = field("id") {
                id.clone_into(&mut self.last);
            }
            if let Some(data) = field("data") {
                let data = serde_json::from_str(data).expect("data is JSON");
                self.heard
                    .push((field("event").unwrap_or_default().to_owned(), data));
            }
        }
    }

    /// Listens until it has heard this many of a kind.
    pub(super) async fn until(&mut self, world: &World, kind: &str, count: usize) {
        until(&format!("{count} of {kind}"), async || {
            self.listen(world).await;
            if self.of(kind).len() >= count {
                Ok(())
            } else {
                Err(format!("{:?}", self.heard))
            }
        })
        .await;
    }

    pub(super) fn of(&self, kind: &str) -> Vec<&Value> {
        let heard = self.heard.iter().filter(|(name, _)| name == kind);
        heard.map(|(_, data)| data).collect()
    }
}

fn of_tenant(uid: &str, kind: &str) -> Event {
    Event::new(kind, "{}").of_tenant(uid)
}

#[tokio::test]
async fn events_and_attempts_are_told_once_to_whoever_may_see_them() {
    let mut world = setup().worker_env("RETRY_INITIAL", "100ms").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for uid in ["acme", "globex"] {
        tenant(&world, &organization, uid).await;
    }
    let of_acme = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "acme"}))
        .await;
    let of_all = world
        .endpoint_with(&organization, &receiver, json!({"all_tenants": true}))
        .await;
    let bound = json!({"name": "acme", "scopes": ["manage"], "tenant": "acme"});
    let bound = make(&world, &organization.key, &bound).await;
    let fails_once = move |webhook: &e2e::Webhook| {
        Answer::status(if webhook.endpoint == of_acme.id && webhook.number == 1 {
            500
        } else {
            204
        })
    };
    receiver.answer(fails_once);
    let mut all = Listener::new(&world, &organization.key, "").await;
    let mut own = Listener::new(&world, text(&bound, "key"), "").await;
    let mut orders = Listener::new(&world, &organization.key, "&type=order.*").await;
    let query = format!("&endpoint={}&status=delivered", of_all.id);
    let mut delivered = Listener::new(&world, &organization.key, &query).await;

    let producer = world.producer(&organization);
    let order = producer.send(&of_tenant("acme", "order.created")).await;
    let other = producer.send(&of_tenant("globex", "invoice.paid")).await;
    world.settle().await;
    // Together: what nobody asks for is forgotten.
    until("what each asked for", async || {
        for listener in [&mut all, &mut own, &mut orders, &mut delivered] {
            listener.listen(&world).await;
        }
        let events = [&all, &own, &orders].map(|listener| listener.of("event").len());
        let skipped = all.of("skipped").into_iter();
        let skipped: u64 = skipped.filter_map(|skipped| skipped["count"].as_u64()).sum();
        // Each event at the endpoint of all; the order at its tenant's too, which takes two attempts, of which a look may miss one.
        let attempts = all.of("attempt").len() as u64 + skipped;
        match (events, delivered.of("attempt").len(), attempts) {
            ([2, 1, 1], 2, 4) => Ok(()),
            others => Err(format!("{others:?}: {:?}", all.heard)),
        }
    })
    .await;
    let ids = |listener: &Listener| {
        let ids = listener.of("event").into_iter();
        let mut ids: Vec<_> = ids.map(|event| text(event, "id").to_owned()).collect();
        // They come in the order in which they are stored.
        ids.sort();
        ids
    };
    assert_eq!(ids(&all), [order.to_string(), other.to_string()]);
    assert_eq!(ids(&own), [order.to_string()]);
    assert_eq!(ids(&orders), [order.to_string()]);
    assert!(delivered.of("event").is_empty());
    own.until(&world, "attempt", 1).await;
    let foreign = |attempt: &&Value| attempt["endpoint_id"] != json!(of_acme.id);
    assert!(!own.of("attempt").iter().any(foreign), "{:?}", own.heard);
    world.finish().await;
}

#[tokio::test]
async fn whoever_was_away_for_too_long_is_told_and_wrong_parameters_are_refused() {
    let world = world().await;
    let organization = world.organization().await;
    let mut listener = Listener::new(&world, &organization.key, "").await;
    assert!(listener.heard.is_empty());
    for unknown in ["0000000000000000-0", "x", "-", "ffffffffffffffff-99"] {
        unknown.clone_into(&mut listener.last);
        listener.heard.clear();
        listener.listen(&world).await;
        assert_eq!(
            listener.heard,
            [("skipped".to_owned(), json!({"count": null}))],
            "{unknown}"
        );
    }
    for (query, field) in [
        ("seconds=91", "seconds"),
        ("type=a%20b", "type"),
        ("status=lost", "status"),
        ("tenant=", "tenant"),
    ] {
        let path = format!("/v1/tail?{query}");
        let wrong = calls::wrong_fields(request(&world, 0, Method::GET, &path, &organization.key)).await;
        assert!(wrong.starts_with(field), "{wrong}");
    }
    world.finish().await;
}

async fn until_listen(world: &World, count: u64) {
    until(&format!("{count} to listen"), async || {
        match world.metric(0, "penstock_listeners").await {
            listening if listening == count => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

/// Listens for as long as it may, until `end` ends it.
async fn is_ended_by(world: &World, key: &str, path: &str, end: impl Future<Output = ()>) {
    let listening = async {
        let answer = request(world, 0, Method::GET, path, key).header("accept", "text/event-stream");
        let answer = answer.send().await.expect("ingest-api answers");
        assert_eq!(answer.status(), 200);
    };
    let ending = async {
        until_listen(world, 1).await;
        end.await;
    };
    let both = async { tokio::join!(listening, ending) };
    timeout(PATIENCE, both).await.expect("the answer ends");
    until_listen(world, 0).await;
}

#[tokio::test]
async fn an_answer_that_goes_on_ends_with_its_key_and_with_its_portal_session() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme").await;
    let session = super::portal::session(&world, &organization, "acme", json!({})).await;
    let end = async {
        let path = format!("/v1/tenants/acme/portal-sessions/{}", text(&session, "id"));
        let ended = request(&world, 0, Method::DELETE, &path, &organization.key);
        assert_eq!(status(ended).await, StatusCode::NO_CONTENT);
    };
    is_ended_by(&world, text(&session, "token"), "/v1/tail", end).await;

    let spare = make(
        &world,
        &organization.key,
        &json!({"name": "k", "scopes": ["manage"]}),
    )
    .await;
    let revoke = async {
        let path = format!("/v1/keys/{}", text(&spare, "id"));
        let revoked = request(&world, 0, Method::DELETE, &path, &organization.key);
        assert_eq!(status(revoked).await, StatusCode::NO_CONTENT);
    };
    is_ended_by(&world, text(&spare, "key"), "/v1/stats", revoke).await;
    world.finish().await;
}

/// Takes all seats that a key has on top of those that are taken, runs `then`, and leaves them.
async fn crowd(world: &World, key: &str, seats: u64, taken: u64, then: impl Future<Output = ()>) {
    let one = || request(world, 0, Method::GET, "/v1/tail?seconds=90", key);
    let all = futures_util::future::join_all((0..seats).map(|_| status(one())));
    let beyond = async {
        until_listen(world, taken + seats).await;
        assert_eq!(status(one()).await, StatusCode::SERVICE_UNAVAILABLE);
        then.await;
    };
    tokio::select! {
        answers = all => panic!("{answers:?}"),
        () = beyond => {}
    }
}

#[tokio::test]
async fn a_tenant_takes_no_seats_from_other_tenants_nor_from_the_organisation() {
    let world = world().await;
    let organization = world.organization().await;
    let mut tokens = Vec::new();
    for uid in ["acme", "globex"] {
        tenant(&world, &organization, uid).await;
        let session = super::portal::session(&world, &organization, uid, json!({})).await;
        tokens.push(text(&session, "token").to_owned());
    }
    let others = async {
        for path in ["/v1/tail?seconds=0", "/v1/tail?seconds=0&tenant=acme"] {
            let own = request(&world, 0, Method::GET, path, &organization.key);
            assert_eq!(status(own).await, StatusCode::OK);
        }
        until_listen(&world, 5).await;
        crowd(&world, &tokens[1], 5, 5, async {}).await;
    };
    crowd(&world, &tokens[0], 5, 0, others).await;
    world.finish().await;
}

#[tokio::test]
async fn an_organisation_has_a_bounded_number_of_listeners_and_takes_none_from_others() {
    let world = world().await;
    let (organization, other) = (world.organization().await, world.organization().await);
    crowd(&world, &organization.key, 20, 0, async {}).await;
    let path = "/v1/tail?seconds=0";
    assert_eq!(
        status(request(&world, 0, Method::GET, path, &other.key)).await,
        StatusCode::OK
    );
    // Those that have gone away have left.
    until("seats to be free", async || {
        let one = request(&world, 0, Method::GET, path, &organization.key);
        match status(one).await {
            StatusCode::OK => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    world.finish().await;
}
