//! The contract: an OpenAPI 3.1 document, made from the handlers, and a page to read it.

pub(crate) mod narrowed;
pub(crate) mod refusals;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_swagger_ui::{Config, serve};

use crate::app::App;
use crate::http::answers::gzip::{takes_gzip, unzipped};
use crate::http::error::{ApiError, Problem};
use crate::http::request::extract::PathId;
use crate::routes::legacy::LegacyError;

const DOCUMENT: &str = "/openapi.json";

/// The document without its operations.
#[derive(Debug, utoipa::OpenApi)]
#[openapi(
    info(
        title = "Penstock ingest API",
        description = "Takes events in and delivers them as signed webhooks. Errors are RFC 9457 problems."
    ),
    components(schemas(Problem, LegacyError)),
    modifiers(&Credentials),
    tags(
        (name = "events", description = "Sending events, and reading them with their deliveries."),
        (name = "endpoints", description = "Where events are delivered."),
        (name = "tenants", description = "The organisation's own customers, each with events, endpoints and keys of its own."),
        (name = "portal", description = "The page with which a tenant's people help themselves, and its sessions."),
        (name = "keys", description = "API keys, with which requests are authenticated."),
        (name = "usage", description = "What was sent and delivered, by tenant and day."),
        (name = "zapier", description = "The Zapier Triggers API, for clients of the system that had it. Its errors are `{\"error\": …}`."),
        (name = "admin", description = "For the operator, with the admin token."),
    )
)]
struct Frame;

/// How requests are authenticated.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        components.add_security_scheme("api_key", header);
        let bearer = || SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", bearer());
        components.add_security_scheme("admin_token", bearer());
    }
}

/// The document of these operations.
pub(crate) fn document(operations: impl Iterator<Item = UtoipaMethodRouter<Arc<App>>>) -> OpenApi {
    let document = OpenApiRouter::with_openapi(Frame::openapi());
    operations.fold(document, OpenApiRouter::routes).into_openapi()
}

/// `/openapi.json`, and `/docs`, a page that loads nothing from other hosts. The `document` is made when somebody asks for it
/// first, which in most processes nobody does.
pub(crate) fn routes(document: fn() -> OpenApi) -> Router {
    // As text it takes a tenth of the memory.
    let text = move || Bytes::from(document().to_json().expect("a document has a JSON form"));
    let text = Arc::new(LazyLock::new(text));
    let answer = async move || ([(CONTENT_TYPE, "application/json")], Bytes::clone(&text));
    let config = Arc::new(Config::from(DOCUMENT));
    let its_config = config.clone();
    let page = async move |headers: HeaderMap| file("", its_config, &headers);
    let its_files =
        async move |PathId(name): PathId<String>, headers: HeaderMap| file(&name, config, &headers);
    Router::new()
        .route(DOCUMENT, get(answer))
        .route("/docs", get(async || Redirect::to("/docs/")))
        .route("/docs/", get(page))
        .route("/docs/{*name}", get(its_files))
}

/// A file of the page; without a name, the page itself. Nearly all of them are kept in gzip.
fn file(name: &str, config: Arc<Config<'static>>, headers: &HeaderMap) -> Result<Response, ApiError> {
    let found = serve(name, config).map_err(|error| ApiError::Internal(anyhow::anyhow!("{error}")))?;
    let found = found.ok_or(ApiError::NotFound)?;
    let kind = HeaderValue::try_from(found.content_type).map_err(|error| ApiError::Internal(error.into()))?;
    let mut response = match (found.gzpipped, takes_gzip(headers)) {
        (true, true) => ([(CONTENT_ENCODING, "gzip")], found.bytes).into_response(),
        (true, false) => unzipped(found.bytes).into_response(),
        (false, _) => found.bytes.into_response(),
    };
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, kind);
    answer.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}
