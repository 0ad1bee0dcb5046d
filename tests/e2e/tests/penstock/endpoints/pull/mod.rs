//! Deliveries that their owner pulls.

mod ends;
mod contents;
mod waiting;

use e2e::{Answer, Event, Organization, World, until};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::domain::id::{EndpointId, EventId};

use crate::calls::{answer, request, text};
use crate::setup;

/// A consumer of one pull endpoint at one `ingest-api`.
#[derive(Clone)]
pub(super) struct Consumer {
    http: e2e::Client,
    url: String,
    key: String,
    pub(super) endpoint: EndpointId,
}

#[derive(Deserialize)]
struct Pulled {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
pub(super) struct Delivery {
    pub(super) event: PulledEvent,
    pub(super) lease: String,
    pub(super) attempt: i32,
}

#[derive(Deserialize)]
pub(super) struct PulledEvent {
    pub(super) id: EventId,
    data: Box<RawValue>,
}

/// A pull endpoint of an organisation, as its creation answers.
async fn create(world: &World, organization: &Organization) -> Value {
    let request = world
        .http()
        .post(world.url("/v1/endpoints"))
        .bearer_auth(&organization.key)
        .json(&json!({"kind": "pull"}));
    let response = request.send().await.expect("ingest-api answers");
    assert_eq!(response.status(), 201);
    response.json().await.expect("the answer is JSON")
}

impl Consumer {
    pub(super) async fn new(world: &World, organization: &Organization) -> Self {
        let endpoint = create(world, organization).await;
        let id = endpoint["id"].as_str().expect("an endpoint has an id");
        Self::of(world, organization, id.parse().expect("the id is one"))
    }

    fn of(world: &World, organization: &Organization, endpoint: EndpointId) -> Self {
        Self {
            http: world.http().clone(),
            url: world.stack().ingest(0).url(),
            key: organization.key.clone(),
            endpoint,
        }
    }

    /// The same one at another `ingest-api`.
    pub(super) fn at(&self, world: &World, replica: usize) -> Self {
        Self {
            url: world.stack().ingest(replica).url(),
            ..self.clone()
        }
    }

    pub(super) fn post(&self, verb: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}/v1/endpoints/{}/{verb}", self.url, self.endpoint);
        self.http.post(url).bearer_auth(&self.key).json(body)
    }

    pub(super) async fn pull(&self, body: Value) -> Vec<Delivery> {
        let response = self.post("pull", &body).send().await.expect("ingest-api answers");
        let text = response.text().await.expect("an answer has a whole body");
        let pulled: Pulled = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        pulled.deliveries
    }

    /// The outcome of one lease.
    pub(super) async fn acknowledge(&self, lease: &str) -> String {
        let outcomes = self.acknowledge_all(&[lease]).await;
        outcomes.into_iter().next().expect("each lease has an outcome")
    }

    async fn acknowledge_all(&self, leases: &[&str]) -> Vec<String> {
        let request = self.post("ack", &json!({"leases": leases}));
        let response = request.send().await.expect("ingest-api answers");
        let answer: Value = response.json().await.expect("the answer is JSON");
        let results = answer["results"].as_array().expect("there are results").iter();
        let (echoed, outcomes): (Vec<_>, Vec<_>) = results
            .map(|result| (result["lease"].as_str(), result["outcome"].as_str()))
            .unzip();
        assert_eq!(echoed, leases.iter().copied().map(Some).collect::<Vec<_>>());
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("an outcome is a word").to_owned())
            .collect()
    }
}

pub(super) async fn send(world: &World, organization: &Organization, data: &str) -> EventId {
    world.producer(organization).send(&Event::new("a", data)).await
}

#[tokio::test]
async fn a_pull_endpoint_has_no_url_and_no_secret() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let mut endpoint = create(&world, &organization).await;
    for field in ["id", "created_at", "updated_at"] {
        endpoint[field] = json!("…");
    }
    insta::assert_snapshot!(endpoint, @r#"{"all_tenants":false,"created_at":"…","description":"","disabled_reason":null,"event_types":[],"filter":null,"format":"standard","health":{"circuit_open_until":null,"consecutive_failures":0,"failing_since":null,"state":"healthy","waiting_until":null},"id":"…","kind":"pull","max_in_flight":null,"previous_secret_expires_at":null,"rate_limit_per_second":null,"retry":{"attempts":null,"max_age_seconds":null},"status":"enabled","tenant":null,"updated_at":"…","url":null}"#);
    let post = |body: Value| {
        let request = world.http().post(world.url("/v1/endpoints"));
        request.bearer_auth(&organization.key).json(&body)
    };
    insta::assert_snapshot!(answer(post(json!({"kind": "pull", "url": "https://example.com/"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url","errors":[{"field":"url","detail":"must not stand beside the kind `pull`"}]}
    "#);
    insta::assert_snapshot!(answer(post(json!({}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url","errors":[{"field":"url","detail":"is missing"}]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn what_has_no_meaning_where_nothing_is_sent_is_refused_on_creation_and_change() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let endpoint = text(&create(&world, &organization).await, "id").to_owned();
    let at = |method, path: String| request(&world, 0, method, &path, &organization.key);
    for (field, setting) in [
        ("headers", json!({"headers": {"X-A": "1"}})),
        (
            "retry.initial_seconds",
            json!({"retry": {"initial_seconds": 1.0}}),
        ),
        ("retry.factor", json!({"retry": {"factor": 2.0}})),
        ("retry.max_seconds", json!({"retry": {"max_seconds": 60.0}})),
        ("timeout_ms", json!({"timeout_ms": 1_000})),
        ("ordered", json!({"ordered": true})),
        ("on_exhausted", json!({"on_exhausted": "skip"})),
    ] {
        let mut new = setting.clone();
        new["kind"] = json!("pull");
        for request in [
            at(Method::POST, "/v1/endpoints".to_owned()).json(&new),
            at(Method::PATCH, format!("/v1/endpoints/{endpoint}")).json(&setting),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 422, "{setting}");
            let problem: Value = answer.json().await.unwrap();
            let expected = json!([{"field": field, "detail": "must not stand beside the kind `pull`"}]);
            assert_eq!(problem["errors"], expected);
        }
    }
    let holds = json!({
        "retry": {"attempts": 2.0, "max_age_seconds": 60}, "format": "cloudevents", "ordered": false,
        "max_in_flight": 5, "rate_limit_per_second": 7
    });
    let change = at(Method::PATCH, format!("/v1/endpoints/{endpoint}")).json(&holds);
    let shown: Value = change.send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["retry"], json!({"attempts": 2, "max_age_seconds": 60.0}));
    assert_eq!(
        (
            &shown["format"],
            &shown["max_in_flight"],
            &shown["rate_limit_per_second"]
        ),
        (&json!("cloudevents"), &json!(5), &json!(7))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_pull_endpoint_is_never_dispatched() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| match webhook.number {
        1 => Answer::status(500),
        _ => Answer::status(204),
    });
    let push = world.endpoint(&organization, &receiver).await;
    let id = send(&world, &organization, "1").await;
    // The second attempt comes out of the table: the worker has looked for what is due there.
    receiver.wait_for(2).await;
    until("the webhook's delivery", async || {
        let deliveries = world.deliveries_of(id).await;
        let delivered = |delivery: &e2e::Delivery| delivery.status == "delivered";
        match deliveries.iter().find(|delivery| delivery.endpoint_id == push.id) {
            Some(delivery) if delivered(delivery) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let deliveries = world.deliveries_of(id).await;
    let pull = deliveries
        .iter()
        .find(|delivery| delivery.endpoint_id == consumer.endpoint)
        .expect("the pull endpoint has a delivery too");
    assert_eq!((&*pull.status, pull.attempts, pull.leased), ("pending", 0, false));
    assert_eq!(consumer.pull(json!({})).await.len(), 1);
    assert_eq!(receiver.requests(), 2);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_pulled_is_refused() {
    let mut world = setup().start().await;
    let (organization, stranger) = (world.organization().await, world.organization().await);
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = world.receiver().await;
    let push = world.endpoint(&organization, &receiver).await;
    let push = Consumer::of(&world, &organization, push.id);
    let foreign = Consumer::of(&world, &stranger, consumer.endpoint);

    insta::assert_snapshot!(answer(push.post("pull", &json!({}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is of kind `push`: its deliveries are sent to its URL"}
    "#);
    insta::assert_snapshot!(answer(push.post("ack", &json!({"leases": ["x"]}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is of kind `push`: its deliveries are sent to its URL"}
    "#);
    insta::assert_snapshot!(answer(foreign.post("pull", &json!({}))).await, @r#"
    404 Not Found
    content-type: application/problem+json

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here under this path"}
    "#);
    insta::assert_snapshot!(answer(foreign.post("ack", &json!({"leases": ["x"]}))).await, @r#"
    404 Not Found
    content-type: application/problem+json

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here under this path"}
    "#);
    let wrong = json!({"max": 101, "lease_seconds": 0, "wait_seconds": 21});
    insta::assert_snapshot!(answer(consumer.post("pull", &wrong)).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: max, lease_seconds, wait_seconds","errors":[{"field":"max","detail":"must be 1 to 100"},{"field":"lease_seconds","detail":"must be 1 to 3600"},{"field":"wait_seconds","detail":"must be 0 to 20"}]}
    "#);
    insta::assert_snapshot!(answer(consumer.post("ack", &json!({"leases": []}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: leases","errors":[{"field":"leases","detail":"must hold 1 to 1000 leases"}]}
    "#);
    let disable =
        sqlx::query("update endpoints set status = 'disabled' where id = $1").bind(consumer.endpoint);
    disable.execute(world.database()).await.unwrap();
    insta::assert_snapshot!(answer(consumer.post("pull", &json!({}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is disabled"}
    "#);
    world.finish().await;
}
