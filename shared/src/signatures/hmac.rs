//! Signatures as other senders of webhooks make them: an HMAC in a header of its own.

use hyper::header::HeaderName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::template::{Part, Template, TemplateError};
use crate::domain::headers::is_reserved;
use crate::hidden::SecretBytes;
use crate::words;

/// Longest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 1_024;

words! {
    /// The hash of an HMAC.
    #[derive(Default)]
    pub enum SignatureHash("hash of a signature") {
        /// SHA-256.
        #[default]
        Sha256 = "sha256",
        /// SHA-512.
        Sha512 = "sha512",
        /// SHA-1, for receivers that know nothing better.
        Sha1 = "sha1",
    }
}

words! {
    /// How the bytes of a signature are written.
    #[derive(Default)]
    pub enum SignatureEncoding("encoding of a signature") {
        /// Lower-case hexadecimal digits.
        #[default]
        Hex = "hex",
        /// Standard base64, padded.
        Base64 = "base64",
    }
}

words! {
    /// Well-known senders whose receivers can verify.
    pub enum Preset("signature preset") {
        /// `X-Hub-Signature-256`.
        Github = "github",
        /// `Stripe-Signature`.
        Stripe = "stripe",
        /// `X-Shopify-Hmac-Sha256`.
        Shopify = "shopify",
        /// `X-Slack-Signature`.
        Slack = "slack",
    }
}

/// An HMAC and the header that it goes out in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HmacScheme {
    /// The header, as its owner wrote it.
    pub header: String,
    /// The hash.
    pub hash: SignatureHash,
    /// How the signature is written.
    pub encoding: SignatureEncoding,
    /// What stands before it in the header. It has no `{body}`.
    pub prefix: Template,
    /// What is signed. It has a `{body}`.
    pub signed: Template,
    /// A further header with the time, in Unix seconds.
    pub timestamp_header: Option<String>,
    /// The key.
    pub secret: SecretBytes,
}

/// The fields of a scheme that a preset sets.
#[derive(Clone, Copy, Debug)]
pub struct PresetFields {
    /// See [`HmacScheme`].
    pub header: &'static str,
    /// See [`HmacScheme`].
    pub encoding: SignatureEncoding,
    /// See [`HmacScheme`].
    pub prefix: &'static str,
    /// See [`HmacScheme`].
    pub signed: &'static str,
    /// See [`HmacScheme`].
    pub timestamp_header: Option<&'static str>,
}

impl Preset {
    /// What it stands for. The hash of all of them is SHA-256.
    pub fn fields(self) -> PresetFields {
        let plain = PresetFields {
            header: "X-Hub-Signature-256",
            encoding: SignatureEncoding::Hex,
            prefix: "sha256=",
            signed: "{body}",
            timestamp_header: None,
        };
        match self {
            Self::Github => plain,
            Self::Stripe => PresetFields {
                header: "Stripe-Signature",
                prefix: "t={timestamp},v1=",
                signed: "{timestamp}.{body}",
                ..plain
            },
            Self::Shopify => PresetFields {
                header: "X-Shopify-Hmac-Sha256",
                encoding: SignatureEncoding::Base64,
                prefix: "",
                ..plain
            },
            Self::Slack => PresetFields {
                header: "X-Slack-Signature",
                prefix: "v0=",
                signed: "v0:{timestamp}:{body}",
                timestamp_header: Some("X-Slack-Request-Timestamp"),
                ..plain
            },
        }
    }
}

/// What is wrong with a field of a scheme.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WrongField {
    /// Not a template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What is signed leaves the body out.
    #[error("must have `{{body}}` in it")]
    NoBody,
    /// What stands before the signature has the body in it.
    #[error("must not have `{{body}}` in it")]
    Body,
    /// Not text for a header.
    #[error("must be visible ASCII and spaces, and not begin with a space")]
    Text,
    /// Not a header's name.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// A header that others set.
    #[error("{0:?} is reserved")]
    Reserved(String),
    /// A secret of no or too many bytes.
    #[error("must have 1 to {MAX_SECRET_BYTES} bytes")]
    Secret,
}

/// Reads what is signed.
///
/// # Errors
/// When it is no template, or leaves the body out.
pub fn signed(text: &str) -> Result<Template, WrongField> {
    let template: Template = text.parse()?;
    if template.parts().contains(&Part::Body) {
        Ok(template)
    } else {
        Err(WrongField::NoBody)
    }
}

/// Reads what stands before a signature.
///
/// # Errors
/// When it is no template, or cannot stand in a header.
pub fn prefix(text: &str) -> Result<Template, WrongField> {
    let template: Template = text.parse()?;
    if template.parts().contains(&Part::Body) {
        return Err(WrongField::Body);
    }
    let is_text = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_text && !text.starts_with(' ') {
        Ok(template)
    } else {
        Err(WrongField::Text)
    }
}

/// Reads the name of a header that a signature, or its time, may stand in.
///
/// # Errors
/// When it is no name, or reserved.
pub fn header_name(text: &str) -> Result<HeaderName, WrongField> {
    let name: HeaderName = text.parse().map_err(|_| WrongField::Name(text.to_owned()))?;
    if is_reserved(&name) {
        return Err(WrongField::Reserved(text.to_owned()));
    }
    Ok(name)
}

/// Checks a secret.
///
/// # Errors
/// When it is empty or too long.
pub fn check_secret(secret: &SecretBytes) -> Result<(), WrongField> {
    if (1..=MAX_SECRET_BYTES).contains(&secret.reveal().len()) {
        Ok(())
    } else {
        Err(WrongField::Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_passes_the_checks_of_a_scheme() {
        for preset in Preset::ALL {
            let fields = preset.fields();
            let names = [Some(fields.header), fields.timestamp_header];
            assert!(signed(fields.signed).is_ok() && prefix(fields.prefix).is_ok());
            assert!(names.into_iter().flatten().all(|name| header_name(name).is_ok()));
        }
    }

    #[test]
    fn fields_that_make_no_signature_are_told() {
        assert_eq!(signed("{timestamp}"), Err(WrongField::NoBody));
        assert_eq!(prefix("{body}"), Err(WrongField::Body));
        for text in ["ü", "a\r\nb: c", " a", "\t"] {
            assert_eq!(prefix(text), Err(WrongField::Text), "{text:?}");
        }
        for name in ["webhook-signature", "Content-Type", "HOST", "ce-id"] {
            assert_eq!(header_name(name), Err(WrongField::Reserved(name.to_owned())));
        }
        for name in ["", "a b", "x:"] {
            assert_eq!(header_name(name), Err(WrongField::Name(name.to_owned())));
        }
        for length in [0, MAX_SECRET_BYTES + 1] {
            let secret = vec![b'x'; length].into();
            assert_eq!(check_secret(&secret), Err(WrongField::Secret));
        }
    }
}
