//! Signatures as Standard Webhooks 1.0.0 describes them.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use shared::id::EventId;
use shared::secret::SigningSecret;

/// An endpoint's signing key, ready to use.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// For a secret.
    pub fn new(secret: &SigningSecret) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length"))
    }

    /// The `webhook-signature` of a delivery: `v1,` and the base64 HMAC-SHA256 of `{id}.{timestamp}.{body}`.
    /// `timestamp` is in Unix seconds.
    pub fn sign(&self, id: EventId, timestamp: i64, body: &[u8]) -> String {
        self.sign_text(&id.to_string(), timestamp, body)
    }

    fn sign_text(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        let mut signature = "v1,".to_owned();
        BASE64.encode_append(&mac.finalize().into_bytes(), &mut signature);
        signature
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
