//! API keys: the forms and steps that an organisation's routes and the operator's routes share.

pub(crate) mod own;
pub(crate) mod admin;

use std::ops::RangeInclusive;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::name::Tenant;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::actor::Actor;
use crate::domain::access::key::Key;
use crate::domain::access::key::{KeyId, KeyText};
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::cursor::Cursor;
use crate::domain::form::field_errors::{FieldErrors, check_display_name, check_range};
use crate::domain::form::utc::UtcTime;
use crate::domain::form::whole;
use crate::domain::page::Page;
use crate::http::error::ApiError;
use crate::keys::api_key::KeyPrefix;
use crate::keys::error::KeyError;
use crate::routes::page::ThisPage;
use crate::store::{KeyStored, KeyToStore};

/// The answer when the key to be replaced is not valid any more.
pub(crate) const REPLACED: ApiError = ApiError::Conflict("the key is revoked, expired or replaced already");

/// The overlap of a rotation: up to 30 days.
const OVERLAP_SECONDS: RangeInclusive<u32> = 0..=2_592_000;

/// A new API key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// The owner's name for it, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it may do. The calling key must have each of these scopes. The operator may leave the field out for all
    /// scopes.
    #[schema(value_type = Option<Vec<Scope>>, min_items = 1)]
    scopes: Option<Scopes>,
    /// When it stops being valid; never unless given. It ends no later than the calling key: a later time is brought
    /// forward, and the answer shows it.
    #[schema(value_type = Option<OffsetDateTime>)]
    expires_at: Option<UtcTime>,
    /// The tenant that it is bound to: it then sends and manages for that tenant only. Unless given, that of the calling
    /// key, or the whole organisation.
    tenant: Option<Tenant>,
}

/// How a key is replaced by a new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotationRequest {
    /// How long the old key stays valid beside the new one, in seconds, at most 30 days.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(maximum = 2_592_000)]
    overlap_seconds: u32,
    /// When the new key stops being valid. Unless given, it is valid for as long as the old key was from its first day
    /// to its end. It ends no later than the calling key: a later time is brought forward, and the answer shows it.
    #[schema(value_type = Option<OffsetDateTime>)]
    expires_at: Option<UtcTime>,
}

/// A new key with the key itself, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    info: Key,
    /// What requests are authenticated with.
    #[schema(value_type = String)]
    key: KeyText,
}

/// A page of keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyPage {
    /// The keys, revoked and expired ones included.
    data: Vec<Key>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Makes a key.
async fn create_for(
    app: &App,
    realm: &Realm,
    caller: &Actor,
    request: KeyRequest,
    scopes: Scopes,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let realm = realm.narrowed(request.tenant)?;
    let new = app.authenticator.make_key(KeyPrefix::Penstock).await?;
    let key = KeyToStore {
        new: &new,
        realm: &realm,
        caller: caller.key_id(),
        name: &request.name,
        scopes,
        expires_at: request.expires_at.map(|at| at.0),
    };
    let store = app.store.by(caller.clone());
    let info = stored(store.create_key(key).await?, ApiError::NotFound)?;
    let key = new.text;
    Ok((StatusCode::CREATED, Json(CreatedKey { info, key })))
}

/// The stored key, or why it was not stored. `missing` is the error for a missing organisation or old key.
fn stored(outcome: KeyStored, missing: ApiError) -> Result<Key, ApiError> {
    match outcome {
        KeyStored::Done(key) => Ok(key),
        KeyStored::Refused => Err(KeyError::Invalid.into()),
        KeyStored::Missing => Err(missing),
        KeyStored::Full(most) => Err(ApiError::LimitReached(most)),
    }
}

async fn list_for(
    app: &App,
    realm: &Realm,
    page: &Page<KeyId>,
    this_page: &ThisPage,
) -> Result<(HeaderMap, Json<KeyPage>), ApiError> {
    let mut data = app.store.list_keys(realm, page).await?;
    let next_cursor = page.cut(&mut data, |last| Cursor {
        at: last.created_at,
        id: last.id.clone(),
    });
    let links = this_page.links(next_cursor.as_deref());
    Ok((links, Json(KeyPage { data, next_cursor })))
}

async fn revoke_for(app: &App, realm: &Realm, caller: Actor, id: KeyId) -> Result<StatusCode, ApiError> {
    let revoked = app.store.by(caller).revoke_key(realm, &id).await;
    if let Ok(false) = revoked {
        return Err(ApiError::NotFound);
    }
    // Also after an error: Postgres may have revoked the key and not answered.
    app.key_changes.announce_keys([id]).await;
    revoked?;
    Ok(StatusCode::NO_CONTENT)
}

impl KeyRequest {
    fn check(&self) -> Result<(), ApiError> {
        let mut errors = FieldErrors::default();
        errors.check("name", check_display_name(&self.name));
        if self.scopes.is_some_and(Scopes::is_empty) {
            errors.push("scopes", "must name at least one scope");
        }
        errors.check("expires_at", check_future(self.expires_at));
        Ok(errors.finish()?)
    }
}

impl RotationRequest {
    fn check(&self) -> Result<(), ApiError> {
        let mut errors = FieldErrors::default();
        let overlap = check_range(&self.overlap_seconds, &OVERLAP_SECONDS);
        errors.check("overlap_seconds", overlap);
        errors.check("expires_at", check_future(self.expires_at));
        Ok(errors.finish()?)
    }
}

fn check_future(at: Option<UtcTime>) -> Result<(), &'static str> {
    match at {
        Some(at) if at.0 <= UnixMicros::now().to_date_time() => Err("must be in the future"),
        _ => Ok(()),
    }
}
