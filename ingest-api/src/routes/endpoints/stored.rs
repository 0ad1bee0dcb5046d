//! Endpoints as their rows hold them, and with what is sealed in the rows.

use shared::credentials::Credentials;
use shared::domain::endpoint::{EndpointStatus, StoredFormat, WebhookMethod};
use shared::domain::headers::CustomHeaders;
use shared::secret::SecretError;
use shared::signatures::Signatures;

use crate::app::App;
use crate::domain::endpoint::Auth;
use crate::http::error::ApiError;
use crate::store::EndpointRow;

const DISABLED_BY_OWNER: &str = "disabled through the API";

/// An endpoint whose secrets are open. What changes one changes the row, and of what is sealed there the open form.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub row: EndpointRow,
    pub headers: CustomHeaders,
    /// None for what is usual.
    pub signatures: Option<Signatures>,
    pub auth: Option<Auth>,
}

impl Opened {
    /// Opens the secrets of a row.
    ///
    /// # Errors
    /// When one does not open.
    pub(crate) fn new(app: &App, row: EndpointRow) -> Result<Self, ApiError> {
        let (key, id) = (&app.secrets_key, row.id);
        let internal = |error: SecretError| ApiError::Internal(error.into());
        let signatures = row.signatures.as_deref();
        let signatures = signatures.map(|sealed| Signatures::unseal(sealed, key, id));
        let auth = row.auth.as_deref();
        let auth = auth.map(|sealed| Credentials::unseal(sealed, key, id));
        Ok(Self {
            headers: CustomHeaders::unseal(row.headers.as_deref(), key, id).map_err(internal)?,
            signatures: signatures.transpose().map_err(internal)?,
            auth: auth.transpose().map_err(internal)?.map(|credentials| Auth {
                credentials,
                certificate_expires_at: row.certificate_expires_at,
            }),
            row,
        })
    }

    /// The row as it is to be stored.
    pub(crate) fn seal(self, app: &App) -> EndpointRow {
        let (key, id) = (&app.secrets_key, self.row.id);
        let (signatures, auth) = (self.signatures.as_ref(), self.auth.as_ref());
        let is_disabled = self.row.status == EndpointStatus::Disabled;
        EndpointRow {
            headers: self.headers.seal(key, id),
            signatures: signatures.map(|signatures| signatures.seal(key, id)),
            auth: auth.map(|auth| auth.credentials.seal(key, id)),
            certificate_expires_at: auth.and_then(|auth| auth.certificate_expires_at),
            format: StoredFormat {
                has_more: self.has_more(),
                ..self.row.format
            },
            disabled_reason: is_disabled.then(|| DISABLED_BY_OWNER.to_owned()),
            ..self.row
        }
    }

    /// The row as it is to be stored after a change. What is as it was keeps its ciphertext: a new one would look like a change.
    pub(crate) fn seal_changed(self, app: &App, before: &Self) -> EndpointRow {
        let same_headers = self.headers == before.headers;
        let same_signatures = self.signatures == before.signatures;
        let same_credentials = self.credentials() == before.credentials();
        let mut row = self.seal(app);
        if same_headers {
            row.headers.clone_from(&before.row.headers);
        }
        if same_signatures {
            row.signatures.clone_from(&before.row.signatures);
        }
        if same_credentials {
            row.auth.clone_from(&before.row.auth);
        }
        row
    }

    fn credentials(&self) -> Option<&Credentials> {
        self.auth.as_ref().map(|auth| &auth.credentials)
    }

    /// Whether an earlier release would leave some of the settings out.
    fn has_more(&self) -> bool {
        self.row.method != WebhookMethod::Post
            || self.signatures.is_some()
            || self.auth.is_some()
            || self.row.template.is_some()
    }
}
