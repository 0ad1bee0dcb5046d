//! Requests that are spelled in another way than most, and those that say one thing twice.

use reqwest::Method;
use serde_json::Value;

use crate::calls::{call, request};
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
