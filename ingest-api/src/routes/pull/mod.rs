//! `/v1/endpoints/{id}/pull`, `/ack`, `/nack` and `/extend`: deliveries that their owner fetches.
//!
//! A pull leases due deliveries for some time. An acknowledgement under the lease makes them delivered. The others become
//! due again when the lease ends, or when its holder gives them back, as after the death of a worker. So delivery is at least
//! once here too.

mod leases;
mod pulled;
pub(crate) mod lease;
pub(crate) mod give_back;
pub(crate) mod acknowledge;
pub(crate) mod extend;

use shared::domain::id::EndpointId;

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::http::error::ApiError;
use crate::store::PullEndpointRow;

/// A pull endpoint.
///
/// # Errors
/// 404 when the organisation has no such endpoint, and 409 when its deliveries are sent.
async fn find_pull(app: &App, realm: &Realm, id: EndpointId) -> Result<PullEndpointRow, ApiError> {
    let found = app.store.find_pull_endpoint(realm, id).await?;
    let endpoint = found.ok_or(ApiError::NotFound)?;
    if endpoint.kind.is_sent() {
        return Err(ApiError::OfKind(
            endpoint.kind,
            "its deliveries are sent to its URL",
        ));
    }
    Ok(endpoint)
}

/// Checks that an endpoint's deliveries are pulled.
///
/// # Errors
/// Those of [`find_pull`].
async fn check_is_pull(app: &App, realm: &Realm, id: EndpointId) -> Result<(), ApiError> {
    find_pull(app, realm, id).await.map(drop)
}
