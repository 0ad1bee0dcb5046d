//! `/api/keys`. Its keys start with `zap_live_` and have all scopes; they are ordinary keys otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::domain::id::OrgId;
use shared::domain::tier::Tier;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::LegacyError;
use crate::app::App;
use crate::domain::access::key::Key;
use crate::domain::access::key::KeyText;
use crate::domain::access::realm::Realm;
use crate::domain::accounts::organization::Organization;
use crate::domain::form::field_errors::check_display_name;
use crate::domain::page::Page;
use crate::http::admission::callers::{Newcomer, OrganizationManager};
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::keys::api_key::KeyPrefix;
use crate::routes::keys::REPLACED;
use crate::routes::openapi::refusals::{LegacyFormRefusals, LegacyKeyRefusals};
use crate::store::{KeyStored, OrganizationWithWebhook, Rotation};

/// Most keys that are listed.
const MAX_KEYS: i64 = 1_000;

const WARNING: &str = "Keep this key: it is shown this once.";

/// A new organisation that signs up.
#[derive(Debug, Deserialize)]
struct SignUp {
    #[serde(alias = "org_name")]
    organization_name: String,
    #[serde(default)]
    tier: Tier,
}

/// A new organisation that signs up.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SignUp)]
#[expect(dead_code, reason = "it documents what `SignUp` reads")]
struct SignUpBody {
    #[serde(flatten)]
    name: SignUpName,
    #[serde(default)]
    tier: Tier,
}

/// The organisation's name under either of its names.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it documents what `SignUp` reads")]
enum SignUpName {
    OrganizationName {
        #[schema(min_length = 1, max_length = 200)]
        organization_name: String,
    },
    OrgName {
        #[schema(min_length = 1, max_length = 200)]
        org_name: String,
    },
}

/// A key, shown this once, and its organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IssuedKey {
    /// The key, with which requests are authenticated.
    #[schema(value_type = String)]
    api_key: KeyText,
    #[schema(value_type = String, format = Uuid)]
    organization_id: OrgId,
    organization_name: String,
    tier: Tier,
    /// Requests that the organisation may make in a minute.
    rate_limit_per_minute: u64,
    /// When the organisation was made.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    created_at: OffsetDateTime,
    /// A reminder to keep the key.
    warning: &'static str,
}

impl IssuedKey {
    fn new(api_key: KeyText, organization: Organization) -> Self {
        let own_limit = organization.rate_limit_per_minute.map(u64::from);
        Self {
            api_key,
            organization_id: organization.id,
            organization_name: organization.name,
            tier: organization.tier,
            rate_limit_per_minute: own_limit.unwrap_or(organization.tier.rate_limit_per_minute()),
            created_at: organization.created_at,
            warning: WARNING,
        }
    }
}

/// Makes an organisation and its first key, for anyone, where the operator allows it (`ALLOW_SIGNUP`).
#[utoipa::path(
    post,
    path = "/api/keys/generate",
    operation_id = "zapier_generate_key",
    tag = "zapier",
    request_body = SignUpBody,
    responses(
        (status = 201, description = "The key and its organisation.", body = IssuedKey),
        LegacyFormRefusals,
        (status = 403, description = "Only the operator makes organisations here.", body = LegacyError),
        (status = 503, description = "The database is not available, or too many keys are being made.", body = LegacyError),
    ),
)]
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    Newcomer { actor }: Newcomer,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<IssuedKey>), ApiError> {
    if !app.allow_signup {
        return Err(ApiError::Forbidden(
            "organisations and their first keys are made by the operator here",
        ));
    }
    let new: SignUp = body.form().await?;
    check_display_name(&new.organization_name)
        .map_err(|detail| ApiError::invalid("organization_name", detail))?;
    let key = app.authenticator.make_key(KeyPrefix::Zapier).await?;
    let store = app.store.by(actor);
    let organization = store.sign_up(&new.organization_name, new.tier, &key).await?;
    Ok((StatusCode::CREATED, Json(IssuedKey::new(key.text, organization))))
}

/// An organisation and its keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    #[schema(value_type = String, format = Uuid)]
    organization_id: OrgId,
    organization_name: String,
    tier: Tier,
    /// Requests that the organisation may make in a minute.
    rate_limit_per_minute: u64,
    /// The URL of the webhook of `POST /api/webhook/config`; null when there is none.
    webhook_url: Option<String>,
    /// The keys, revoked and expired ones included, 1 000 at most. Only their public parts are shown.
    keys: Vec<Key>,
}

impl KeyList {
    fn new(org_id: OrgId, organization: OrganizationWithWebhook, keys: Vec<Key>) -> Self {
        let own_limit = organization
            .rate_limit_per_minute
            .and_then(|limit| u64::try_from(limit).ok());
        Self {
            organization_id: org_id,
            organization_name: organization.name,
            tier: organization.tier,
            rate_limit_per_minute: own_limit.unwrap_or(organization.tier.rate_limit_per_minute()),
            webhook_url: organization.webhook_url,
            keys,
        }
    }
}

/// Shows the organisation and its keys.
#[utoipa::path(
    get,
    path = "/api/keys",
    operation_id = "zapier_list_keys",
    tag = "zapier",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The organisation and its keys.", body = KeyList),
        LegacyKeyRefusals,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<Json<KeyList>, ApiError> {
    let page = Page {
        after: None,
        // One more is fetched, to tell whether there are more.
        limit: MAX_KEYS - 1,
    };
    let keys = app
        .store
        .list_keys(&Realm::of_organization(org_id), &page)
        .await?;
    let organization = app.store.get_organization_with_webhook(org_id).await?;
    let organization = organization.ok_or(ApiError::NotFound)?;
    Ok(Json(KeyList::new(org_id, organization, keys)))
}

/// Replaces the key that the request comes with. The old one is refused from now on, on every replica within a second.
#[utoipa::path(
    post,
    path = "/api/keys/rotate",
    operation_id = "zapier_rotate_key",
    tag = "zapier",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The new key, with the name, the scopes and the end of the old one.", body = IssuedKey),
        LegacyKeyRefusals,
        (status = 409, description = "The key has just been replaced.", body = LegacyError),
        (status = 503, description = "The database is not available, or too many keys are being made.", body = LegacyError),
    ),
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
) -> Result<Json<IssuedKey>, ApiError> {
    let id = admitted.key_id();
    let old = app
        .store
        .get_key(&Realm::of_organization(org_id), id)
        .await?
        .ok_or(REPLACED)?;
    let organization = app.store.get_organization(org_id).await?.ok_or(REPLACED)?;
    let new = app.authenticator.make_key(KeyPrefix::Zapier).await?;
    let rotation = Rotation {
        caller: id,
        old: id,
        overlap: Duration::ZERO,
        new: &new,
        new_expires_at: old.expires_at,
    };
    if !matches!(
        app.store
            .by(admitted.actor())
            .rotate_key(&Realm::of_organization(org_id), &rotation)
            .await?,
        KeyStored::Done(_)
    ) {
        return Err(REPLACED);
    }
    app.key_changes.announce_keys([id.clone()]).await;
    Ok(Json(IssuedKey::new(new.text, organization)))
}
