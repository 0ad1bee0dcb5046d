//! How an endpoint's webhooks are signed: up to three schemes at once, each until a time if its owner wants that. The API
//! checks by the same code as the workers use.
//!
//! Imports `domain`, `secret` and `hidden`.

pub mod template;
pub mod hmac;
pub mod key_pair;

use serde::{Deserialize, Serialize};

use self::hmac::{HmacScheme, WrongField, check_secret, header_name, prefix, signed};
use self::key_pair::KeyPair;
use crate::domain::clock::UnixMicros;
use crate::domain::id::EndpointId;
use crate::secret::{SecretError, SecretsKey};

/// Most schemes of one endpoint.
pub const MAX_SCHEMES: usize = 3;

/// The schemes of an endpoint that does not sign in the default way alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signatures(pub Vec<Signature>);

/// A scheme, and until when it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// How it signs.
    pub scheme: Scheme,
    /// The time from which on it is left out.
    pub until: Option<UnixMicros>,
}

/// A way of signing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Standard Webhooks `v1`, with the endpoint's secret.
    Standard,
    /// Standard Webhooks `v1a`.
    Ed25519(KeyPair),
    /// An HMAC in a header of its own.
    Hmac(HmacScheme),
}

/// What is wrong with a scheme of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongSignature {
    /// Its place in the list, and the field: `[1].header`. Empty for the list as a whole.
    pub place: String,
    /// What is wrong.
    pub detail: String,
}

impl Signatures {
    /// Whether they are what an endpoint has when nothing is said.
    pub fn are_default(&self) -> bool {
        matches!(
            self.0.as_slice(),
            [Signature {
                scheme: Scheme::Standard,
                until: None
            }]
        )
    }

    /// The Ed25519 key pair.
    pub fn key_pair(&self) -> Option<&KeyPair> {
        self.0.iter().find_map(|signature| match &signature.scheme {
            Scheme::Ed25519(key_pair) => Some(key_pair),
            Scheme::Standard | Scheme::Hmac(_) => None,
        })
    }

    /// The Ed25519 key pair, to be replaced.
    pub fn key_pair_mut(&mut self) -> Option<&mut KeyPair> {
        self.0
            .iter_mut()
            .find_map(|signature| match &mut signature.scheme {
                Scheme::Ed25519(key_pair) => Some(key_pair),
                Scheme::Standard | Scheme::Hmac(_) => None,
            })
    }

    /// The HMAC that goes out in a header.
    pub fn hmac_in(&self, header: &str) -> Option<&HmacScheme> {
        self.0.iter().find_map(|signature| match &signature.scheme {
            Scheme::Hmac(hmac) if hmac.header.eq_ignore_ascii_case(header) => Some(hmac),
            Scheme::Hmac(_) | Scheme::Standard | Scheme::Ed25519(_) => None,
        })
    }

    /// What is wrong with the list. `taken` are the names of headers that the endpoint sends for other reasons.
    pub fn check(&self, taken: &[&str]) -> Vec<WrongSignature> {
        let mut wrong = Vec::new();
        if !(1..=MAX_SCHEMES).contains(&self.0.len()) {
            wrong.push(WrongSignature {
                place: String::new(),
                detail: format!("must have 1 to {MAX_SCHEMES} schemes"),
            });
        } else if self.0.iter().all(|signature| signature.until.is_some()) {
            wrong.push(WrongSignature {
                place: String::new(),
                detail: "must have a scheme without `until`: later there would be no signature".to_owned(),
            });
        }
        let mut names: Vec<String> = taken.iter().map(|name| name.to_lowercase()).collect();
        for (index, signature) in self.0.iter().enumerate() {
            let mut tell = |field: &str, detail: String| {
                wrong.push(WrongSignature {
                    place: format!("[{index}].{field}"),
                    detail,
                });
            };
            let is_same = |other: &Signature| {
                let kind = std::mem::discriminant(&signature.scheme);
                kind == std::mem::discriminant(&other.scheme)
            };
            match &signature.scheme {
                Scheme::Standard | Scheme::Ed25519(_) if self.0[..index].iter().any(is_same) => {
                    tell("scheme", "stands more than once".to_owned());
                }
                Scheme::Standard => {}
                Scheme::Ed25519(key_pair) => {
                    if key_pair.key().is_none() {
                        tell("scheme", "its key cannot be read".to_owned());
                    }
                }
                Scheme::Hmac(hmac) => check_hmac(hmac, &mut names, &mut tell),
            }
        }
        wrong
    }

    /// Encrypts the schemes for the database. They open for `endpoint` only, and in this field only.
    pub fn seal(&self, key: &SecretsKey, endpoint: EndpointId) -> Vec<u8> {
        key.seal_json(self, &Self::context(endpoint))
    }

    /// What its ciphertext is bound to: another one than those of the endpoint's other secrets, so that none can stand in another's place.
    pub fn context(endpoint: EndpointId) -> Vec<u8> {
        [endpoint.as_uuid().as_bytes().as_slice(), b"signatures"].concat()
    }

    /// Reverses [`Signatures::seal`].
    ///
    /// # Errors
    /// [`SecretError::Sealed`].
    pub fn unseal(sealed: &[u8], key: &SecretsKey, endpoint: EndpointId) -> Result<Self, SecretError> {
        key.unseal_json(sealed, &Self::context(endpoint))
    }
}

fn check_hmac(hmac: &HmacScheme, names: &mut Vec<String>, tell: &mut impl FnMut(&str, String)) {
    let text = |error: WrongField| error.to_string();
    let checks = [
        ("prefix", prefix(hmac.prefix.as_str()).map(drop)),
        ("signed", signed(hmac.signed.as_str()).map(drop)),
        ("secret", check_secret(&hmac.secret)),
    ];
    for (field, outcome) in checks {
        if let Err(error) = outcome {
            tell(field, text(error));
        }
    }
    let headers = [
        ("header", Some(&hmac.header)),
        ("timestamp_header", hmac.timestamp_header.as_ref()),
    ];
    for (field, name) in headers {
        let Some(name) = name else { continue };
        match header_name(name) {
            Err(error) => tell(field, text(error)),
            Ok(parsed) if names.iter().any(|other| other == parsed.as_str()) => {
                tell(field, format!("{name:?} is sent already, for something else"));
            }
            Ok(parsed) => names.push(parsed.as_str().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::domain::headers::CustomHeaders;

    fn hmac(header: &str) -> Signature {
        Signature {
            scheme: Scheme::Hmac(HmacScheme {
                header: header.to_owned(),
                hash: hmac::SignatureHash::Sha256,
                encoding: hmac::SignatureEncoding::Hex,
                prefix: "t={timestamp}".parse().unwrap(),
                signed: "{body}".parse().unwrap(),
                timestamp_header: Some(format!("{header}-time")),
                secret: b"canary".to_vec().into(),
            }),
            until: None,
        }
    }

    fn plain(scheme: Scheme) -> Signature {
        Signature { scheme, until: None }
    }

    fn places(signatures: &[Signature], taken: &[&str]) -> Vec<String> {
        let wrong = Signatures(signatures.to_vec()).check(taken);
        wrong.into_iter().map(|wrong| wrong.place).collect()
    }

    #[test]
    fn schemes_that_do_not_go_together_are_told_by_their_place() {
        let key_pair = || plain(Scheme::Ed25519(KeyPair::generate()));
        let good = [plain(Scheme::Standard), key_pair(), hmac("X-A")];
        assert!(places(&good, &["x-b", "Authorization"]).is_empty());
        assert_eq!(places(&[], &[]), [""]);
        let many = ["X-A", "X-B", "X-C", "X-D"].map(hmac);
        assert_eq!(places(&many, &[]), [""]);
        let twice = [plain(Scheme::Standard), plain(Scheme::Standard)];
        assert_eq!(places(&twice, &[]), ["[1].scheme"]);
        assert_eq!(places(&[key_pair(), key_pair()], &[]), ["[1].scheme"]);
        assert_eq!(
            places(&[hmac("X-A"), hmac("x-a")], &[]),
            ["[1].header", "[1].timestamp_header"]
        );
        assert_eq!(places(&[hmac("X-A")], &["x-A-Time"]), ["[0].timestamp_header"]);
        let ending = Signature {
            until: Some(UnixMicros::new(1)),
            ..hmac("X-A")
        };
        assert_eq!(places(&[ending], &[]), [""]);
    }

    #[test]
    fn signatures_open_for_their_endpoint_and_in_their_field_only() {
        let key: SecretsKey = BASE64.encode(&[7; 32]).parse().unwrap();
        let (endpoint, other) = (EndpointId::generate(), EndpointId::generate());
        let signatures = Signatures(vec![
            plain(Scheme::Ed25519(KeyPair::generate())),
            hmac("X-A"),
            plain(Scheme::Standard),
        ]);
        let sealed = signatures.seal(&key, endpoint);
        assert_eq!(Signatures::unseal(&sealed, &key, endpoint).unwrap(), signatures);
        assert!(Signatures::unseal(&sealed, &key, other).is_err());
        assert!(CustomHeaders::unseal(Some(&sealed), &key, endpoint).is_err());
        assert!(!format!("{signatures:?}").contains("canary"));
    }
}
