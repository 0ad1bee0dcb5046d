//! The routes that a portal session may use, as the router declares them.

use axum::http::Method;

use crate::domain::access::session::Capability;

/// The routes that a portal session may use.
#[derive(Debug)]
pub(crate) struct PortalRoutes(Vec<PortalRoute>);

/// One of them.
#[derive(Debug)]
pub(crate) struct PortalRoute {
    pub method: Method,
    /// As the router matches it, for example `/v1/events/{id}`.
    pub path: String,
    /// All that a session needs for it.
    pub needed: &'static [Capability],
}

impl PortalRoutes {
    /// These routes and no others.
    pub(crate) fn new(routes: impl Iterator<Item = PortalRoute>) -> Self {
        Self(routes.collect())
    }

    /// What a session needs for a route. None when no session may use it.
    pub(crate) fn needed(&self, method: &Method, path: &str) -> Option<&'static [Capability]> {
        let mut routes = self.0.iter();
        let route = routes.find(|route| route.method == *method && route.path == path);
        route.map(|route| route.needed)
    }
}
