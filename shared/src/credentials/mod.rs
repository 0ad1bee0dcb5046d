//! What webhooks show a receiver besides their signature: a password, a token, a client certificate. The API checks by the
//! same code as the workers use.
//!
//! Imports `domain`, `secret`, `hidden` and `egress`.

pub mod certificate;

use data_encoding::BASE64;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use self::certificate::{ClientCertificate, WrongCertificate};
use crate::domain::id::EndpointId;
use crate::egress::{EgressConfig, Refused};
use crate::hidden::SecretText;
use crate::secret::{SecretError, SecretsKey};
use crate::words;

/// Longest user name, password, id, secret, scope or audience, in bytes.
pub const MAX_BYTES: usize = 1_024;

/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8_192;

words! {
    /// Where a client's id and secret stand in a request for a token.
    #[derive(Default)]
    pub enum ClientAuth("place of a client's secret") {
        /// In the header `Authorization`.
        #[default]
        Basic = "basic",
        /// In the body.
        Body = "body",
    }
}

/// An endpoint's credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// `Authorization: Basic`.
    Basic {
        /// The user; no colon.
        username: SecretText,
        /// The password; it may be empty.
        password: SecretText,
    },
    /// `Authorization: Bearer`.
    Bearer {
        /// The token.
        token: SecretText,
    },
    /// `Authorization: Bearer` with a token from an OAuth 2 server.
    ClientCredentials(ClientCredentials),
    /// A certificate that the TLS handshake shows.
    Mtls(ClientCertificate),
}

/// The client credentials grant of OAuth 2 (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCredentials {
    /// Where tokens come from: http or https, to a public address.
    pub token_url: String,
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretText,
    /// What the token is to allow, in names with spaces between.
    pub scope: Option<String>,
    /// Whom the token is for.
    pub audience: Option<String>,
    /// Where id and secret stand in the request.
    pub client_auth: ClientAuth,
}

/// What is wrong with a field of credentials.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WrongCredentials {
    /// Not text, or too long.
    #[error("must have {least} to {MAX_BYTES} bytes without control characters")]
    Text {
        /// The least bytes.
        least: usize,
    },
    /// A colon ends a user name.
    #[error("must not contain a colon")]
    Colon,
    /// Not a token.
    #[error("must have 1 to {MAX_TOKEN_BYTES} bytes of visible ASCII")]
    Token,
    /// Not a list of scopes.
    #[error("must have 1 to {MAX_BYTES} bytes of visible ASCII and spaces")]
    Scope,
    /// Not a URL.
    #[error("not a URL: {0}")]
    NoUrl(#[from] url::ParseError),
    /// Not a URL that tokens may come from.
    #[error(transparent)]
    Url(#[from] Refused),
    /// Not a certificate with its key.
    #[error("{0}")]
    Certificate(String),
}

impl Credentials {
    /// What is wrong, by field.
    pub fn check(&self, egress: &EgressConfig) -> Vec<(&'static str, WrongCredentials)> {
        let checks = match self {
            Self::Basic { username, password } => vec![
                ("username", check_username(username.reveal())),
                ("password", check_text(password.reveal(), 0)),
            ],
            Self::Bearer { token } => vec![("token", check_token(token.reveal()))],
            Self::ClientCredentials(client) => client.check(egress),
            Self::Mtls(certificate) => match certificate.read() {
                Ok(_) => Vec::new(),
                Err(WrongCertificate { field, detail }) => {
                    vec![(field, Err(WrongCredentials::Certificate(detail)))]
                }
            },
        };
        let wrong = checks
            .into_iter()
            .filter_map(|(field, outcome)| Some((field, outcome.err()?)));
        wrong.collect()
    }

    /// Whether requests carry the header `Authorization`.
    pub fn sets_authorization(&self) -> bool {
        !matches!(self, Self::Mtls(_))
    }

    /// Encrypts the credentials for the database. They open for `endpoint` only, and in this field only.
    pub fn seal(&self, key: &SecretsKey, endpoint: EndpointId) -> Vec<u8> {
        key.seal_json(self, &Self::context(endpoint))
    }

    /// What its ciphertext is bound to: another one than those of the endpoint's other secrets, so that none can stand in another's place.
    pub fn context(endpoint: EndpointId) -> Vec<u8> {
        [endpoint.as_uuid().as_bytes().as_slice(), b"auth"].concat()
    }

    /// Reverses [`Credentials::seal`].
    ///
    /// # Errors
    /// [`SecretError::Sealed`].
    pub fn unseal(sealed: &[u8], key: &SecretsKey, endpoint: EndpointId) -> Result<Self, SecretError> {
        key.unseal_json(sealed, &Self::context(endpoint))
    }
}

impl ClientCredentials {
    fn check(&self, egress: &EgressConfig) -> Vec<(&'static str, Result<(), WrongCredentials>)> {
        let scope = self.scope.as_deref().map_or(Ok(()), check_scope);
        let audience = self
            .audience
            .as_deref()
            .map_or(Ok(()), |text| check_text(text, 1));
        vec![
            ("token_url", check_url(&self.token_url, egress)),
            ("client_id", check_text(&self.client_id, 1)),
            ("client_secret", check_text(self.client_secret.reveal(), 1)),
            ("scope", scope),
            ("audience", audience),
        ]
    }
}

/// The value of `Authorization` for a user and a password (RFC 7617).
///
/// # Errors
/// Never for what was checked.
pub fn basic(username: &str, password: &str) -> Result<HeaderValue, WrongCredentials> {
    let pair = Zeroizing::new(format!("{username}:{password}"));
    sensitive(&format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

/// The value of `Authorization` for a token (RFC 6750).
///
/// # Errors
/// When it is no token.
pub fn bearer(token: &str) -> Result<HeaderValue, WrongCredentials> {
    check_token(token)?;
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(text: &str) -> Result<HeaderValue, WrongCredentials> {
    let mut value = HeaderValue::from_str(text).map_err(|_| WrongCredentials::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn check_url(text: &str, egress: &EgressConfig) -> Result<(), WrongCredentials> {
    check_text(text, 1)?;
    Ok(egress.check_url(&Url::parse(text)?)?)
}

fn check_username(text: &str) -> Result<(), WrongCredentials> {
    check_text(text, 0)?;
    if text.contains(':') {
        return Err(WrongCredentials::Colon);
    }
    Ok(())
}

fn check_text(text: &str, least: usize) -> Result<(), WrongCredentials> {
    if (least..=MAX_BYTES).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(())
    } else {
        Err(WrongCredentials::Text { least })
    }
}

fn check_token(text: &str) -> Result<(), WrongCredentials> {
    let is_token = text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token && (1..=MAX_TOKEN_BYTES).contains(&text.len()) {
        Ok(())
    } else {
        Err(WrongCredentials::Token)
    }
}

fn check_scope(text: &str) -> Result<(), WrongCredentials> {
    let is_scope = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_scope && (1..=MAX_BYTES).contains(&text.len()) {
        Ok(())
    } else {
        Err(WrongCredentials::Scope)
    }
}

#[cfg(test)]
mod tests;
