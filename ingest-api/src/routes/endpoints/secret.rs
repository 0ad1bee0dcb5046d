//! `POST /v1/endpoints/{id}/rotate-secret`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use shared::domain::id::EndpointId;
use shared::hidden::SecretText;
use shared::secret::SigningSecret;
use utoipa::ToSchema;

use super::manage::CreatedEndpoint;
use super::{find, show_stored};
use crate::app::App;
use crate::domain::form::field_errors::{FieldErrors, check_range};
use crate::domain::form::whole;
use crate::http::admission::callers::Manager;
use crate::http::answers::etag::Shown;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::http::request::guarded_body::unless_changed;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEndpoint};

/// The overlap is at most a week.
const OVERLAP_SECONDS: RangeInclusive<i32> = 0..=604_800;

/// How a signing secret is replaced by a new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SecretRotation {
    /// How long deliveries are signed with the old secret too.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 0, maximum = 604_800, default = 86_400)]
    overlap_seconds: i32,
    /// The new secret, `whsec_` and 24 to 64 bytes in base64; a random one unless given.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretText>,
}

impl Default for SecretRotation {
    fn default() -> Self {
        Self {
            overlap_seconds: 86_400,
            secret: None,
        }
    }
}

impl SecretRotation {
    /// The new secret.
    fn check(&self) -> Result<SigningSecret, ApiError> {
        let given = self.secret.as_ref();
        let given = given.map(|text| text.reveal().parse::<SigningSecret>());
        let given = given.transpose().map_err(|error| error.to_string());
        let mut errors = FieldErrors::default();
        let overlap = check_range(&self.overlap_seconds, &OVERLAP_SECONDS);
        errors.check("overlap_seconds", overlap);
        let secret = errors.check("secret", given).flatten();
        errors.finish()?;
        Ok(secret.unwrap_or_else(SigningSecret::generate))
    }
}

/// Replaces an endpoint's signing secret.
///
/// During the overlap every delivery carries two signatures, one of each secret. A secret that is still valid from an
/// earlier rotation stops signing at once.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/rotate-secret",
    operation_id = "rotate_secret",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    request_body = Option<SecretRotation>,
    responses(
        (status = 201, description = "The endpoint, with its new secret, shown this once.", body = CreatedEndpoint, headers(("etag" = String, description = "Its version."))),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "The endpoint's deliveries are fetched: nothing is signed.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, admitted }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Shown<CreatedEndpoint>), ApiError> {
    let kind = find(&app, &realm, id).await?.kind;
    if !kind.is_sent() {
        return Err(ApiError::OfKind(kind, "nothing is signed"));
    }
    let rotation: SecretRotation = body.optional_form().await?;
    let secret = rotation.check()?;
    let sealed = secret.seal(&app.secrets_key, id);
    let rotate = async {
        let store = app.store.by(admitted.actor());
        let rotated = store.rotate_secret(realm.org_id, id, &sealed, rotation.overlap_seconds);
        Ok(rotated.await?)
    };
    if !unless_changed(&admitted, Box::pin(rotate)).await? {
        return Err(ApiError::NotFound);
    }
    let (etag, Json(endpoint)) = show_stored(&app, &realm, id).await?;
    let secret = Some(secret.to_text().into());
    Ok((
        StatusCode::CREATED,
        (etag, Json(CreatedEndpoint { endpoint, secret })),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_rotation_holds_no_secret() {
        let rotation: SecretRotation = serde_json::from_str(r#"{"secret":"whsec_canary"}"#).unwrap();
        assert!(!format!("{rotation:?}").contains("canary"));
    }
}
