//! Endpoints: made, shown, changed and deleted over the API.

use e2e::{Event, Organization, World};
use reqwest::{Method, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::calls::{answer, call, json, status};
use crate::{setup, world};

const CANARY: &str = "canary-77aa01";

async fn make(world: &World, organization: &Organization, body: &Value) -> Value {
    json(call(world, organization, Method::POST, "").json(body)).await
}

fn path_of(endpoint: &Value) -> String {
    format!("/{}", endpoint["id"].as_str().expect("an endpoint has an id"))
}

/// Everything that can be set, in another way than it is by default.
fn everything() -> Value {
    json!({
        "url": "https://example.com/hook",
        "description": "orders",
        "event_types": ["order.*"],
        "filter": {"/total": {"gte": 100}},
        "headers": {"X-Shop": CANARY, "Authorization": CANARY},
        "format": "cloudevents",
        "retry": {"attempts": 3, "initial_seconds": 0.5, "factor": 2.0, "max_seconds": 60.0, "max_age_seconds": 3600.0},
        "timeout_ms": 5000,
        "max_in_flight": 7,
        "rate_limit_per_second": 20,
        "ordered": true,
        "on_exhausted": "block",
        "status": "disabled",
    })
}

#[tokio::test]
async fn an_endpoint_is_shown_as_it_was_made_and_is_gone_when_deleted() {
    let world = world().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let mut made = make(&world, &owner, &everything()).await;
    let path = path_of(&made);
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"), "{secret}");
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    assert_eq!(shown, made);
    let mut expected = everything();
    expected["header_names"] = json!(["Authorization", "X-Shop"]);
    expected.as_object_mut().unwrap().remove("headers");
    expected["disabled_reason"] = json!("disabled through the API");
    expected["health"] = json!({"state": "healthy", "consecutive_failures": 0, "failing_since": null, "circuit_open_until": null});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }

    let delete = |owner| call(&world, owner, Method::DELETE, &path);
    assert_eq!(status(delete(&stranger)).await, 404);
    assert_eq!(
        status(delete(&owner).header("if-match", "\"0\"")).await,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(status(delete(&owner)).await, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(status(call(&world, &owner, method, &path)).await, 404);
    }
    let change = call(&world, &owner, Method::PATCH, &path).json(&json!({}));
    assert_eq!(status(change).await, 404);
    let list = json(call(&world, &owner, Method::GET, "")).await;
    assert_eq!(list["data"], json!([]));
    world.finish().await;
}

#[tokio::test]
async fn a_change_keeps_what_it_leaves_out_and_resets_what_is_null() {
    let world = world().await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &everything()).await;
    let path = path_of(&made);
    let change = async |body: Value| json(call(&world, &owner, Method::PATCH, &path).json(&body)).await;
    let before = json(call(&world, &owner, Method::GET, &path)).await;
    let same = change(json!({})).await;
    for (field, value) in before.as_object().unwrap() {
        assert!(field == "updated_at" || same[field] == *value, "{field} changed");
    }
    let changed = change(json!({
        "description": "x",
        "filter": {"/a": null},
        "headers": {"x-shop": null, "X-New": "1"},
        "retry": {"attempts": null, "factor": 4},
    }))
    .await;
    assert_eq!(changed["description"], "x");
    assert_eq!(
        changed["filter"],
        json!({"/a": null}),
        "a filter is replaced as a whole"
    );
    assert_eq!(changed["header_names"], json!(["Authorization", "X-New"]));
    assert_eq!(
        changed["retry"],
        json!({"attempts": null, "initial_seconds": 0.5, "factor": 4.0, "max_seconds": 60.0, "max_age_seconds": 3600.0})
    );
    assert_eq!(
        (&changed["status"], &changed["timeout_ms"]),
        (&json!("disabled"), &json!(5000))
    );

    let fields = everything();
    let fields = fields.as_object().unwrap().keys().filter(|field| *field != "url");
    let reset = change(fields.map(|field| (field.clone(), Value::Null)).collect()).await;
    let mut plain = make(&world, &owner, &json!({"url": "https://example.com/hook"})).await;
    plain.as_object_mut().unwrap().remove("secret");
    for (field, value) in plain.as_object().unwrap() {
        let own = ["id", "created_at", "updated_at"].contains(&field.as_str());
        assert!(own || reset[field] == *value, "{field} is {}", reset[field]);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_change_is_made_only_to_the_version_that_it_names() {
    let world = world().await;
    let owner = world.organization().await;
    let path = path_of(&make(&world, &owner, &json!({"url": "https://example.com/"})).await);
    let tag = async || {
        let shown = call(&world, &owner, Method::GET, &path).send().await.unwrap();
        shown.headers()["etag"].to_str().unwrap().to_owned()
    };
    let change = |tag: &str| {
        let request = call(&world, &owner, Method::PATCH, &path).header("if-match", tag);
        request.json(&json!({"description": "x"}))
    };
    let old = tag().await;
    let changed = change(&old).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    let new = tag().await;
    assert_eq!(changed.headers()["etag"], new.as_str());
    assert_ne!(old, new);
    insta::assert_snapshot!(answer(change(&old)).await, @r#"
    412 Precondition Failed
    content-type: application/problem+json

    {"type":"about:blank","title":"Precondition Failed","status":412,"detail":"it was changed since: `If-Match` names another version"}
    "#);
    for wrong in ["x", &format!("W/{new}"), "\"0\", \"1\""] {
        assert_eq!(status(change(wrong)).await, 412, "{wrong}");
    }
    assert_eq!(status(change(&format!("\"0\", {new}"))).await, 200);
    assert_eq!(status(change("*")).await, 200);
    world.finish().await;
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let world = world().await;
    let owner = world.organization().await;
    let path = path_of(&make(&world, &owner, &json!({"url": "https://example.com/"})).await);
    let change = |body: Value| json(call(&world, &owner, Method::PATCH, &path).json(&body));
    futures_util::future::join3(
        change(json!({"description": "x"})),
        change(json!({"timeout_ms": 100})),
        change(json!({"headers": {"x-a": "1"}})),
    )
    .await;
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    let seen = [
        &shown["description"],
        &shown["timeout_ms"],
        &shown["header_names"],
    ];
    assert_eq!(seen, [&json!("x"), &json!(100), &json!(["x-a"])]);
    world.finish().await;
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let world = world().await;
    let owner = world.organization().await;
    let wrong = json!({
        "url": "http://169.254.169.254/latest",
        "description": "x".repeat(1_001),
        "event_types": ["a b"],
        "filter": {"total": 1},
        "headers": {"Webhook-Id": "x"},
        "retry": {"attempts": 0, "initial_seconds": 0, "factor": 0.5, "max_seconds": 0, "max_age_seconds": 0},
        "timeout_ms": 99,
        "max_in_flight": 0,
        "rate_limit_per_second": 10_001,
    });
    let create = |body: Value| call(&world, &owner, Method::POST, "").json(&body);
    insta::assert_snapshot!(answer(create(wrong.clone())).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, description, event_types, filter, max_in_flight, timeout_ms, rate_limit_per_second, retry.attempts, retry.initial_seconds, retry.factor, retry.max_seconds, retry.max_age_seconds, headers","errors":[{"field":"url","detail":"169.254.169.254 is not a public address"},{"field":"description","detail":"must have at most 1000 bytes, none of them NUL"},{"field":"event_types","detail":"\"a b\" is neither an event type nor a prefix that ends in `*`"},{"field":"filter","detail":"\"total\" is not a JSON pointer, such as \"/order/total\""},{"field":"max_in_flight","detail":"must be 1 to 1000"},{"field":"timeout_ms","detail":"must be 100 to 30000"},{"field":"rate_limit_per_second","detail":"must be 1 to 10000"},{"field":"retry.attempts","detail":"must be 1 to 100"},{"field":"retry.initial_seconds","detail":"must be 0.1 to 86400"},{"field":"retry.factor","detail":"must be 1 to 10"},{"field":"retry.max_seconds","detail":"must be 1 to 86400"},{"field":"retry.max_age_seconds","detail":"must be 1 to 2592000"},{"field":"headers","detail":"\"Webhook-Id\" is reserved"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url","errors":[{"field":"url","detail":"is missing"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"kind": "pull", "url": "https://example.com/", "ordered": true}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, ordered","errors":[{"field":"url","detail":"must not stand beside the kind `pull`"},{"field":"ordered","detail":"must not stand beside the kind `pull`"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/\u{0}", "filter": []}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, filter","errors":[{"field":"url","detail":"must not contain control characters"},{"field":"filter","detail":"must be a JSON object of pointers and conditions"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/", "format": "xml"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: format","errors":[{"field":"format","detail":"unknown variant `xml`, expected `standard` or `cloudevents` at line 1 column 15"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/", "headers": {"X-A": "1", "x-a": "2"}}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: headers","errors":[{"field":"headers","detail":"\"x-a\" stands more than once"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/", "secret": "x"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: secret","errors":[{"field":"secret","detail":"unknown field `secret`, expected one of `kind`, `tenant`, `all_tenants`, `create_tenant`, `url`, `description`, `event_types`, `filter`, `headers`, `format`, `retry`, `timeout_ms`, `max_in_flight`, `rate_limit_per_second`, `ordered`, `on_exhausted`, `status` at line 1 column 9"}]}
    "#);

    let path = path_of(&make(&world, &owner, &json!({"url": "https://example.com/"})).await);
    let change = |body: Value| call(&world, &owner, Method::PATCH, &path).json(&body);
    assert_eq!(
        answer(change(wrong.clone())).await,
        answer(create(wrong)).await,
        "a change is checked like a new endpoint"
    );
    insta::assert_snapshot!(answer(change(json!({"kind": "pull", "url": null}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: kind, url","errors":[{"field":"kind","detail":"cannot be changed"},{"field":"url","detail":"must not be null"}]}
    "#);
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    assert_eq!(shown["url"], "https://example.com/");
    world.finish().await;
}

#[tokio::test]
async fn secrets_and_header_values_are_shown_to_nobody_again() {
    let world = setup()
        .replicas(1, 0)
        .ingest_env("RUST_LOG", "info,ingest_api=trace,shared=trace")
        .start()
        .await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &everything()).await;
    let path = path_of(&made);
    let rotate = call(&world, &owner, Method::POST, &format!("{path}/rotate-secret"));
    let rotated = json(rotate).await;
    let secrets = [&made, &rotated].map(|each| each["secret"].as_str().unwrap().to_owned());
    assert_ne!(secrets[0], secrets[1]);
    let wrong = call(&world, &owner, Method::PATCH, &path)
        .json(&json!({"headers": {"Host": CANARY, "X-A": format!("{CANARY}\r\n")}}));
    let mut places = vec![
        made["header_names"].to_string(),
        json(call(&world, &owner, Method::GET, &path)).await.to_string(),
        json(call(&world, &owner, Method::GET, "")).await.to_string(),
        answer(wrong).await,
        world.stack().ingest(0).log(),
    ];
    let rows = sqlx::query_scalar::<_, String>("select endpoints::text from endpoints");
    places.extend(rows.fetch_all(world.database()).await.unwrap());
    let hex = |text: &str| {
        text.bytes()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    for place in places {
        for secret in secrets.iter().map(String::as_str).chain([CANARY]) {
            let bare = secret.trim_start_matches("whsec_");
            assert!(!place.contains(bare) && !place.contains(&hex(bare)), "{place}");
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_replaced_secret_stays_for_the_overlap() {
    let world = world().await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &json!({"url": "https://example.com/"})).await;
    let path = path_of(&made);
    let rotate =
        |body: Value| call(&world, &owner, Method::POST, &format!("{path}/rotate-secret")).json(&body);
    let stored = async || {
        let query = sqlx::query_as::<_, (Vec<u8>, Option<Vec<u8>>, Option<f64>)>(
            "select secret, previous_secret,
                    extract(epoch from previous_secret_expires_at - now())::float8 from endpoints",
        );
        query.fetch_one(world.database()).await.unwrap()
    };
    let (first, ..) = stored().await;
    let rotated = call(&world, &owner, Method::POST, &format!("{path}/rotate-secret"));
    let rotated = rotated.send().await.unwrap();
    assert_eq!(rotated.status(), 201);
    let rotated: Value = rotated.json().await.unwrap();
    assert_ne!(rotated["secret"], made["secret"]);
    let (second, previous, seconds) = stored().await;
    assert_eq!(previous, Some(first));
    assert!((86_300.0..=86_400.0).contains(&seconds.unwrap()), "{seconds:?}");
    assert!(rotated["previous_secret_expires_at"].is_string(), "{rotated}");

    let own = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let rotated = json(rotate(json!({"secret": own, "overlap_seconds": 60}))).await;
    assert_eq!(rotated["secret"], own);
    assert_eq!(stored().await.1, Some(second));
    let rotated = json(rotate(json!({"overlap_seconds": 0}))).await;
    let (_, previous, seconds) = stored().await;
    assert_eq!(
        (previous, seconds),
        (None, None),
        "nothing of the old one is left"
    );
    assert!(rotated["previous_secret_expires_at"].is_null());

    insta::assert_snapshot!(answer(rotate(json!({"secret": "whsec_short", "overlap_seconds": 604_801}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: overlap_seconds, secret","errors":[{"field":"overlap_seconds","detail":"must be 0 to 604800"},{"field":"secret","detail":"not `whsec_` followed by 24 to 64 bytes in base64"}]}
    "#);
    let pull = path_of(&make(&world, &owner, &json!({"kind": "pull"})).await);
    let rotate = call(&world, &owner, Method::POST, &format!("{pull}/rotate-secret"));
    insta::assert_snapshot!(answer(rotate).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is of kind `pull`: nothing is signed"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn enabling_an_endpoint_closes_its_circuit() {
    let world = world().await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &json!({"url": "https://example.com/"})).await;
    let path = path_of(&made);
    let change = async |body: Value| json(call(&world, &owner, Method::PATCH, &path).json(&body)).await;
    let fail = async || {
        sqlx::query(
            "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, open_until)
             select id, org_id, 9, now() - interval '1 hour', now() + interval '1 minute' from endpoints",
        )
        .execute(world.database())
        .await
        .unwrap();
    };
    fail().await;
    let disabled = change(json!({"status": "disabled"})).await;
    assert_eq!(disabled["disabled_reason"], "disabled through the API");
    let health = &disabled["health"];
    assert_eq!(
        (&health["state"], &health["consecutive_failures"]),
        (&json!("failing"), &json!(9))
    );
    assert!(health["failing_since"].is_string() && health["circuit_open_until"].is_string());
    sqlx::query("update endpoints set disabled_reason = 'gone'")
        .execute(world.database())
        .await
        .unwrap();
    let still = change(json!({"status": "disabled", "description": "x"})).await;
    assert_eq!(still["disabled_reason"], "gone", "it was disabled before");
    assert_eq!(still["health"]["state"], "failing");
    let enabled = change(json!({"status": "enabled"})).await;
    assert_eq!(
        (&enabled["status"], &enabled["disabled_reason"]),
        (&json!("enabled"), &Value::Null)
    );
    assert_eq!(enabled["health"]["state"], "healthy");
    world.finish().await;
}

#[tokio::test]
async fn endpoints_are_listed_in_pages_newest_first() {
    let world = world().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(
            0,
            make(&world, &owner, &json!({"kind": "pull"})).await["id"].clone(),
        );
    }
    make(&world, &stranger, &json!({"kind": "pull"})).await;
    let (mut listed, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = json(call(&world, &owner, Method::GET, &query)).await;
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["id"].clone());
        listed.extend(ids);
        assert!(listed.len() <= made.len(), "{listed:?}");
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, made);
    world.finish().await;
}

#[tokio::test]
async fn a_test_event_goes_to_its_endpoint_alone() {
    let mut world = setup().start().await;
    let owner = world.organization().await;
    let (picky, eager) = (world.receiver().await, world.receiver().await);
    let endpoint = world
        .endpoint_with(&owner, &picky, json!({"event_types": ["never"]}))
        .await;
    world.endpoint(&owner, &eager).await;
    let path = format!("/{}/test", endpoint.id);
    let test = || call(&world, &owner, Method::POST, &path);
    let plain = e2e::accepted(test().send().await.unwrap()).await;
    let own = test()
        .json(&json!({"type": "x", "data": [1]}))
        .send()
        .await
        .unwrap();
    let own = e2e::accepted(own).await;
    for (id, kind, data) in [
        (
            plain,
            "endpoint.test",
            format!(r#"{{"endpoint_id":"{}"}}"#, endpoint.id),
        ),
        (own, "x", "[1]".to_owned()),
    ] {
        world.until_delivery_is(id, "delivered").await;
        let webhooks = picky.webhooks_of(id);
        let body = webhooks[0].parse();
        assert_eq!((body.r#type.as_str(), body.data.get()), (kind, data.as_str()));
    }
    assert_eq!(eager.count(), 0);

    insta::assert_snapshot!(answer(test().json(&json!({"type": "a b"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type","errors":[{"field":"type","detail":"must not contain white space or control characters"}]}
    "#);
    let disable = call(&world, &owner, Method::PATCH, &format!("/{}", endpoint.id));
    json(disable.json(&json!({"status": "disabled"}))).await;
    insta::assert_snapshot!(answer(test()).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is disabled"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn penstocks_own_event_types_cannot_be_sent() {
    let world = world().await;
    let producer = world.producer(&world.organization().await);
    let event = Event::new("endpoint.disabled", "1");
    insta::assert_snapshot!(answer(producer.post_event(event.body())).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type","errors":[{"field":"type","detail":"is reserved for Penstock's own events"}]}
    "#);
    let cloudevent = producer
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .body(r#"{"specversion":"1.0","id":"1","source":"/s","type":"delivery.dead","partitionkey":"a b"}"#);
    insta::assert_snapshot!(answer(cloudevent).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: partitionkey, type","errors":[{"field":"partitionkey","detail":"must not contain white space or control characters"},{"field":"type","detail":"is reserved for Penstock's own events"}]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn a_change_may_be_called_the_merge_patch_that_it_is() {
    let world = world().await;
    let organization = world.organization().await;
    let endpoint = make(&world, &organization, &everything()).await;
    let with_body = |request: RequestBuilder, content_type: &str, body: &Value| {
        request
            .header("content-type", content_type)
            .body(body.to_string())
    };
    let path = path_of(&endpoint);
    let change = json!({"description": "changed", "filter": null});
    let own = || call(&world, &organization, Method::PATCH, &path);
    let changed = json(with_body(
        own(),
        "application/merge-patch+json; charset=utf-8",
        &change,
    ))
    .await;
    assert_eq!(
        (&changed["description"], &changed["filter"]),
        (&json!("changed"), &Value::Null)
    );
    for (content_type, expected) in [("application/json", 200), ("application/json-patch+json", 415)] {
        assert_eq!(status(with_body(own(), content_type, &change)).await, expected);
    }
    let made = call(&world, &organization, Method::POST, "");
    assert_eq!(
        status(with_body(made, "application/merge-patch+json", &everything())).await,
        415
    );
    let url = world.url(&format!("/admin/v1/organizations/{}", organization.id));
    let admin = world.http().patch(url).bearer_auth(world.stack().admin_token());
    let renamed = with_body(admin, "application/merge-patch+json", &json!({"name": "renamed"}));
    assert_eq!(json(renamed).await["name"], "renamed");
    world.finish().await;
}
