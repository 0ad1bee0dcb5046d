//! The public key of endpoints that sign with `ed25519`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::id::EndpointId;
use shared::signatures::Signatures;
use shared::signatures::key_pair::KeyPair;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::find;
use super::stored::Opened;
use crate::app::App;
use crate::domain::access::actor::Actor;
use crate::domain::access::realm::Realm;
use crate::domain::form::field_errors::{FieldErrors, check_range};
use crate::domain::form::whole;
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::http::request::guarded_body::unless_changed;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals};

/// The overlap is at most a week.
const OVERLAP_SECONDS: RangeInclusive<i32> = 0..=604_800;

/// Most tries of a rotation while other requests change the same endpoint.
const MAX_TRIES: usize = 5;

/// The keys that receivers verify `v1a` signatures with.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "these are the names in the answer")]
pub(crate) struct PublicKey {
    /// `whpk_` and 32 bytes in base64.
    public_key: String,
    /// The key before the last rotation, while it signs too.
    previous_public_key: Option<String>,
    /// Until when it does.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    previous_expires_at: Option<OffsetDateTime>,
}

/// How a key pair is replaced by a new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeyRotation {
    /// How long deliveries are signed with the old key too.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 0, maximum = 604_800, default = 86_400)]
    overlap_seconds: i32,
}

impl Default for KeyRotation {
    fn default() -> Self {
        Self {
            overlap_seconds: 86_400,
        }
    }
}

impl KeyRotation {
    fn overlap(&self) -> Result<Duration, ApiError> {
        let mut errors = FieldErrors::default();
        let checked = check_range(&self.overlap_seconds, &OVERLAP_SECONDS);
        errors.check("overlap_seconds", checked);
        errors.finish()?;
        let seconds = u64::try_from(self.overlap_seconds).unwrap_or(0);
        Ok(Duration::from_secs(seconds))
    }
}

impl PublicKey {
    fn new(key_pair: &KeyPair) -> Result<Self, ApiError> {
        let key = key_pair.key();
        let key = key.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a stored Ed25519 key is none")))?;
        let now = UnixMicros::now().to_date_time().unix_timestamp();
        let previous = key_pair.previous().filter(|(_, expires_at)| *expires_at > now);
        let expires_at = previous
            .as_ref()
            .map(|(_, at)| UnixMicros::new(at.saturating_mul(1_000_000)).to_date_time());
        Ok(Self {
            public_key: key.public_text(),
            previous_public_key: previous.map(|(key, _)| key.public_text()),
            previous_expires_at: expires_at,
        })
    }
}

/// Shows the key that receivers verify an endpoint's `v1a` signatures with.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}/public-key",
    operation_id = "show_public_key",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The key.", body = PublicKey),
        KeyRefusals,
        (status = 404, description = "The organisation has no such endpoint, or the endpoint does not sign with `ed25519`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
) -> Result<Json<PublicKey>, ApiError> {
    let endpoint = Opened::new(&app, find(&app, &realm, id).await?)?;
    let key_pair = endpoint.signatures.as_ref().and_then(Signatures::key_pair);
    PublicKey::new(key_pair.ok_or(ApiError::NotFound)?).map(Json)
}

/// Replaces an endpoint's Ed25519 key pair.
///
/// During the overlap every delivery carries two `v1a` signatures, one of each key. A key that is still valid from an earlier
/// rotation stops signing at once.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/rotate-key",
    operation_id = "rotate_endpoint_key",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    request_body = Option<KeyRotation>,
    responses(
        (status = 201, description = "The new key.", body = PublicKey),
        KeyRefusals, FormRefusals,
        (status = 404, description = "The organisation has no such endpoint, or the endpoint does not sign with `ed25519`.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Other requests change it at the same time.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, admitted }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<PublicKey>), ApiError> {
    find(&app, &realm, id).await?;
    let rotation: KeyRotation = body.optional_form().await?;
    let overlap = rotation.overlap()?;
    for _ in 0..MAX_TRIES {
        let rotating = rotate_once(&app, admitted.actor(), &realm, id, overlap);
        if let Some(key) = unless_changed(&admitted, Box::pin(rotating)).await? {
            return Ok((StatusCode::CREATED, Json(key)));
        }
    }
    Err(ApiError::Conflict("the endpoint is being changed by others"))
}

/// None when the stored row has changed since it was read.
async fn rotate_once(
    app: &App,
    caller: Actor,
    realm: &Realm,
    id: EndpointId,
    overlap: Duration,
) -> Result<Option<PublicKey>, ApiError> {
    let before = Opened::new(app, find(app, realm, id).await?)?;
    let mut changed = before.clone();
    let key_pair = changed.signatures.as_mut().and_then(Signatures::key_pair_mut);
    let key_pair = key_pair.ok_or(ApiError::NotFound)?;
    let now = UnixMicros::now().to_date_time().unix_timestamp();
    *key_pair = key_pair.clone().rotated(now, overlap);
    let shown = PublicKey::new(key_pair)?;
    let changed = changed.seal_changed(app, &before);
    let stored = app
        .store
        .by(caller)
        .update_endpoint(realm.org_id, &before.row, &changed, false)
        .await?;
    Ok(stored.then_some(shown))
}
