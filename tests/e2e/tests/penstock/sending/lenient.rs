//! Requests that are spelled in another way than most, and those that say one thing twice.

use e2e::Event;
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{call, json, request};
use crate::{setup, world};

#[tokio::test]
async fn a_name_that_stands_twice_in_a_form_is_told() {
    let world = world().await;
    let owner = world.organization().await;
    let create = |body: &'static str| {
        let request = call(&world, &owner, Method::POST, "").header("content-type", "application/json");
        request.body(body)
    };
    let made: Value = create(r#"{"kind":"pull"}"#)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let path = format!("/{}", made["id"].as_str().expect("an endpoint has an id"));
    for (body, field) in [
        (
            r#"{"url":"https://example.com/","filter":{"/a":1,"/a":2}}"#,
            "filter./a",
        ),
        (
            r#"{"url":"https://example.com/","filter":{"/a":{"gt":1,"\u0067t":2}}}"#,
            "filter./a.gt",
        ),
        (
            r#"{"url":"https://example.com/","headers":{"X-A":"1","X-A":"2"}}"#,
            "headers.X-A",
        ),
        (
            r#"{"url":"https://example.com/","retry":{"attempts":1,"attempts":2}}"#,
            "retry.attempts",
        ),
        (
            r#"{"url":"https://example.com/","url":"https://example.com/"}"#,
            "url",
        ),
    ] {
        let change =
            call(&world, &owner, Method::PATCH, &path).header("content-type", "application/merge-patch+json");
        for request in [create(body), change.body(body)] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 422, "{body}");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["errors"][0]["field"], field);
            assert_eq!(problem["errors"][0]["detail"], "stands more than once");
        }
    }
    let twice = request(&world, 0, Method::GET, "/v1/events?limit=1&limit=2", &owner.key);
    assert_eq!(twice.send().await.unwrap().status(), 422);
    world.finish().await;
}

#[tokio::test]
async fn every_form_in_which_a_name_stands_twice_is_refused() {
    let world = setup().ingest_env("ALLOW_SIGNUP", "true").start().await;
    let owner = world.organization().await;
    let make = async |body: Value| {
        let made = json(call(&world, &owner, Method::POST, "").json(&body)).await;
        made["id"].as_str().expect("an endpoint has an id").to_owned()
    };
    let pull = make(json!({"kind": "pull"})).await;
    let event = world.producer(&owner).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "pending").await;
    let push = make(json!({"url": "https://example.com/"})).await;
    let keys = json(request(&world, 0, Method::GET, "/v1/keys", &owner.key)).await;
    let own = keys["data"][0]["id"].as_str().expect("a key has an id");
    let (id, admin) = (owner.id, world.stack().admin_token());
    let key = owner.key.as_str();
    // Each with one member, which is sent twice.
    let forms = [
        (
            key,
            format!("/v1/endpoints/{push}/recover"),
            r#""since":"2026-01-01T00:00:00Z""#,
        ),
        (key, format!("/v1/endpoints/{push}/test"), r#""type":"a""#),
        (
            key,
            format!("/v1/endpoints/{push}/rotate-secret"),
            r#""overlap_seconds":1"#,
        ),
        (key, format!("/v1/endpoints/{pull}/pull"), r#""max":1"#),
        (key, format!("/v1/endpoints/{pull}/ack"), r#""leases":[]"#),
        (key, format!("/v1/endpoints/{pull}/nack"), r#""delay_seconds":1"#),
        (
            key,
            format!("/v1/endpoints/{pull}/extend"),
            r#""lease_seconds":1"#,
        ),
        (key, format!("/v1/events/{event}/replay"), r#""endpoint_id":null"#),
        (key, "/v1/keys".to_owned(), r#""name":"a""#),
        (key, format!("/v1/keys/{own}/rotate"), r#""overlap_seconds":1"#),
        (key, "/v1/events".to_owned(), r#""type":"a""#),
        (key, "/api/events".to_owned(), r#""type":"a""#),
        (
            key,
            "/api/webhook/config".to_owned(),
            r#""webhook_url":"https://example.com/""#,
        ),
        ("", "/api/keys/generate".to_owned(), r#""organization_name":"a""#),
        (admin, "/admin/v1/organizations".to_owned(), r#""name":"a""#),
        (
            admin,
            format!("/admin/v1/organizations/{id}/keys"),
            r#""name":"a""#,
        ),
    ];
    for (key, path, member) in forms {
        let body = format!("{{{member},{member}}}");
        let post = request(&world, 0, Method::POST, &path, key).header("content-type", "application/json");
        let answer = post.body(body).send().await.unwrap();
        let answered = answer.status();
        let said = answer.text().await.unwrap();
        assert_eq!(answered, 422, "{path}: {said}");
        let is_event = path.ends_with("/events");
        let tells = said.contains("stands more than once") || is_event && said.contains("duplicate field");
        assert!(tells, "{path}: {said}");
    }
    let batch = request(&world, 0, Method::POST, "/v1/events/batch", key);
    let batch = batch.header("content-type", "application/json");
    let results = json(batch.body(r#"[{"type":"a","type":"b","data":1}]"#)).await;
    assert_eq!(results["results"][0]["status"], 422, "{results}");
    world.finish().await;
}

#[tokio::test]
async fn integers_marks_and_slashes_are_read_as_they_are_meant() {
    let world = setup().start().await;
    let owner = world.organization().await;
    let body = "\u{feff}{\"url\":\"https://example.com/\",\"timeout_ms\":2e3,\"max_in_flight\":64.0,\"retry\":{\"attempts\":1.2e1}}";
    let create = call(&world, &owner, Method::POST, "/").header("content-type", "application/json");
    let made: Value = create.body(body).send().await.unwrap().json().await.unwrap();
    let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}"));
    let shown = call(&world, &owner, Method::GET, &format!("/{id}//"));
    let shown: Value = shown.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&shown["timeout_ms"], &shown["max_in_flight"]),
        (&2_000.into(), &64.into())
    );
    assert_eq!(shown["retry"]["attempts"], 12);
    let producer = world.producer(&owner);
    let marked = "\u{feff}{\"type\":\"a\",\"data\":1}\n{\"type\":\"b\",\"data\":2}";
    let lines = producer
        .post("/v1/events/batch/?x=1")
        .header("content-type", "application/x-ndjson");
    assert_eq!(lines.body(marked).send().await.unwrap().status(), 202);
    let nowhere = producer.post("/v1/nothing/").send().await.unwrap();
    assert_eq!(nowhere.status(), 404);
    world.finish().await;
}
