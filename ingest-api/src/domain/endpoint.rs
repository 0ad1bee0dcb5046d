//! What an endpoint is set to.

use shared::credentials::Credentials;
use time::OffsetDateTime;

/// How long an attempt may take unless the owner says so, in milliseconds.
pub(crate) const DEFAULT_TIMEOUT_MS: i32 = 15_000;

/// Most deliveries that one worker has in flight unless the owner says so.
pub(crate) const DEFAULT_MAX_IN_FLIGHT: i32 = 64;

/// Whether webhooks to this URL go over TLS.
pub(crate) fn is_https(url: &str) -> bool {
    url.to_ascii_lowercase().starts_with("https:")
}

/// An endpoint's credentials.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    pub credentials: Credentials,
    /// Of a client certificate.
    pub certificate_expires_at: Option<OffsetDateTime>,
}
