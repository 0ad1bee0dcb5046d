//! The Zapier Triggers API: the clients of an older system keep working.

mod events;
mod inbox;
mod keys;

use e2e::{Receiver, World, until};
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::answer;
use crate::setup;

/// A client of the API at one `ingest-api`.
#[derive(Clone)]
struct Client {
    http: e2e::Client,
    url: String,
    key: String,
}

impl Client {
    /// One whose organisation has signed up.
    async fn new(world: &World) -> Self {
        let request = world.http().post(world.url("/api/keys/generate"));
        let response = request.json(&json!({"organization_name": "old", "tier": "enterprise"}));
        let issued = read(response, 201).await;
        Self {
            http: world.http().clone(),
            url: world.stack().ingest(0).url(),
            key: text(&issued["api_key"]),
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let request = self.http.get(format!("{}{path}", self.url));
        request.header("x-api-key", &self.key)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url));
        request.header("x-api-key", &self.key)
    }

    fn event(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.post("/api/events").body(body);
        request.header("content-type", "application/json")
    }

    async fn send(&self, body: &Value) -> EventId {
        let accepted = read(self.event(body.to_string()), 202).await;
        assert_eq!(accepted["status"], "accepted");
        id(&accepted)
    }

    async fn inbox(&self, query: &str) -> Value {
        read(self.get(&format!("/api/inbox?{query}")), 200).await
    }

    /// The ids on one page.
    async fn ids(&self, query: &str) -> Vec<EventId> {
        self.inbox(query).await["events"]
            .as_array()
            .expect("an inbox has events")
            .iter()
            .map(id)
            .collect()
    }

    /// Waits until the inbox shows an event in a status and returns it.
    async fn until_shown(&self, event: EventId, status: &str) -> Value {
        until(&format!("{event} to be {status}"), async || {
            let inbox = self.inbox(&format!("status={status}")).await;
            let events = inbox["events"].as_array().expect("an inbox has events");
            let found = events.iter().find(|each| id(each) == event);
            found.cloned().ok_or_else(|| inbox.to_string())
        })
        .await
    }

    async fn set_webhook(&self, receiver: &Receiver) -> String {
        let path = receiver.new_path();
        let body = json!({"webhook_url": receiver.url(&path)});
        let configured = read(self.post("/api/webhook/config").json(&body), 200).await;
        let endpoint = text(&configured["endpoint_id"]);
        let secret = configured["secret"].as_str().expect("it is new");
        receiver.register(path, endpoint.parse().expect("the id is one"), secret);
        endpoint
    }
}

async fn read(request: RequestBuilder, status: u16) -> Value {
    let response = request.send().await.expect("ingest-api answers");
    let answered = response.status();
    let body = response.text().await.expect("an answer has a whole body");
    assert_eq!(answered, status, "{body}");
    parse(&body)
}

/// What the tests send holds 1e400, which does not fit into a number.
fn parse(body: &str) -> Value {
    let body = body.replace("1e400", "1");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn id(value: &Value) -> EventId {
    text(&value["id"]).parse().expect("the id is one")
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is a string").to_owned()
}

async fn world() -> World {
    setup().ingest_env("ALLOW_SIGNUP", "true").start().await
}

#[tokio::test]
async fn an_organisation_signs_up_sends_and_reads_and_acknowledges() {
    let world = world().await;
    insta::assert_snapshot!(answer(world.http().get(world.url("/health"))).await, @r#"
    200 OK
    content-type: application/json

    {"status":"healthy"}
    "#);
    let request = world.http().post(world.url("/api/keys/generate"));
    let mut issued = read(
        request.json(&json!({"org_name": "Acme", "tier": "pro", "plan": 1})),
        201,
    )
    .await;
    let key = text(&issued["api_key"]);
    assert!(key.starts_with("zap_live_"), "{key}");
    for field in ["api_key", "organization_id", "created_at"] {
        assert!(issued[field].is_string());
        issued[field] = json!("…");
    }
    insta::assert_snapshot!(issued, @r#"{"api_key":"…","created_at":"…","organization_id":"…","organization_name":"Acme","rate_limit_per_minute":1000,"tier":"pro","warning":"Keep this key: it is shown this once."}"#);
    let client = Client {
        http: world.http().clone(),
        url: world.stack().ingest(0).url(),
        key,
    };

    let payload = r#"{"b" : 1e400, "a": 12345678901234567890, "s": "\u0000"}"#;
    let body = format!(r#"{{"type":"order.created","payload":{payload},"dedup_id":"order-1"}}"#);
    let event = id(&read(client.event(body), 202).await);
    client.until_stored(event).await;
    let page = client
        .get("/api/inbox")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(page.contains(&format!(r#""payload":{payload}"#)), "{page}");
    let mut shown = parse(&page);
    shown["events"][0]["id"] = json!("…");
    shown["events"][0]["created_at"] = json!("…");
    insta::assert_snapshot!(shown, @r#"{"events":[{"attempts":0,"created_at":"…","dedup_id":"order-1","delivery_status":null,"event_type":"order.created","id":"…","last_error":null,"payload":{"a":12345678901234567890,"b":1,"s":"\u0000"},"response_status":null,"status":"pending","type":"order.created"}],"next_cursor":null}"#);

    let ack = format!("/api/ack/{event}");
    let mut acknowledged = read(client.post(&ack), 200).await;
    assert_eq!(id(&acknowledged), event);
    acknowledged["id"] = json!("…");
    insta::assert_snapshot!(acknowledged, @r#"{"id":"…","status":"acknowledged","success":true}"#);
    read(client.post(&ack), 200).await;
    assert_eq!(client.ids("status=acknowledged").await, [event]);
    assert!(client.ids("status=pending").await.is_empty());
    assert!(client.ids("status=delivered").await.is_empty());
    world.finish().await;
}

impl Client {
    async fn until_stored(&self, event: EventId) {
        self.until_shown(event, "pending").await;
    }
}

#[tokio::test]
async fn nobody_signs_up_unless_the_operator_allows_it() {
    let world = setup().replicas(1, 0).start().await;
    let request = world.http().post(world.url("/api/keys/generate"));
    insta::assert_snapshot!(answer(request.json(&json!({"organization_name": "x"}))).await, @r#"
    403 Forbidden
    content-type: application/json

    {"error":"organisations and their first keys are made by the operator here"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn errors_have_the_form_that_its_clients_know() {
    let world = setup()
        .replicas(1, 0)
        .ingest_env("ALLOW_SIGNUP", "true")
        .start()
        .await;
    let client = Client::new(&world).await;
    let no_key = world.http().get(world.url("/api/inbox"));
    insta::assert_snapshot!(answer(no_key).await, @r#"
    401 Unauthorized
    content-type: application/json
    www-authenticate: Bearer

    {"error":"send an API key as `Authorization: Bearer …` or `X-API-Key: …`"}
    "#);
    insta::assert_snapshot!(answer(client.event("{}")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"type: is missing; payload: is missing"}
    "#);
    insta::assert_snapshot!(answer(client.event("{")).await, @r#"
    400 Bad Request
    content-type: application/json

    {"error":"the body is not valid JSON: EOF while parsing an object at line 1 column 1"}
    "#);
    let untyped = client.post("/api/events").body("{}");
    insta::assert_snapshot!(answer(untyped).await, @r#"
    415 Unsupported Media Type
    content-type: application/json

    {"error":"send `Content-Type: application/json`"}
    "#);
    let large = format!(r#"{{"type":"a","payload":"{}"}}"#, "x".repeat(256 * 1024));
    insta::assert_snapshot!(answer(client.event(large)).await, @r#"
    413 Payload Too Large
    content-type: application/json

    {"error":"the body is larger than 262144 bytes"}
    "#);
    insta::assert_snapshot!(answer(client.get("/api/events")).await, @r#"
    405 Method Not Allowed
    content-type: application/json
    allow: POST

    {"error":"this path does not know this method"}
    "#);
    insta::assert_snapshot!(answer(client.get("/api/inbox?limit=1001")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"limit: must be 1 to 1000"}
    "#);
    insta::assert_snapshot!(answer(client.get("/api/inbox?status=lost")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"status: unknown variant `lost`, expected one of `pending`, `delivered`, `acknowledged`"}
    "#);
    insta::assert_snapshot!(answer(client.get("/api/inbox?cursor=x")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"cursor: is not a `next_cursor`"}
    "#);
    insta::assert_snapshot!(answer(client.get("/api/inbox?offset=-1")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"offset: must be 0 to 10000; use `cursor` to go further"}
    "#);
    let private = json!({"webhook_url": "http://10.0.0.1/"});
    insta::assert_snapshot!(answer(client.post("/api/webhook/config").json(&private)).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"webhook_url: 10.0.0.1 is not a public address"}
    "#);
    let nameless = world.http().post(world.url("/api/keys/generate"));
    insta::assert_snapshot!(answer(nameless.json(&json!({"organization_name": ""}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"organization_name: must have 1 to 200 characters, none of them NUL"}
    "#);
    world.finish().await;
}
