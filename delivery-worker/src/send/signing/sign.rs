//! Signatures as Standard Webhooks 1.0.0 describes them.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use shared::domain::id::EventId;
use shared::secret::SigningSecret;
use time::OffsetDateTime;

/// An endpoint's signing keys, ready to use.
#[derive(Clone)]
pub struct Signer {
    current: Hmac<Sha256>,
    /// The key before the last rotation, and when it expires in Unix seconds. In a box: few endpoints have one.
    previous: Option<Box<(Hmac<Sha256>, i64)>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// For a secret.
    pub fn new(secret: &SigningSecret) -> Self {
        Self {
            current: keyed(secret),
            previous: None,
        }
    }

    /// Signs with the secret before the last rotation too, until that expires.
    #[must_use]
    pub fn with_previous(mut self, secret: &SigningSecret, expires_at: OffsetDateTime) -> Self {
        self.previous = Some(Box::new((keyed(secret), expires_at.unix_timestamp())));
        self
    }

    /// The `webhook-signature` of a delivery: an entry for each secret that is valid at `timestamp` (Unix seconds),
    /// the newest first, separated by spaces. Each is `v1,` and the base64 HMAC-SHA256 of `{id}.{timestamp}.{body}`.
    pub fn sign(&self, id: EventId, timestamp: i64, body: &[u8]) -> String {
        self.sign_text(&id.to_string(), timestamp, body)
    }

    fn sign_text(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let previous = self.previous.as_deref();
        let previous = previous.filter(|(_, expires_at)| timestamp < *expires_at);
        let mut signatures = String::new();
        for key in std::iter::once(&self.current).chain(previous.map(|(key, _)| key)) {
            let mut mac = key.clone();
            mac.update(id.as_bytes());
            mac.update(format!(".{timestamp}.").as_bytes());
            mac.update(body);
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            signatures.push_str("v1,");
            BASE64.encode_append(&mac.finalize().into_bytes(), &mut signatures);
        }
        signatures
    }
}

fn keyed(secret: &SigningSecret) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::{HeaderMap, HeaderName};
    use proptest::prelude::*;
    use shared::domain::clock::UnixMicros;
    use standardwebhooks::Webhook;

    use super::*;

    #[test]
    fn the_specifications_example_comes_out() {
        let secret: SigningSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse().unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            Signer::new(&secret).sign_text("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        );
    }

    #[test]
    fn after_a_rotation_both_secrets_verify_until_the_old_one_expires() {
        let (new, old) = (SigningSecret::generate(), SigningSecret::generate());
        let now = 1_700_000_000;
        let expires_at = OffsetDateTime::from_unix_timestamp(now).unwrap();
        let signer = Signer::new(&new).with_previous(&old, expires_at);
        let id = EventId::from(uuid::Uuid::from_u128(7));
        let alone = |secret, timestamp| Signer::new(secret).sign(id, timestamp, b"{}");
        assert_eq!(
            signer.sign(id, now - 1, b"{}"),
            format!("{} {}", alone(&new, now - 1), alone(&old, now - 1))
        );
        assert_eq!(signer.sign(id, now, b"{}"), alone(&new, now));
    }

    #[test]
    fn the_official_library_takes_either_of_two_signatures() {
        let (new, old) = (SigningSecret::generate(), SigningSecret::generate());
        let now = UnixMicros::now().to_date_time();
        let signer = Signer::new(&new).with_previous(&old, now + Duration::from_secs(60));
        let id = EventId::from(uuid::Uuid::from_u128(7));
        let timestamp = now.unix_timestamp();
        let headers = [
            ("webhook-id", id.to_string()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signer.sign(id, timestamp, b"{}")),
        ];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let headers = HeaderMap::from_iter(headers);
        for (secret, is_valid) in [(&new, true), (&old, true), (&SigningSecret::generate(), false)] {
            let verifier = Webhook::new(&secret.to_text()).unwrap();
            assert_eq!(verifier.verify(b"{}", &headers).is_ok(), is_valid);
        }
    }

    proptest! {
        #[test]
        fn signatures_are_those_of_the_official_library(
            id in any::<u128>(),
            timestamp in 0i64..=4_102_444_800,
            body in ".{0,200}",
        ) {
            let secret = SigningSecret::generate();
            let id = EventId::from(uuid::Uuid::from_u128(id));
            let ours = Signer::new(&secret).sign(id, timestamp, body.as_bytes());
            let theirs = Webhook::new(&secret.to_text()).unwrap();
            prop_assert_eq!(ours, theirs.sign(&id.to_string(), timestamp, body.as_bytes()).unwrap());
        }
    }
}
