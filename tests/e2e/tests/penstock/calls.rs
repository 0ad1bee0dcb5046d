//! Requests to the API, and what is read from their answers.

use std::time::{Duration, Instant};

use e2e::{Event, Organization, Producer, World, transcript, until};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde_json::Value;
use shared::domain::id::EventId;

/// `address:port` of one of the replicas.
pub(crate) fn address(world: &World, index: usize) -> String {
    world.stack().ingest(index).url().replace("http://", "")
}

/// A request with a key to one of the replicas.
pub(crate) fn request(world: &World, index: usize, method: Method, path: &str, key: &str) -> RequestBuilder {
    let url = format!("{}{path}", world.stack().ingest(index).url());
    world.http().request(method, url).bearer_auth(key)
}

pub(crate) async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.expect("ingest-api answers").status()
}

pub(crate) async fn json(request: RequestBuilder) -> Value {
    let response = request.send().await.expect("ingest-api answers");
    assert!(response.status().is_success(), "{response:?}");
    response.json().await.expect("the answer is JSON")
}

/// What a replica says to a key on a route that needs nothing but a key: 404 to a valid one.
pub(crate) async fn tried(world: &World, index: usize, key: &str) -> StatusCode {
    status(request(world, index, Method::GET, "/v1/events/none", key)).await
}

pub(crate) async fn until_refused(world: &World, index: usize, key: &str) {
    until("the key to be refused", async || {
        match tried(world, index, key).await {
            StatusCode::UNAUTHORIZED => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

/// Tries a key until it is refused, and returns how long after `since` the last request began that was let in.
pub(crate) async fn last_admitted(world: &World, index: usize, key: &str, since: Instant) -> Duration {
    let mut last = Duration::ZERO;
    until("the key to be refused", async || {
        let begun = since.elapsed();
        match tried(world, index, key).await {
            StatusCode::UNAUTHORIZED => return Ok(()),
            StatusCode::NOT_FOUND => last = begun,
            other => return Err(other.to_string()),
        }
        Err(format!("it is let in after {last:?}"))
    })
    .await;
    last
}

pub(crate) async fn make(world: &World, maker: &str, body: &Value) -> Value {
    json(request(world, 0, Method::POST, "/v1/keys", maker).json(body)).await
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
}

pub(crate) async fn answer(request: RequestBuilder) -> String {
    transcript(request.send().await.expect("ingest-api answers")).await
}

/// The answer that all of these requests get.
pub(crate) async fn same_answer(requests: impl IntoIterator<Item = RequestBuilder>) -> String {
    let answers = join_all(requests.into_iter().map(answer)).await;
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    answers.into_iter().next().expect("there are requests")
}

pub(crate) fn call(world: &World, organization: &Organization, method: Method, path: &str) -> RequestBuilder {
    request(
        world,
        0,
        method,
        &format!("/v1/endpoints{path}"),
        &organization.key,
    )
}

/// The wrong fields that an answer names, a line each with what is wrong.
///
/// # Panics
/// When it is not 422.
pub(crate) async fn wrong_fields(request: RequestBuilder) -> String {
    let answer = request.send().await.expect("ingest-api answers");
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = answer.json().await.expect("a problem is JSON");
    let errors = problem["errors"].as_array().expect("a 422 names fields");
    let told: Vec<_> = errors
        .iter()
        .map(|error| format!("{}: {}", text(error, "field"), text(error, "detail")))
        .collect();
    told.join("\n")
}

/// Events with different payloads, all sent at once.
pub(crate) async fn send(producer: &Producer, count: usize) -> Vec<(EventId, Vec<u8>)> {
    let sends = (0..count).map(async |number| {
        let event = Event::new("a", format!(r#"{{"number": {number}}}"#));
        (producer.send(&event).await, event.data.into_bytes())
    });
    join_all(sends).await
}
