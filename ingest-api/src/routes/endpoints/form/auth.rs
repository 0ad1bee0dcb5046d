//! The credentials of an endpoint, as a form gives them and as they are shown.

use serde::{Deserialize, Serialize};
use shared::credentials::certificate::ClientCertificate;
use shared::credentials::{ClientAuth, ClientCredentials, Credentials};
use shared::domain::clock::UnixMicros;
use shared::egress::EgressConfig;
use shared::hidden::SecretText;
use shared::words;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::endpoint::Auth;
use crate::domain::form::field_errors::FieldErrors;

words! {
    /// What kind of credentials an endpoint has.
    pub enum AuthKind("kind of credentials") {
        /// A user name and a password.
        Basic = "basic",
        /// A token.
        Bearer = "bearer",
        /// A token from an OAuth 2 server.
        ClientCredentials = "oauth2_client_credentials",
        /// A client certificate.
        Mtls = "mtls",
    }
}

/// Credentials, as a form gives them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthForm {
    kind: AuthKind,
    username: Option<SecretText>,
    password: Option<SecretText>,
    token: Option<SecretText>,
    token_url: Option<String>,
    client_id: Option<String>,
    client_secret: Option<SecretText>,
    scope: Option<String>,
    audience: Option<String>,
    client_auth: Option<ClientAuth>,
    certificate: Option<String>,
    key: Option<SecretText>,
    ca: Option<String>,
}

/// An endpoint's credentials, without what is secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthView {
    /// Their kind.
    kind: AuthKind,
    /// Where tokens come from. Only for `oauth2_client_credentials`, like `client_id`, `scope`, `audience` and `client_auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    token_url: Option<String>,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// What the token is to allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Whom the token is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    /// Where the client's id and secret stand in a request for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_auth: Option<ClientAuth>,
    /// When the client certificate expires. Only for `mtls`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "shared::domain::clock::optional_timestamp"
    )]
    certificate_expires_at: Option<OffsetDateTime>,
}

impl AuthForm {
    /// The credentials. None stands for wrong fields.
    pub(crate) fn read(self, egress: &EgressConfig, errors: &mut FieldErrors) -> Option<Auth> {
        self.check_fields(errors);
        let credentials = match self.kind {
            AuthKind::Basic => {
                let username = needed("username", self.username, errors);
                let password = needed("password", self.password, errors);
                Credentials::Basic {
                    username: username?,
                    password: password?,
                }
            }
            AuthKind::Bearer => Credentials::Bearer {
                token: needed("token", self.token, errors)?,
            },
            AuthKind::ClientCredentials => Credentials::ClientCredentials(self.client(errors)?),
            AuthKind::Mtls => {
                let certificate = needed("certificate", self.certificate, errors);
                let key = needed("key", self.key, errors);
                Credentials::Mtls(ClientCertificate {
                    certificate: certificate?,
                    key: key?,
                    ca: self.ca,
                })
            }
        };
        let wrong = credentials.check(egress);
        for (field, error) in &wrong {
            errors.push(&format!("auth.{field}"), error.to_string());
        }
        if !wrong.is_empty() {
            return None;
        }
        let expires_at = expiry(&credentials);
        if expires_at.is_some_and(|at| at <= UnixMicros::now().to_date_time()) {
            errors.push("auth.certificate", "has expired");
        }
        Some(Auth {
            credentials,
            certificate_expires_at: expires_at,
        })
    }

    /// Refuses what has no meaning beside the kind.
    fn check_fields(&self, errors: &mut FieldErrors) {
        let basic = self.kind == AuthKind::Basic;
        let client = self.kind == AuthKind::ClientCredentials;
        let mtls = self.kind == AuthKind::Mtls;
        let fields = [
            ("username", self.username.is_some(), basic),
            ("password", self.password.is_some(), basic),
            ("token", self.token.is_some(), self.kind == AuthKind::Bearer),
            ("token_url", self.token_url.is_some(), client),
            ("client_id", self.client_id.is_some(), client),
            ("client_secret", self.client_secret.is_some(), client),
            ("scope", self.scope.is_some(), client),
            ("audience", self.audience.is_some(), client),
            ("client_auth", self.client_auth.is_some(), client),
            ("certificate", self.certificate.is_some(), mtls),
            ("key", self.key.is_some(), mtls),
            ("ca", self.ca.is_some(), mtls),
        ];
        let kind = self.kind;
        for (field, is_given, is_taken) in fields {
            if is_given && !is_taken {
                let detail = format!("must not stand beside the kind `{kind}`");
                errors.push(&format!("auth.{field}"), detail);
            }
        }
    }

    fn client(self, errors: &mut FieldErrors) -> Option<ClientCredentials> {
        let url = needed("token_url", self.token_url, errors);
        let id = needed("client_id", self.client_id, errors);
        let secret = needed("client_secret", self.client_secret, errors);
        Some(ClientCredentials {
            token_url: url?,
            client_id: id?,
            client_secret: secret?,
            scope: self.scope,
            audience: self.audience,
            client_auth: self.client_auth.unwrap_or_default(),
        })
    }
}

fn needed<T>(field: &str, value: Option<T>, errors: &mut FieldErrors) -> Option<T> {
    if value.is_none() {
        errors.push(&format!("auth.{field}"), "is missing");
    }
    value
}

fn expiry(credentials: &Credentials) -> Option<OffsetDateTime> {
    match credentials {
        Credentials::Mtls(certificate) => certificate.read().ok().map(|read| read.expires_at),
        Credentials::Basic { .. } | Credentials::Bearer { .. } | Credentials::ClientCredentials(_) => None,
    }
}

impl AuthView {
    /// As the owner sees them.
    pub(crate) fn new(auth: &Auth) -> Self {
        let plain = |kind| Self {
            kind,
            token_url: None,
            client_id: None,
            scope: None,
            audience: None,
            client_auth: None,
            certificate_expires_at: None,
        };
        match &auth.credentials {
            Credentials::Basic { .. } => plain(AuthKind::Basic),
            Credentials::Bearer { .. } => plain(AuthKind::Bearer),
            Credentials::ClientCredentials(client) => Self {
                token_url: Some(client.token_url.clone()),
                client_id: Some(client.client_id.clone()),
                scope: client.scope.clone(),
                audience: client.audience.clone(),
                client_auth: Some(client.client_auth),
                ..plain(AuthKind::ClientCredentials)
            },
            Credentials::Mtls(_) => Self {
                certificate_expires_at: auth.certificate_expires_at,
                ..plain(AuthKind::Mtls)
            },
        }
    }
}
