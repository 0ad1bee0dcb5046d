//! Every path of the API, and the layers in front of them.

mod table;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get, options};
use serde_json::Value;
use shared::process::telemetry::{Readiness, health_routes};
use shared::server::rules::RulesLayer;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower::{ServiceBuilder, ServiceExt as _};

pub(crate) use self::table::portal_routes;
use self::table::{Operations, admin, contract, legacy_with_key, legacy_without_key, with_key};
use crate::app::App;
use crate::console;
use crate::console::layer::SessionLayer;
use crate::http::admission::AdmissionLayer;
use crate::http::answers::AnswerLayer;
use crate::http::answers::cors::CorsLayer;
use crate::http::answers::panics::CatchPanicLayer;
use crate::http::error::ApiError;
use crate::http::trace::TraceLayer;
use crate::keys::cache::KeyCache;
use crate::limits::limiter::RateLimiter;
use crate::limits::tenants::TenantLimits;
use crate::routes::{events, legacy, openapi};

/// How often caches drop what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

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
        .merge(openapi::routes(|| openapi::document(contract())))
        .route("/", get(async || "Penstock ingest API\n"))
}

fn router(operations: Operations) -> Router<Arc<App>> {
    let operations = operations
        .into_iter()
        .flat_map(|(_, paths, handlers)| paths.paths.into_keys().map(move |path| (path, handlers.clone())));
    operations.fold(Router::new(), |router, (path, handlers)| {
        router.route(&path, handlers)
    })
}

/// The API that producers call, with the admin API unless that has a socket of its own.
pub(crate) fn routes(app: Arc<App>, readiness: Readiness, with_admin: bool) -> Router {
    let admin = if with_admin { admin() } else { Operations::new() };
    let legacy = router(legacy_with_key())
        .route_layer(AdmissionLayer::new(app.clone()))
        .merge(router(legacy_without_key()))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(map_response(legacy::rewrite));
    let cors = CorsLayer::new(&app.cors_origins);
    let traces = app.traces.clone().map(TraceLayer::new);
    let with_key = router(with_key()).with_state(app.clone());
    let others = legacy
        .merge(router(admin))
        .merge(console::routes())
        .with_state(app.clone());
    let others = beside_the_contract(readiness).merge(others);
    with_layers(app, with_key, others, cors, traces)
}

/// The admin API on a socket of its own.
pub(crate) fn admin_alone(app: Arc<App>, readiness: Readiness) -> Router {
    let routes = router(admin()).merge(console::routes());
    let routes = routes.with_state(app.clone()).merge(health_routes(readiness));
    with_layers(app, Router::new(), routes, None, None)
}

/// Puts what every answer passes through in front of all routes, and admission in front of those that need a key.
fn with_layers(
    app: Arc<App>,
    with_key: Router,
    others: Router,
    cors: Option<CorsLayer>,
    traces: Option<TraceLayer>,
) -> Router {
    let admission = AdmissionLayer::new(app.clone());
    let common = ServiceBuilder::new()
        .layer(AnswerLayer::default())
        .layer(option_layer(traces))
        .layer(option_layer(cors))
        .layer(CatchPanicLayer)
        .layer(RulesLayer)
        .layer(SessionLayer::new(app));
    // Without the common layers: who asks here has passed them.
    let known = others
        .clone()
        .merge(with_key.clone().layer(admission.clone()))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .fallback(async || ApiError::NotFound);
    let unknown = any(move |request| without_slash(known.clone(), request));
    let unknown: MethodRouter = unknown.layer(common.clone());
    let not_allowed: MethodRouter = any(async || ApiError::MethodNotAllowed).layer(common.clone());
    // One stack for each route: a router boxes every route again for each layer that is added by itself.
    let with_key = with_key.layer((common.clone(), admission));
    let routes = others.layer(common).merge(with_key);
    routes
        .method_not_allowed_fallback(not_allowed)
        .fallback_service(unknown)
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
