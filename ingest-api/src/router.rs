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
use crate::console;
use crate::console::layer::SessionLayer;
use crate::http::admission::AdmissionLayer;
use crate::http::cors::CorsLayer;
use crate::http::error::ApiError;
use crate::http::metrics::RecordLayer;
use crate::http::request_ids::RequestIdLayer;
use crate::http::trace::TraceLayer;
use crate::keys::cache::KeyCache;
use crate::limits::limiter::RateLimiter;
use crate::limits::tenants::TenantLimits;
use crate::routes::{
    audit_log, endpoints, events, filters, keys, legacy, openapi, organizations, portal, pull, stats, tail,
    templates, tenants, usage,
};

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
        routes!(endpoints::public_key::show),
        routes!(endpoints::public_key::rotate),
        routes!(endpoints::test_event::send),
        routes!(filters::test::test),
        routes!(filters::preview::preview),
        routes!(templates::test::test),
        routes!(endpoints::deliveries::list),
        routes!(endpoints::deliveries::summary),
        routes!(endpoints::dead::count),
        routes!(endpoints::stats::show),
        routes!(endpoints::recoveries::create),
        routes!(endpoints::recoveries::list),
        routes!(endpoints::recoveries::show, endpoints::recoveries::cancel),
        routes!(pull::lease::pull),
        routes!(pull::acknowledge::acknowledge),
        routes!(pull::give_back::give_back),
        routes!(pull::extend::extend),
        routes!(tenants::list::list),
        routes!(tenants::put, tenants::show, tenants::change, tenants::delete),
        routes!(portal::sessions::create, portal::sessions::end_all),
        routes!(portal::sessions::end),
        routes!(portal::settings::show, portal::settings::put),
        routes!(portal::show::show),
        routes!(stats::show),
        routes!(tail::tail),
        routes!(keys::own::create, keys::own::list),
        routes!(keys::own::revoke),
        routes!(keys::own::rotate),
        routes!(usage::list),
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
        routes!(organizations::show, organizations::change, organizations::delete),
        routes!(keys::admin::create, keys::admin::list),
        routes!(keys::admin::revoke),
        routes!(endpoints::manage::create_as_admin),
        routes!(events::explain::explain),
        routes!(audit_log::list),
        routes!(stats::admin::show),
        routes!(usage::list_all),
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
    let traces = app.traces.clone().map(TraceLayer::new);
    let contract = router(with_key())
        .route_layer(admission)
        .merge(legacy)
        .merge(router(admin))
        .merge(console::routes())
        .with_state(app.clone());
    let routes = beside_the_contract(readiness).merge(contract);
    with_common_layers(routes, cors, SessionLayer::new(app), traces)
}

/// The admin API on a socket of its own.
pub(crate) fn admin_alone(app: Arc<App>, readiness: Readiness) -> Router {
    let routes = router(admin()).merge(console::routes());
    let routes = routes.with_state(app.clone()).merge(health_routes(readiness));
    with_common_layers(routes, None, SessionLayer::new(app), None)
}

/// What every answer passes through.
fn with_common_layers(
    routes: Router,
    cors: Option<CorsLayer>,
    sessions: SessionLayer,
    traces: Option<TraceLayer>,
) -> Router {
    // One stack: a router boxes every route again for each layer that is added by itself.
    let layers = ServiceBuilder::new()
        // Bodies are read with limits of their own, whose errors name the limit.
        .layer(DefaultBodyLimit::disable())
        .layer(RequestIdLayer::default())
        .layer(RecordLayer::default())
        .layer(option_layer(traces))
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
        .layer(RulesLayer)
        .layer(sessions);
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
    tenant_limits: Arc<TenantLimits>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        keys.sweep();
        rate_limiter.sweep();
        tenant_limits.refusals.sweep();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
