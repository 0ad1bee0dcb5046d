//! Requests with the token of a portal session: let in as a key that is bound to the session's tenant, to the routes for which
//! it has the capabilities.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::Method;
use axum::http::request::Parts;
use shared::domain::clock::UnixMicros;
use shared::domain::event_type::EventTypePattern;

use crate::app::App;
use crate::domain::access::session::{Capability, PortalSession};
use crate::http::admission::portal_routes::PortalRoutes;
use crate::http::error::ApiError;
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::portal::as_key;
use crate::keys::verified_key::VerifiedKey;

/// Lets a request in whose credential is a portal token.
///
/// # Errors
/// 401 when the session is over, 403 for what it may not do, 503 when it cannot be known whether it was ended.
pub(crate) async fn let_in(
    app: &App,
    token: &str,
    request: &mut Request,
) -> Result<Arc<VerifiedKey>, ApiError> {
    let at = Moment::now();
    let session = app.portal_tokens.open(token, UnixMicros::now()).map_err(over)?;
    app.ended_sessions.check_portal(&session).await.map_err(over)?;
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str);
    check_rights(&app.portal_routes, &session, request.method(), path)?;
    let key = as_key(&session, at)?;
    request.extensions_mut().insert(Arc::new(session));
    Ok(Arc::new(key))
}

fn over(error: KeyError) -> ApiError {
    match error {
        KeyError::Invalid => ApiError::Unauthorized("the portal session is not valid, or was ended"),
        KeyError::Expired => ApiError::Unauthorized("the portal session has expired"),
        other => other.into(),
    }
}

fn check_rights(
    routes: &PortalRoutes,
    session: &PortalSession,
    method: &Method,
    path: &str,
) -> Result<(), ApiError> {
    let needed = routes
        .needed(method, path)
        .ok_or(ApiError::Forbidden("a portal session may not do this"))?;
    match session.lacks(needed) {
        None => Ok(()),
        Some(Capability::View) => Err(ApiError::Forbidden(
            "the portal session lacks the capability `view`",
        )),
        Some(Capability::ManageEndpoints) => Err(ApiError::Forbidden(
            "the portal session lacks the capability `manage_endpoints`",
        )),
        Some(Capability::ViewSecrets) => Err(ApiError::Forbidden(
            "the portal session lacks the capability `view_secrets`",
        )),
        Some(Capability::Replay) => Err(ApiError::Forbidden(
            "the portal session lacks the capability `replay`",
        )),
    }
}

/// The portal session of a request, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct PortalCaller(pub Option<Arc<PortalSession>>);

impl<S: Sync> FromRequestParts<S> for PortalCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl PortalCaller {
    /// Whether the caller may do this. Whoever has no portal session may.
    pub(crate) fn may(&self, capability: Capability) -> bool {
        let session = self.0.as_ref();
        session.is_none_or(|session| session.lacks(&[capability]).is_none())
    }

    /// Checks the event types of an endpoint that the caller makes or changes.
    ///
    /// # Errors
    /// 422 when they are not within those of the session.
    pub(crate) fn check_event_types(&self, chosen: &[EventTypePattern]) -> Result<(), ApiError> {
        let Some(session) = self.0.as_ref().filter(|session| !session.may_choose(chosen)) else {
            return Ok(());
        };
        let allowed: Vec<_> = session.event_types.iter().map(EventTypePattern::as_str).collect();
        let detail = format!("must be some of {}", allowed.join(", "));
        Err(ApiError::invalid("event_types", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::session::tests::session;
    use crate::router::portal_routes;

    #[test]
    fn a_session_may_use_the_routes_of_its_capabilities_and_no_others() {
        let routes = portal_routes();
        let refused = |capabilities: &[Capability], method: Method, path: &str| {
            let session = session(capabilities, &[]);
            check_rights(&routes, &session, &method, path)
                .err()
                .map(|error| error.in_words())
        };
        let view = &[Capability::View][..];
        assert_eq!(refused(view, Method::GET, "/v1/events/{id}"), None);
        insta::assert_debug_snapshot!(
            [
                refused(&[], Method::GET, "/v1/events"),
                refused(view, Method::POST, "/v1/endpoints"),
                refused(&[Capability::ManageEndpoints], Method::POST, "/v1/endpoints/{id}/rotate-secret"),
                refused(view, Method::POST, "/v1/events/{id}/replay"),
                refused(view, Method::GET, "/v1/keys"),
                refused(view, Method::GET, ""),
            ],
            @r#"
        [
            Some(
                "403 the portal session lacks the capability `view`",
            ),
            Some(
                "403 the portal session lacks the capability `manage_endpoints`",
            ),
            Some(
                "403 the portal session lacks the capability `view_secrets`",
            ),
            Some(
                "403 the portal session lacks the capability `replay`",
            ),
            Some(
                "403 a portal session may not do this",
            ),
            Some(
                "403 a portal session may not do this",
            ),
        ]
        "#
        );
    }
}
