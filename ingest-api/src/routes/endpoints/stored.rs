//! The settings of an endpoint, out of its row and into it.

use shared::credentials::Credentials;
use shared::domain::event::JSON;
use shared::domain::headers::CustomHeaders;
use shared::domain::id::EndpointId;
use shared::signatures::Signatures;

use crate::app::App;
use crate::domain::endpoint::{Auth, Limits, Settings};
use crate::domain::template::TemplateSettings;
use crate::http::error::ApiError;
use crate::store::{EndpointRow, EndpointToStore};

const DISABLED_BY_OWNER: &str = "disabled through the API";

/// The settings of a stored endpoint.
pub(crate) fn settings(app: &App, row: &EndpointRow) -> Result<Settings, ApiError> {
    let headers = CustomHeaders::unseal(row.headers.as_deref(), &app.secrets_key, row.id);
    let signatures = row.signatures.as_deref();
    let signatures = signatures.map(|sealed| Signatures::unseal(sealed, &app.secrets_key, row.id));
    let auth = row.auth.as_deref();
    let auth = auth.map(|sealed| Credentials::unseal(sealed, &app.secrets_key, row.id));
    let auth = auth
        .transpose()
        .map_err(|error| ApiError::Internal(error.into()))?;
    Ok(Settings {
        url: row.url.clone(),
        description: row.description.clone(),
        event_types: row.event_types.clone(),
        filter: row.filter.clone(),
        headers: headers.map_err(|error| ApiError::Internal(error.into()))?,
        format: row.format.format,
        method: row.method,
        signatures: signatures
            .transpose()
            .map_err(|error| ApiError::Internal(error.into()))?,
        auth: auth.map(|credentials| Auth {
            credentials,
            certificate_expires_at: row.certificate_expires_at,
        }),
        template: row.template.clone().map(|source| TemplateSettings {
            source,
            content_type: row
                .template_content_type
                .clone()
                .unwrap_or_else(|| JSON.to_owned()),
        }),
        retry: row.retry(),
        limits: Limits {
            timeout_ms: row.timeout_ms,
            max_in_flight: row.max_in_flight,
        },
        max_leased: row.max_leased,
        rate_limit_per_second: row.rate_limit_per_second,
        ordered: row.ordered,
        on_exhausted: row.on_exhausted,
        status: row.status,
    })
}

/// The settings as they are stored, with their secrets sealed.
pub(crate) fn seal<'a>(app: &App, id: EndpointId, settings: &'a Settings) -> EndpointToStore<'a> {
    let (signatures, auth) = (settings.signatures.as_ref(), settings.auth.as_ref());
    EndpointToStore {
        id,
        settings,
        headers: settings.headers.seal(&app.secrets_key, id),
        signatures: signatures.map(|signatures| signatures.seal(&app.secrets_key, id)),
        auth: auth.map(|auth| auth.credentials.seal(&app.secrets_key, id)),
        disabled_reason: DISABLED_BY_OWNER,
    }
}

/// Settings that were changed, as they are stored. What is as it was keeps its ciphertext: a new one would look like a change.
pub(crate) fn seal_changed<'a>(
    app: &App,
    row: &EndpointRow,
    before: &Settings,
    settings: &'a Settings,
) -> EndpointToStore<'a> {
    let mut changed = seal(app, row.id, settings);
    if settings.headers == before.headers {
        changed.headers.clone_from(&row.headers);
    }
    if settings.signatures == before.signatures {
        changed.signatures.clone_from(&row.signatures);
    }
    let credentials = |settings: &Settings| settings.auth.as_ref().map(|auth| auth.credentials.clone());
    if credentials(settings) == credentials(before) {
        changed.auth.clone_from(&row.auth);
    }
    changed
}
