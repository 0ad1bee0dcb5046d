//! The Zapier Triggers API: the clients of an older system keep working.

use e2e::{Answer, Receiver, World, transcript, transcript_with, until};
use reqwest::StatusCode;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::{answer, same_answer};
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
async fn a_repeated_dedup_id_is_answered_409_where_it_is_known_and_is_never_delivered_twice() {
    let mut world = setup()
        .replicas(2, 2)
        .ingest_env("ALLOW_SIGNUP", "true")
        .start()
        .await;
    let client = Client::new(&world).await;
    let receiver = world.receiver().await;
    client.set_webhook(&receiver).await;
    let body = json!({"type": "a", "data": {"n": 1}, "dedup_id": "order-1"});
    let first = client.send(&body).await;
    insta::assert_snapshot!(answer(client.event(body.to_string())).await, @r#"
    409 Conflict
    content-type: application/json

    {"error":"an event with this dedup_id was accepted within 24 hours","dedup_id":"order-1"}
    "#);

    let elsewhere = Client {
        url: world.stack().ingest(1).url(),
        ..client.clone()
    };
    assert_eq!(elsewhere.send(&body).await, first, "another replica cannot know");
    assert_eq!(
        elsewhere.event(body.to_string()).send().await.unwrap().status(),
        409
    );
    let stranger = Client::new(&world).await;
    assert_ne!(stranger.send(&body).await, first, "another organisation's");
    assert_ne!(
        client
            .send(&json!({"type": "a", "data": 1, "dedup_id": "order-2"}))
            .await,
        first
    );

    world.settle().await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(receiver.webhooks_of(first).len(), 1);
    assert_eq!(world.stored_data(first).await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_idempotency_key_header_means_what_it_means_on_the_other_route() {
    let mut world = world().await;
    let client = Client::new(&world).await;
    let receiver = world.receiver().await;
    client.set_webhook(&receiver).await;
    let event = |key: &str| {
        client
            .event(r#"{"type":"a","payload":1}"#)
            .header("idempotency-key", key)
    };
    let first = id(&read(event("order-1"), 202).await);
    for key in ["order-1", "\"order-1\""] {
        assert_eq!(id(&read(event(key), 202).await), first, "a repeat");
    }
    assert_ne!(id(&read(event("order-2"), 202).await), first);
    let other_route = client.post("/v1/events").header("idempotency-key", "order-1");
    let other_route = other_route.json(&json!({"type": "a", "data": 1}));
    assert_eq!(id(&read(other_route, 202).await), first);
    let with_dedup_id = |dedup_id: &str| {
        let body = json!({"type": "a", "payload": 1, "dedup_id": dedup_id});
        client.event(body.to_string())
    };
    for repeat in [
        with_dedup_id("order-1"),
        with_dedup_id("order-1").header("idempotency-key", "order-1"),
    ] {
        assert_eq!(read(repeat, 409).await["dedup_id"], "order-1");
    }

    insta::assert_snapshot!(answer(event("\"open")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"Idempotency-Key: a quote or backslash is not closed or not escaped"}
    "#);
    insta::assert_snapshot!(answer(event("order-1").header("idempotency-key", "order-1")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"Idempotency-Key: stands more than once"}
    "#);
    insta::assert_snapshot!(answer(with_dedup_id("order-3").header("idempotency-key", "order-4")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"Idempotency-Key: differs from `dedup_id` in the body"}
    "#);

    world.settle().await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(receiver.webhooks_of(first).len(), 1);
    let inbox = client.inbox("").await;
    let keys = inbox["events"].as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|event| text(&event["dedup_id"])).collect();
    assert_eq!(keys, ["order-2", "order-1"]);
    world.finish().await;
}

#[tokio::test]
async fn the_inbox_tells_what_became_of_the_webhook() {
    let mut world = setup()
        .ingest_env("ALLOW_SIGNUP", "true")
        .worker_env("RETRY_ATTEMPTS", "2")
        .start()
        .await;
    let client = Client::new(&world).await;
    let event = json!({"type": "a", "payload": 1});
    let without = client.send(&event).await;
    client.until_stored(without).await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| match (webhook.parse().data.get(), webhook.number) {
        ("2", _) | ("3", 1) => Answer::status(503),
        _ => Answer::status(200),
    });
    let endpoint = client.set_webhook(&receiver).await;
    let dead = client.send(&json!({"type": "a", "payload": 2})).await;
    let retried = client.send(&json!({"type": "a", "payload": 3})).await;
    world.settle().await;

    let inbox = client.inbox("").await;
    let shown: Vec<_> = inbox["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let fields = [
                "payload",
                "status",
                "delivery_status",
                "attempts",
                "response_status",
                "last_error",
            ];
            fields.map(|field| event[field].to_string()).join(" ")
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    3 "delivered" "delivered" 2 200 null
    2 "pending" "dead" 2 503 "the receiver answered 503"
    1 "pending" null 0 null null
    "#);
    assert_eq!(client.ids("status=pending").await, [dead, without]);
    assert_eq!(client.ids("status=delivered").await, [retried]);

    // A new URL keeps the endpoint, its secret, and no second one comes into being.
    let path = receiver.new_path();
    let again = json!({"webhook_url": receiver.url(&path)});
    let mut replaced = read(client.post("/api/webhook/config").json(&again), 200).await;
    assert_eq!(text(&replaced["endpoint_id"]), endpoint);
    assert_eq!(text(&replaced["webhook_url"]), receiver.url(&path));
    (replaced["endpoint_id"], replaced["webhook_url"]) = (json!("…"), json!("…"));
    insta::assert_snapshot!(replaced, @r#"{"endpoint_id":"…","success":true,"webhook_url":"…"}"#);
    let listed = read(client.get("/v1/endpoints"), 200).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(text(&listed["data"][0]["url"]), receiver.url(&path));
    world.finish().await;
}

#[tokio::test]
async fn only_its_owner_can_acknowledge_an_event() {
    let world = world().await;
    let (owner, stranger) = (Client::new(&world).await, Client::new(&world).await);
    let events = [
        owner.send(&json!({"type": "a", "payload": 1})).await,
        owner
            .send(&json!({"type": "a", "payload": 1, "dedup_id": "k"}))
            .await,
    ];
    for event in events {
        owner.until_stored(event).await;
    }
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    let ids = events.map(|event| event.to_string()).into_iter();
    let ids: Vec<_> = ids.chain([unknown, "x".to_owned()]).collect();
    let requests = ids.iter().map(|id| stranger.post(&format!("/api/ack/{id}")));
    insta::assert_snapshot!(same_answer(requests).await, @r#"
    404 Not Found
    content-type: application/json

    {"error":"there is nothing here under this path"}
    "#);
    assert!(stranger.ids("").await.is_empty());
    assert_eq!(owner.ids("status=pending").await.len(), 2);
    for event in events {
        read(owner.post(&format!("/api/ack/{event}")), 200).await;
    }
    assert!(owner.ids("status=pending").await.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn pages_lead_through_the_inbox_by_cursor_and_by_offset() {
    const EVENTS: usize = 25;
    let world = world().await;
    let client = Client::new(&world).await;
    let mut sent = Vec::new();
    for number in 0..EVENTS {
        sent.push(client.send(&json!({"type": "a", "payload": number})).await);
    }
    world.streams_are_drained().await;
    for event in sent.iter().step_by(2) {
        read(client.post(&format!("/api/ack/{event}")), 200).await;
    }
    sent.reverse();
    let pending: Vec<_> = sent.iter().copied().skip(1).step_by(2).collect();
    for (filter, expected) in [("", &sent), ("&status=pending", &pending)] {
        let (mut seen, mut query) = (Vec::new(), format!("limit=4{filter}"));
        loop {
            let page = client.inbox(&query).await;
            let events = page["events"].as_array().unwrap();
            assert!(events.len() <= 4);
            seen.extend(events.iter().map(id));
            match page["next_cursor"].as_str() {
                Some(cursor) => query = format!("limit=4&cursor={cursor}{filter}"),
                None => break,
            }
        }
        assert_eq!(seen, *expected);
        let mut seen = Vec::new();
        for offset in (0..EVENTS).step_by(4) {
            seen.extend(client.ids(&format!("limit=4&offset={offset}{filter}")).await);
        }
        assert_eq!(seen, *expected);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_loses_none() {
    const EVENTS: usize = 25;
    let world = world().await;
    let client = Client::new(&world).await;
    for _ in 0..EVENTS {
        client
            .send(&json!({"type": "a", "payload": "x".repeat(250 * 1024)}))
            .await;
    }
    world.streams_are_drained().await;
    let first = client.inbox("limit=1000").await;
    let count = first["events"].as_array().unwrap().len();
    assert_eq!(count, 16);
    let cursor = text(&first["next_cursor"]);
    assert_eq!(client.ids(&format!("limit=1000&cursor={cursor}")).await.len(), 9);
    assert_eq!(client.ids("limit=1000&offset=20").await.len(), 5);
    world.finish().await;
}

#[tokio::test]
async fn a_rotated_key_is_dead_at_once() {
    let world = world().await;
    let client = Client::new(&world).await;
    let issued = read(client.post("/api/keys/rotate"), 200).await;
    let successor = Client {
        key: text(&issued["api_key"]),
        ..client.clone()
    };
    assert!(successor.key.starts_with("zap_live_") && successor.key != client.key);
    insta::assert_snapshot!(answer(client.get("/api/inbox")).await, @r#"
    401 Unauthorized
    content-type: application/json
    www-authenticate: Bearer

    {"error":"the API key is not valid"}
    "#);
    successor.send(&json!({"type": "a", "payload": 1})).await;
    let keys = read(successor.get("/api/keys"), 200).await;
    let keys = keys["keys"].as_array().unwrap();
    let revoked: Vec<_> = keys.iter().map(|key| key["revoked_at"].is_string()).collect();
    assert_eq!(revoked, [false, true]);
    assert_eq!(keys[0]["scopes"], json!(["ingest", "manage"]));
    assert_eq!(keys[1]["replaced_by"], keys[0]["id"]);
    let secrets = [&client, &successor].map(|client| client.key.rsplit_once('_').unwrap().1);
    let shown = Value::from(keys.clone()).to_string();
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    world.finish().await;
}

#[tokio::test]
async fn the_list_of_keys_says_whose_they_are() {
    let world = world().await;
    let client = Client::new(&world).await;
    let list = async |webhook_url: Option<&str>| {
        let list = read(client.get("/api/keys"), 200).await;
        assert_eq!(list["keys"].as_array().map(Vec::len), Some(1), "{list}");
        let expected = json!({
            "organization_id": list["organization_id"],
            "organization_name": "old",
            "tier": "enterprise",
            "rate_limit_per_minute": 100_000,
            "webhook_url": webhook_url,
            "keys": list["keys"],
        });
        assert_eq!(list, expected);
        text(&list["organization_id"])
    };
    let id = list(None).await;
    let webhook = json!({"webhook_url": "https://example.com/hook"});
    read(client.post("/api/webhook/config").json(&webhook), 200).await;
    assert_eq!(list(Some("https://example.com/hook")).await, id);
    let rotated = read(client.post("/api/keys/rotate"), 200).await;
    assert_eq!(rotated["organization_id"], id);
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

#[tokio::test]
async fn an_organisation_past_its_rate_limit_is_told_when_to_come_back() {
    let world = setup().replicas(1, 0).start().await;
    let limited = json!({"name": "limited", "rate_limit_per_minute": 1});
    let organization = world.organization_with(&limited).await;
    let client = Client {
        http: world.http().clone(),
        url: world.stack().ingest(0).url(),
        key: organization.key,
    };
    assert_eq!(
        client.get("/api/keys").send().await.unwrap().status(),
        StatusCode::OK
    );
    let refused = client.get("/api/keys").send().await.unwrap();
    let refused = transcript_with(refused, &["ratelimit-policy", "ratelimit"]).await;
    insta::assert_snapshot!(refused, @r#"
    429 Too Many Requests
    content-type: application/json
    retry-after: 60
    ratelimit-policy: "default";q=1;w=60
    ratelimit: "default";r=0;t=60

    {"error":"the organisation's rate limit is used up; try again in 60 s"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_refused_with_the_time_to_try_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let client = Client {
        http: world.http().clone(),
        url: world.stack().ingest(0).url(),
        key: organization.key,
    };
    assert_eq!(client.get("/api/keys").send().await.unwrap().status(), 200);
    world
        .stack_mut()
        .nats_mut()
        .kill()
        .await
        .expect("nats-server runs");
    let body = json!({"type": "a", "payload": 1, "dedup_id": "k"}).to_string();
    let refused = client.event(body.clone()).send().await.unwrap();
    insta::assert_snapshot!(transcript(refused).await, @r#"
    503 Service Unavailable
    content-type: application/json
    retry-after: 2

    {"error":"the event stream does not answer"}
    "#);
    world
        .stack_mut()
        .nats_mut()
        .start()
        .await
        .expect("nats-server starts again");
    // A refused event is no repeat.
    until("the event to be accepted", async || {
        match client.event(body.clone()).send().await.unwrap().status() {
            StatusCode::ACCEPTED => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => Err("503".to_owned()),
            other => panic!("{other}"),
        }
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn what_is_pending_behind_ten_thousand_acknowledged_events_is_found_by_the_cursor() {
    let world = world().await;
    let client = Client::new(&world).await;
    let oldest = client.send(&json!({"type": "a", "payload": 1})).await;
    client.until_stored(oldest).await;
    let fill = sqlx::raw_sql(
        "with new as (
             insert into events (org_id, accepted_at, id, type, content_type, data)
             select org_id, accepted_at + n * interval '1 millisecond', gen_random_uuid(), type, content_type, data
             from events, generate_series(1, 10000) n
             returning org_id, accepted_at, id
         )
         insert into inbox_acknowledgements (org_id, accepted_at, event_id) select * from new",
    );
    fill.execute(world.database()).await.unwrap();
    let first = client.inbox("status=pending").await;
    assert_eq!(first["events"], json!([]));
    let query = format!("status=pending&cursor={}", text(&first["next_cursor"]));
    let second = client.inbox(&query).await;
    assert_eq!(id(&second["events"][0]), oldest);
    assert_eq!(second["next_cursor"], Value::Null);
    world.finish().await;
}
