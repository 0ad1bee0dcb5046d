//! Every path of the API, and the layers in front of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, LINK, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, options, post};
use shared::egress::EgressConfig;
use shared::secret::SecretsKey;
use shared::shutdown::panic_text;
use shared::telemetry::{Readiness, health_routes};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::admission::admit;
use crate::auth::Authenticator;
use crate::config::{AdminToken, Config};
use crate::error::ApiError;
use crate::http_metrics;
use crate::openapi;
use crate::publish::Publisher;
use crate::rate_limit::{RATE_LIMIT, RATE_LIMIT_POLICY, RateLimiter};
use crate::routes::{endpoints, events, organizations};
use crate::store::Store;

/// How often caches drop what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) rate_limiter: RateLimiter,
    pub(crate) publisher: Publisher,
    pub(crate) store: Store,
    pub(crate) admin_token: Option<AdminToken>,
    pub(crate) secrets_key: SecretsKey,
    pub(crate) egress: EgressConfig,
    pub(crate) body_timeout: Duration,
    pub(crate) cors_origins: Vec<HeaderValue>,
}

impl App {
    /// Nothing cached yet.
    pub fn new(config: &Config, pool: PgPool, publisher: Publisher) -> Self {
        let store = Store::new(pool);
        Self {
            authenticator: Arc::new(Authenticator::new(config.keys.clone(), store.clone())),
            rate_limiter: RateLimiter::new(),
            publisher,
            store,
            admin_token: config.admin_token.clone(),
            secrets_key: config.secrets_key.clone(),
            egress: config.egress.clone(),
            body_timeout: config.body_timeout,
            cors_origins: config.cors_origins.clone(),
        }
    }
}

/// The whole API.
pub fn routes(app: Arc<App>, readiness: Readiness) -> Router {
    let with_key = Router::new()
        .route("/v1/events", post(events::create::create).get(events::read::list))
        .route("/v1/events/batch", post(events::batch::create))
        .route("/v1/events/{id}", get(events::read::show))
        .route("/v1/endpoints", post(endpoints::create).get(endpoints::list))
        .route_layer(from_fn_with_state(app.clone(), admit));
    let with_admin_token = Router::new()
        .route("/admin/v1/organizations", post(organizations::create))
        .route(
            "/admin/v1/organizations/{org_id}/keys",
            post(organizations::create_key),
        )
        .route(
            "/admin/v1/organizations/{org_id}/endpoints",
            post(endpoints::create_as_admin),
        );
    let cors = option_layer(cors_layer(&app.cors_origins));
    let without_key = Router::new()
        .route("/v1/events", options(events::create::handshake))
        .route("/v1/events/batch", options(events::create::handshake));
    Router::new()
        .merge(without_key)
        .merge(with_key)
        .merge(with_admin_token)
        .with_state(app)
        .merge(health_routes(readiness))
        .merge(openapi::routes())
        .route("/", get(async || "Penstock ingest API\n"))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(cors)
        .layer(SetResponseHeaderLayer::if_not_present(
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        // Answers hold customers' data: no cache may keep them. The document and its page say otherwise.
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            X_FRAME_OPTIONS,
            HeaderValue::from_static("DENY"),
        ))
        .layer(from_fn(http_metrics::record))
        // Bodies are read with limits of their own, whose errors name the limit.
        .layer(DefaultBodyLimit::disable())
}

/// Lets web pages of the configured origins call the API.
fn cors_layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let all = origins.iter().any(|origin| origin == "*");
    let allowed = if all {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(tower_http::cors::Any)
        .expose_headers([RETRY_AFTER, LINK, RATE_LIMIT, RATE_LIMIT_POLICY])
        .max_age(Duration::from_hours(1));
    Some(layer)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::Internal(anyhow::anyhow!("a handler panicked: {}", panic_text(&*panic))).into_response()
}

/// Drops what is too old from the caches, until the stop.
///
/// # Errors
/// Never yet; it returns a result because it runs as a long-lived task.
pub async fn sweep(app: Arc<App>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        app.authenticator.sweep();
        app.rate_limiter.sweep();
    }
    Ok(())
}
