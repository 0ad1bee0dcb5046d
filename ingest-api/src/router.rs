//! Every path of the API, and the layers in front of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, options, post};
use shared::process::panics::panic_text;
use shared::process::telemetry::{Readiness, health_routes};
use shared::server::rules::RulesLayer;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;
use crate::http::admission::AdmissionLayer;
use crate::http::cors::CorsLayer;
use crate::http::error::ApiError;
use crate::http::metrics::RecordLayer;
use crate::keys::cache::KeyCache;
use crate::limits::limiter::RateLimiter;
use crate::routes::{endpoints, events, keys, legacy, openapi, organizations, pull};

/// How often caches drop what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The API that producers call, with the admin API unless that has a socket of its own.
pub fn routes(app: Arc<App>, readiness: Readiness, with_admin: bool) -> Router {
    let admin = if with_admin {
        admin_routes(app.clone())
    } else {
        Router::new()
    };
    let with_key = Router::new()
        .route("/v1/events", post(events::create::create).get(events::read::list))
        .route("/v1/events/batch", post(events::batch::create))
        .route("/v1/events/{id}", get(events::read::show))
        .route("/v1/events/{id}/data", delete(events::data::remove))
        .route("/v1/events/{id}/replay", post(events::replay::replay))
        .route(
            "/v1/events/{id}/deliveries/{endpoint_id}/retry",
            post(events::replay::retry),
        )
        .merge(endpoint_routes())
        .route("/v1/keys", post(keys::own::create).get(keys::own::list))
        .route("/v1/keys/{id}", delete(keys::own::revoke))
        .route("/v1/keys/{id}/rotate", post(keys::own::rotate))
        .route_layer(AdmissionLayer::new(app.clone()));
    let cors = CorsLayer::new(&app.cors_origins);
    let without_key = Router::new()
        .route("/v1/events", options(events::create::handshake))
        .route("/v1/events/batch", options(events::create::handshake));
    let routes = Router::new()
        .merge(without_key)
        .merge(with_key)
        .merge(legacy_routes(app.clone()))
        .with_state(app)
        .merge(admin)
        .merge(health_routes(readiness))
        .merge(openapi::routes())
        .route("/", get(async || "Penstock ingest API\n"));
    with_common_layers(routes, cors)
}

fn endpoint_routes() -> Router<Arc<App>> {
    let one = get(endpoints::manage::show)
        .patch(endpoints::manage::change)
        .delete(endpoints::manage::delete);
    Router::new()
        .route(
            "/v1/endpoints",
            post(endpoints::manage::create).get(endpoints::list::list),
        )
        .route("/v1/endpoints/{id}", one)
        .route(
            "/v1/endpoints/{id}/rotate-secret",
            post(endpoints::secret::rotate),
        )
        .route("/v1/endpoints/{id}/test", post(endpoints::test_event::send))
        .route("/v1/endpoints/{id}/deliveries", get(endpoints::deliveries::list))
        .route(
            "/v1/endpoints/{id}/deliveries/summary",
            get(endpoints::deliveries::summary),
        )
        .route("/v1/endpoints/{id}/recover", post(endpoints::recoveries::create))
        .route("/v1/endpoints/{id}/recoveries", get(endpoints::recoveries::list))
        .route(
            "/v1/endpoints/{id}/recoveries/{recovery_id}",
            get(endpoints::recoveries::show).delete(endpoints::recoveries::cancel),
        )
        .route("/v1/endpoints/{id}/pull", post(pull::pull))
        .route("/v1/endpoints/{id}/ack", post(pull::acknowledge))
}

/// The Zapier Triggers API, whose errors have another form.
fn legacy_routes(app: Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/api/keys", get(legacy::keys::list))
        .route("/api/keys/rotate", post(legacy::keys::rotate))
        .route("/api/events", post(legacy::events::create))
        .route("/api/inbox", get(legacy::inbox::list))
        .route("/api/ack/{id}", post(legacy::inbox::acknowledge))
        .route("/api/webhook/config", post(legacy::webhook::configure))
        .route_layer(AdmissionLayer::new(app))
        .route("/api/keys/generate", post(legacy::keys::generate))
        .route("/health", get(legacy::health))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(map_response(legacy::rewrite))
}

fn admin_routes(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/admin/v1/organizations",
            post(organizations::create).get(organizations::list),
        )
        .route(
            "/admin/v1/organizations/{org_id}",
            get(organizations::show).patch(organizations::change),
        )
        .route(
            "/admin/v1/organizations/{org_id}/keys",
            post(keys::admin::create).get(keys::admin::list),
        )
        .route(
            "/admin/v1/organizations/{org_id}/keys/{id}",
            delete(keys::admin::revoke),
        )
        .route(
            "/admin/v1/organizations/{org_id}/endpoints",
            post(endpoints::manage::create_as_admin),
        )
        .with_state(app)
}

/// The admin API on a socket of its own.
pub fn admin_alone(app: Arc<App>, readiness: Readiness) -> Router {
    let routes = admin_routes(app).merge(health_routes(readiness));
    with_common_layers(routes, None)
}

/// What every answer passes through.
fn with_common_layers(routes: Router, cors: Option<CorsLayer>) -> Router {
    // One stack, not a layer after the other: a router boxes every route again for each.
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

/// Answers a request whose path no route knows: without the slashes at its end one may.
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
pub async fn sweep(
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
