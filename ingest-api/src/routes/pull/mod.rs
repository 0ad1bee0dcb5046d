//! `/v1/endpoints/{id}/pull` and `/ack`: deliveries that their owner fetches.
//!
//! A pull leases due deliveries for some time. An acknowledgement under the lease makes them delivered. The others become
//! due again when the lease ends, as after the death of a worker. So delivery is at least once here too.

pub(crate) mod lease;
pub(crate) mod acknowledge;

use shared::domain::endpoint::EndpointKind;
use shared::domain::id::EndpointId;

use crate::app::App;
use crate::domain::realm::Realm;
use crate::http::error::ApiError;

/// Whether a pull endpoint is enabled.
///
/// # Errors
/// 404 when the organisation has no such endpoint, and 409 when its kind is `push`.
async fn check_is_pull(app: &App, realm: &Realm, id: EndpointId) -> Result<bool, ApiError> {
    match app.store.find_endpoint_kind(realm, id).await? {
        None => Err(ApiError::NotFound),
        Some((EndpointKind::Push, _)) => Err(ApiError::Conflict(
            "the endpoint is of kind `push`: its deliveries are sent to its URL",
        )),
        Some((EndpointKind::Pull, enabled)) => Ok(enabled),
    }
}
