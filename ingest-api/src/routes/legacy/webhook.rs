//! `POST /api/webhook/config`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::domain::id::EndpointId;
use shared::hidden::SecretText;
use shared::secret::SigningSecret;
use utoipa::ToSchema;

use super::LegacyError;
use crate::app::App;
use crate::http::admission::callers::OrganizationManager;
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::http::request::guarded_body::unless_changed;
use crate::routes::endpoints::form::check_url;
use crate::routes::openapi::refusals::{LegacyFormRefusals, LegacyKeyRefusals};
use crate::store::Stored;

/// Body of `POST /api/webhook/config`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct WebhookConfig {
    /// The URL to which all events of the organisation are sent.
    #[schema(format = "uri", max_length = 2_048, pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://")]
    webhook_url: String,
}

/// The webhook as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfiguredWebhook {
    /// True.
    success: bool,
    /// Where events are sent.
    webhook_url: String,
    /// Its id under `/v1/endpoints`.
    #[schema(value_type = String, format = Uuid)]
    endpoint_id: EndpointId,
    /// The secret with which deliveries are signed. Shown when the webhook is made, not when its URL is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>)]
    secret: Option<SecretText>,
}

/// Makes the organisation's webhook, or gives it another URL.
#[utoipa::path(
    post,
    path = "/api/webhook/config",
    operation_id = "zapier_configure_webhook",
    tag = "zapier",
    security(("api_key" = [])),
    request_body = WebhookConfig,
    responses(
        (status = 200, description = "The webhook.", body = ConfiguredWebhook),
        LegacyKeyRefusals, LegacyFormRefusals,
        (status = 409, description = "There is no webhook yet, and the organisation has 1 000 endpoints, the most it may have.", body = LegacyError),
        (status = 422, description = "The URL is missing, wrong, not a public one, or not https although the webhook has a client certificate.", body = LegacyError),
    ),
)]
pub(crate) async fn configure(
    State(app): State<Arc<App>>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
    mut body: RequestBody,
) -> Result<Json<ConfiguredWebhook>, ApiError> {
    let WebhookConfig { webhook_url } = body.form().await?;
    check_url(&webhook_url, &app.egress).map_err(|detail| ApiError::invalid("webhook_url", detail))?;
    let new_id = EndpointId::generate();
    let secret = SigningSecret::generate();
    let sealed = secret.seal(&app.secrets_key, new_id);
    let store = async {
        let store = app.store.by(admitted.actor());
        let stored = store.set_zapier_webhook(org_id, new_id, &webhook_url, &sealed);
        Ok(stored.await?)
    };
    let endpoint_id = match unless_changed(&admitted, Box::pin(store)).await? {
        Stored::Done(Some(id)) => id,
        Stored::Done(None) => {
            let detail = "must be https: the webhook has a client certificate";
            return Err(ApiError::invalid("webhook_url", detail));
        }
        Stored::Missing | Stored::OwnerLeaves => return Err(ApiError::NotFound),
        Stored::Full(most) => return Err(ApiError::LimitReached(most)),
    };
    Ok(Json(ConfiguredWebhook {
        success: true,
        webhook_url,
        endpoint_id,
        secret: (endpoint_id == new_id).then(|| secret.to_text().into()),
    }))
}
