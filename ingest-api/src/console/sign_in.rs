//! `/console/session`: signing in with a key or an admin token, and signing out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use super::layer::set_cookie;
use super::same_origin::is_same_origin;
use super::session::{Session, no_cookie};
use crate::app::App;
use crate::config::AdminScope;
use crate::domain::access::scope::Scopes;
use crate::http::admission::admitted::{check_limits, within_limit};
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::keys::api_key::KeyPrefix;
use crate::keys::moment::Moment;

/// Longest credential, in bytes. Browsers keep cookies of up to 4 KiB.
const MAX_CREDENTIAL_BYTES: usize = 1_024;

/// What people paste.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    /// An API key, or an admin token.
    credential: String,
}

/// Whom a credential stands for.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Person {
    /// Someone of an organisation, or of a tenant of it.
    Key {
        key_id: String,
        tenant: Option<Tenant>,
        scopes: Scopes,
    },
    /// An operator, by the name of the admin token.
    Admin { name: String, may_change: bool },
}

/// A session, as its page sees it.
#[derive(Debug, Serialize)]
pub(super) struct SessionView {
    #[serde(flatten)]
    person: Person,
    /// When it ends if no further request comes.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    ends_at: OffsetDateTime,
}

/// Exchanges a credential for a session.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    mut body: RequestBody,
) -> Result<Response, ApiError> {
    if !is_same_origin(&method, &uri, &body.headers) {
        return Err(ApiError::Forbidden("sign in on the page that this origin serves"));
    }
    let Credential { credential } = body.form().await?;
    let credential = credential.trim().to_owned();
    let is_plain = credential.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || !(1..=MAX_CREDENTIAL_BYTES).contains(&credential.len()) {
        return Err(ApiError::invalid(
            "credential",
            "is neither an API key nor an admin token",
        ));
    }
    let person = identify(&app, &credential).await?;
    let session = Session::begin(credential, UnixMicros::now());
    let mut response = (StatusCode::CREATED, Json(view(person, &session))).into_response();
    set_cookie(&mut response, &session.cookie(&app.secrets_key));
    Ok(response)
}

/// Shows whose session it is.
pub(super) async fn show(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let session = session(&request)?;
    let person = identify(&app, session.credential()).await?;
    Ok(Json(view(person, &session)).into_response())
}

/// Ends a session, on every replica within a second. A copy of its cookie is of no use then.
pub(super) async fn sign_out(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let session = session(&request)?;
    app.store.end_console_session(session.id).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &no_cookie());
    Ok(response)
}

fn session(request: &Request) -> Result<Arc<Session>, ApiError> {
    let session = request.extensions().get::<Arc<Session>>().cloned();
    session.ok_or(ApiError::Unauthorized("sign in first"))
}

fn view(person: Person, session: &Session) -> SessionView {
    SessionView {
        person,
        ends_at: session.ends_at().to_date_time(),
    }
}

async fn identify(app: &Arc<App>, credential: &str) -> Result<Person, ApiError> {
    if !KeyPrefix::is_before(credential) {
        let token = app.admin_tokens.find(credential);
        let token = token.ok_or(ApiError::Unauthorized(
            "this is neither a valid API key nor an admin token",
        ))?;
        return Ok(Person::Admin {
            name: token.name().to_owned(),
            may_change: token.scope() >= AdminScope::Manage,
        });
    }
    let key = app.authenticator.authenticate(credential, Moment::now()).await?;
    within_limit(&check_limits(app, &key.grant, 1))?;
    Ok(Person::Key {
        key_id: key.id.to_string(),
        tenant: key.grant.realm.tenant.clone(),
        scopes: key.grant.scopes,
    })
}
