//! The long-lived tasks of a replica.

pub(super) mod saturation;
pub(super) mod quotas;
pub(super) mod tenant_limits;

use std::sync::Arc;

use axum::Router;
use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::{self, Readiness};
use shared::server::metrics_server::Shown;
use shared::server::{self, HttpServerConfig, Limits};
use tokio::net::TcpListener;

use crate::app::App;
use crate::config::Config;
use crate::limits::exchange::RateExchange;
use crate::limits::limiter::RateLimiter;
use crate::limits::quotas::Quotas;
use crate::limits::tenants::TenantLimits;
use crate::publish;
use crate::store::Store;

/// What is served, by socket.
pub(crate) struct Routes {
    pub admin: Option<Router>,
    pub api: Router,
    pub app: Arc<App>,
}

/// Starts what keeps the streams as they are configured.
pub(crate) fn start_streams(
    config: &Config,
    nats: &Nats,
    readiness: &Readiness,
    shown: publish::streams::Shown,
    tasks: &Tasks,
) {
    let (streams, stop) = (config.streams.clone(), tasks.stop().clone());
    let keeping = publish::streams::keep_streams(streams, nats.clone(), readiness.clone(), shown, stop);
    tasks.spawn_long_lived("streams", keeping);
}

/// Starts what keeps replicas to one limit together, and counts the `replicas`.
pub(crate) fn start_rate_limits(
    config: &Config,
    tenants: &Arc<TenantLimits>,
    nats: &Nats,
    replicas: Replicas,
    tasks: &Tasks,
) -> Arc<RateLimiter> {
    let limiter = Arc::new(RateLimiter::new());
    let interval = config.rate_limits.rate_limit_exchange;
    let (of_all, of_tenants) = (limiter.clone(), tenants.clone());
    let exchange = RateExchange::new(of_all, of_tenants, nats.clone(), interval, replicas);
    tasks.spawn_long_lived("rate limits", exchange.run(tasks.stop().clone()));
    limiter
}

/// Starts what wakes the requests that wait and those that listen.
pub(crate) fn start_watchers(app: &App, tasks: &Tasks) {
    let waiters = app.waiters.clone().watch(app.store.clone());
    tasks.spawn_long_lived("pull watcher", waiters);
    let tails = app.tails.clone().watch(app.store.clone());
    tasks.spawn_long_lived("tails", tails);
}

/// Serves metrics and health.
pub(crate) fn start_operations(config: &Config, listener: TcpListener, shown: Shown, tasks: &Tasks) {
    let metrics = telemetry::keep_metrics(shown.metrics.clone(), tasks.stop().clone());
    tasks.spawn_long_lived("metrics", metrics);
    let stop = tasks.stop().clone();
    let server = server::metrics_server::serve(listener, shown, stop, config.drain_timeout);
    tasks.spawn_long_lived("operations server", server);
}

/// Starts what keeps the limits of tenants, and the quotas that are used up, in step with Postgres.
pub(crate) fn follow_limits(store: &Store, tasks: &Tasks) -> (Arc<TenantLimits>, Arc<Quotas>) {
    let (limits, quotas) = (Arc::new(TenantLimits::default()), Arc::new(Quotas::default()));
    let following = tenant_limits::follow(store.clone(), limits.clone(), tasks.stop().clone());
    tasks.spawn_long_lived("limits of tenants", following);
    let following = quotas::follow(store.clone(), quotas.clone(), tasks.stop().clone());
    tasks.spawn_long_lived("quotas", following);
    (limits, quotas)
}

/// Starts the servers that were given a socket.
pub(crate) fn start_servers(
    config: &Config,
    api: TcpListener,
    admin: Option<TcpListener>,
    routes: Routes,
    tasks: &Tasks,
) {
    let serve = |name, listener, routes, limits| {
        let stop = tasks.stop().clone();
        let server = server::serve(listener, routes, limits, stop, config.drain_timeout);
        tasks.spawn_long_lived(name, server);
    };
    if let Some((listener, routes)) = admin.zip(routes.admin) {
        let limits = Limits::new(HttpServerConfig::for_operations());
        serve("admin server", listener, routes, limits);
    }
    let limits = Limits::new(config.http.clone());
    let measuring = saturation::follow(routes.app, limits.slots(), tasks.stop().clone());
    tasks.spawn_long_lived("saturation", measuring);
    serve("API server", api, routes.api, limits);
}
