//! Every answer that a test gets is compared with the OpenAPI document.
//!
//! The check is a middleware of the tests' HTTP client. It panics when the document does not have the answer's status or
//! content type, when the answer's body is not what its schema says, and when a request was accepted although its body is
//! not what the document asks for. Times in answers have the one form in which Penstock writes times.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Request, Response, StatusCode};
use reqwest_middleware::{ClientWithMiddleware, Middleware, Next};
use serde_json::{Value, json};

use crate::clock::is_time;

/// The HTTP client of tests.
pub type Client = ClientWithMiddleware;

static DOCUMENT: LazyLock<Value> = LazyLock::new(ingest_api::openapi);

/// The validators made so far, by the pointer of their schema in the document.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// The client, whose answers are checked from now on.
pub(crate) fn checked(client: reqwest::Client) -> Client {
    reqwest_middleware::ClientBuilder::new(client)
        .with(Contract)
        .build()
}

struct Contract;

#[async_trait::async_trait]
impl Middleware for Contract {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let operation = Operation::find(request.method(), request.url().path());
        let sent = media_type(request.headers())
            .filter(|media_type| is_json(media_type))
            .zip(request.body().and_then(reqwest::Body::as_bytes))
            .map(|(media_type, body)| (media_type, body.to_vec()));
        let response = next.run(request, extensions).await?;
        match operation {
            Some(operation) => Ok(operation.check(sent, response).await?),
            None => Ok(response),
        }
    }
}

/// One operation of the document.
struct Operation {
    /// The operation's place in the document.
    pointer: String,
    value: &'static Value,
}

impl Operation {
    /// `None` when the document has no such path or method.
    fn find(method: &Method, path: &str) -> Option<Self> {
        let paths = DOCUMENT["paths"].as_object().expect("the document has paths");
        let fitting = paths.iter().filter(|(template, _)| fits(template, path));
        // A path without parameters comes before one with them.
        let (template, item) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
        let method = method.as_str().to_lowercase();
        let value = item.get(&method)?;
        let template = template.replace('~', "~0").replace('/', "~1");
        let pointer = format!("/paths/{template}/{method}");
        Some(Self { pointer, value })
    }

    async fn check(&self, sent: Option<(String, Vec<u8>)>, response: Response) -> reqwest::Result<Response> {
        let status = response.status();
        let (mut head, body) = http::Response::from(response).into_parts();
        let body = Response::from(http::Response::new(body)).bytes().await?;
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            // A fault of ours is in no contract; the tests that provoke one look at it.
            return Ok(Response::from(http::Response::from_parts(head, body)));
        }
        let answers = &self.value["responses"];
        let described = &answers[status.as_str()];
        assert!(
            described.is_object(),
            "the document has no {status} at {}: {}",
            self.pointer,
            String::from_utf8_lossy(&body)
        );
        let pointer = format!("{}/responses/{}", self.pointer, status.as_str());
        match media_type(&head.headers) {
            Some(media_type) => self::check(&pointer, described, &media_type, &body),
            None => assert!(body.is_empty(), "an answer without a media type at {pointer}"),
        }
        if let Some((media_type, body)) = sent.filter(|_| status.is_success()) {
            let pointer = format!("{}/requestBody", self.pointer);
            self::check(&pointer, &self.value["requestBody"], &media_type, &body);
        }
        head.extensions.clear();
        Ok(Response::from(http::Response::from_parts(head, body)))
    }
}

/// Whether a path is one of a template's, such as `/v1/events/{id}`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template
            .iter()
            .zip(path)
            .all(|(part, text)| part.starts_with('{') && !text.is_empty() || *part == text)
}

/// The media type without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = content_type.split(';').next()?;
    Some(media_type.trim().to_lowercase())
}

fn is_json(media_type: &str) -> bool {
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// Compares a body with what the document says of its media type, and with its schema if it is JSON.
fn check(pointer: &str, described: &Value, media_type: &str, body: &[u8]) {
    let content = &described["content"][media_type];
    assert!(
        content.is_object(),
        "the document has no {media_type} at {pointer}"
    );
    if !is_json(media_type) {
        return;
    }
    // Some senders write what only a lenient reader takes; it is not for the schema to say so.
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let media_type = media_type.replace('/', "~1");
    let validator = validator(format!("{pointer}/content/{media_type}/schema"));
    let errors: Vec<_> = validator
        .iter_errors(&value)
        .map(|error| format!("{} at {:?}", error, error.instance_path().to_string()))
        .collect();
    assert!(errors.is_empty(), "{pointer}: {errors:#?}\n{value:#}");
}

/// The validator of the schema at a place of the document.
fn validator(pointer: String) -> Arc<Validator> {
    let validators = || VALIDATORS.lock().expect("nothing panics while it holds this");
    let known = validators().get(&pointer).cloned();
    if let Some(known) = known {
        return known;
    }
    // Not under the lock: it takes long, and a test whose check waits answers no webhooks.
    let schema = json!({
        "$ref": format!("#{}", pointer.replace('{', "%7B").replace('}', "%7D")),
        "paths": DOCUMENT["paths"],
        "components": DOCUMENT["components"],
    });
    let mut options = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true);
    // Clients may write their times as RFC 3339 allows.
    if pointer.contains("/responses/") {
        options = options.with_format("date-time", is_time);
    }
    let made = options.build(&schema);
    let made = Arc::new(made.unwrap_or_else(|error| panic!("{pointer}: {error}")));
    validators().entry(pointer).or_insert(made).clone()
}
