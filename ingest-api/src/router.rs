//! Every path of the API, and the layers in front of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, options};
use serde_json::Value;
use shared::process::panics::panic_text;
use shared::process::telemetry::{Readiness, health_routes};
use shared::server::rules::RulesLayer;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::app::App;
use crate::http::admission::AdmissionLayer;
use crate::http::cors::CorsLayer;
use crate::http::error::ApiError;
use crate::http::metrics::RecordLayer;
use crate::keys::cache::KeyCache;
use crate::limits::limiter::RateLimiter;
use crate::routes::{endpoints, events, keys, legacy, openapi, organizations, pull, tenants};

/// How often caches drop what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Operations of the contract: their handlers with their paths, and what the document says of them.
type Operations = Vec<UtoipaMethodRouter<Arc<App>>>;

/// What needs an API key.
fn with_key() -> Operations {
    vec![
        routes!(events::create::create, events::read::list),
        routes!(events::batch::create),
        routes!(events::read::show),
        routes!(events::data::remove),
        routes!(events::replay::replay),
        routes!(events::replay::retry),
        routes!(endpoints::manage::create, endpoints::list::list),
        routes!(
            endpoints::manage::show,
            endpoints::manage::change,
            endpoints::manage::delete
        ),
        routes!(endpoints::secret::rotate),
        routes!(endpoints::test_event::send),
        routes!(endpoints::deliveries::list),
        routes!(endpoints::deliveries::summary),
        routes!(endpoints::recoveries::create),
        routes!(endpoints::recoveries::list),
        routes!(endpoints::recoveries::show, endpoints::recoveries::cancel),
        routes!(pull::lease::pull),
        routes!(pull::acknowledge::acknowledge),
        routes!(tenants::list),
        routes!(tenants::put, tenants::show, tenants::change, tenants::delete),
        routes!(keys::own::create, keys::own::list),
        routes!(keys::own::revoke),
        routes!(keys::own::rotate),
    ]
}

/// What needs an API key in the Zapier Triggers API, whose errors have another form.
fn legacy_with_key() -> Operations {
    vec![
        routes!(legacy::keys::list),
        routes!(legacy::keys::rotate),
        routes!(legacy::events::create),
        routes!(legacy::inbox::list),
        routes!(legacy::inbox::acknowledge),
        routes!(legacy::webhook::configure),
    ]
}

/// What anyone may call in the Zapier Triggers API.
fn legacy_without_key() -> Operations {
    vec![routes!(legacy::keys::generate), routes!(legacy::health)]
}

/// What needs the admin token.
fn admin() -> Operations {
    vec![
        routes!(organizations::create, organizations::list),
        routes!(organizations::show, organizations::change),
        routes!(keys::admin::create, keys::admin::list),
        routes!(keys::admin::revoke),
        routes!(endpoints::manage::create_as_admin),
    ]
}

/// All operations: what the document describes, wherever they are served.
fn contract() -> impl Iterator<Item = UtoipaMethodRouter<Arc<App>>> {
    let groups = [with_key(), legacy_with_key(), legacy_without_key(), admin()];
    groups.into_iter().flatten()
}

/// The contract, as `/openapi.json` shows it.
pub(crate) fn document() -> Value {
    serde_json::to_value(openapi::document(contract())).expect("its maps have strings for keys")
}

/// All that is served and is no part of the contract: CloudEvents' handshakes, health, the document and a greeting.
fn beside_the_contract(readiness: Readiness) -> Router {
    Router::new()
        .route("/v1/events", options(events::create::handshake))
        .route("/v1/events/batch", options(events::create::handshake))
        .merge(health_routes(readiness))
        .merge(openapi::routes(openapi::document(contract())))
        .route("/", get(async || "Penstock ingest API\n"))
}

fn router(operations: Operations) -> Router<Arc<App>> {
    let routers = operations.into_iter();
    routers
        .fold(OpenApiRouter::default(), OpenApiRouter::routes)
        .into()
}

/// The API that producers call, with the admin API unless that has a socket of its own.
pub(crate) fn routes(app: Arc<App>, readiness: Readiness, with_admin: bool) -> Router {
    let admin = if with_admin { admin() } else { Operations::new() };
    let admission = AdmissionLayer::new(app.clone());
    let legacy = router(legacy_with_key())
        .route_layer(admission.clone())
        .merge(router(legacy_without_key()))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(map_response(legacy::rewrite));
    let cors = CorsLayer::new(&app.cors_origins);
    let contract = router(with_key())
        .route_layer(admission)
        .merge(legacy)
        .merge(router(admin))
        .with_state(app);
    with_common_layers(beside_the_contract(readiness).merge(contract), cors)
}

/// The admin API on a socket of its own.
pub(crate) fn admin_alone(app: Arc<App>, readiness: Readiness) -> Router {
    let routes = router(admin()).with_state(app).merge(health_routes(readiness));
    with_common_layers(routes, None)
}

/// What every answer passes through.
fn with_common_layers(routes: Router, cors: Option<CorsLayer>) -> Router {
    // One stack: a router boxes every route again for each layer that is added by itself.
    let layers = ServiceBuilder::new()
        // Bodies are read with limits of their own, whose errors name the limit.
        .layer(DefaultBodyLimit::disable())
        .layer(RecordLayer::default())
        .layer(SetResponseHeaderLayer::if_not_present(
            X_FRAME_OPTIONS,
            HeaderValue::from_static("DENY"),
        ))
        // Answers hold customers' data: no cache may keep them.
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(option_layer(cors))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(RulesLayer);
    let routes = routes.method_not_allowed_fallback(async || ApiError::MethodNotAllowed);
    let known = routes.clone().fallback(async || ApiError::NotFound);
    routes
        .fallback(move |request| without_slash(known.clone(), request))
        .layer(layers)
}

/// Answers a request for an unknown path: tries it without the slashes at its end.
async fn without_slash(known: Router, mut request: Request) -> Response {
    match trimmed(request.uri()) {
        None => ApiError::NotFound.into_response(),
        Some(uri) => {
            *request.uri_mut() = uri;
            known.oneshot(request).await.into_response()
        }
    }
}

fn trimmed(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/')?.trim_end_matches('/');
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse().ok().filter(|_| !path.is_empty())?);
    Uri::from_parts(parts).ok()
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::Internal(anyhow::anyhow!("a handler panicked: {}", panic_text(&*panic))).into_response()
}

/// Drops what is too old from the caches, until the stop.
///
/// # Errors
/// Never yet; it returns a result because it runs as a long-lived task.
pub(crate) async fn sweep(
    keys: Arc<KeyCache>,
    rate_limiter: Arc<RateLimiter>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        keys.sweep();
        rate_limiter.sweep();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The name of two schemas that differ. The document would hold the later one, for both.
    fn collision(operations: impl Iterator<Item = UtoipaMethodRouter<Arc<App>>>) -> Option<String> {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        let shared = openapi::document(std::iter::empty())
            .components
            .unwrap_or_default();
        let schemas = operations.flat_map(|(schemas, ..)| schemas).chain(shared.schemas);
        for (name, schema) in schemas {
            let schema = serde_json::to_value(schema).unwrap();
            if known.get(&name).is_some_and(|other| *other != schema) {
                return Some(name);
            }
            known.insert(name, schema);
        }
        None
    }

    #[test]
    fn no_two_schemas_have_one_name() {
        assert_eq!(collision(contract()), None);
    }

    mod other {
        #[derive(serde::Serialize, utoipa::ToSchema)]
        pub(super) struct Health {
            other: bool,
        }

        #[utoipa::path(get, path = "/other", responses((status = 200, body = Health)))]
        pub(super) async fn health() {}
    }

    #[test]
    fn a_second_schema_of_a_name_is_found() {
        let operations = contract().chain([routes!(other::health)]);
        assert_eq!(collision(operations).as_deref(), Some("Health"));
    }

    #[test]
    fn an_endpoints_health_is_described_as_what_it_is() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let health = &schemas["Endpoint"]["properties"]["health"]["$ref"];
        let name = health.as_str().unwrap().rsplit('/').next().unwrap();
        let fields: Vec<_> = schemas[name]["properties"].as_object().unwrap().keys().collect();
        let expected = [
            "circuit_open_until",
            "consecutive_failures",
            "failing_since",
            "state",
        ];
        assert_eq!(fields, expected);
        let process = &schemas["ProcessHealth"]["properties"];
        assert!(process["status"].is_object(), "{schemas}");
    }

    #[test]
    fn an_operations_own_answer_takes_the_place_of_a_shared_one() {
        let document = document();
        let refusals = &document["paths"]["/v1/events/batch"]["post"]["responses"];
        assert_eq!(refusals["401"]["description"], "No valid API key.");
        let own = "The batch has more events than the rate limit has requests left.";
        assert_eq!(refusals["429"]["description"], own);
    }
}
