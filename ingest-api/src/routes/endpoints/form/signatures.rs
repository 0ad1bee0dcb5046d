//! The signature schemes of an endpoint, as a form gives them and as they are shown.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::hidden::{SecretBytes, SecretText};
use shared::signatures::hmac::{HmacScheme, Preset, SignatureEncoding, SignatureHash};
use shared::signatures::key_pair::KeyPair;
use shared::signatures::template::Template;
use shared::signatures::{Scheme, Signature, Signatures};
use shared::words;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::utc::UtcTime;

words! {
    /// The name of a signature scheme.
    pub enum SchemeName("signature scheme") {
        /// Standard Webhooks `v1`.
        Standard = "standard",
        /// Standard Webhooks `v1a`.
        Ed25519 = "ed25519",
        /// An HMAC in a header of its own.
        Hmac = "hmac",
        /// An `hmac` as GitHub sends it.
        Github = "github",
        /// An `hmac` as Stripe sends it.
        Stripe = "stripe",
        /// An `hmac` as Shopify sends it.
        Shopify = "shopify",
        /// An `hmac` as Slack sends it.
        Slack = "slack",
    }
}

impl SchemeName {
    fn preset(self) -> Option<Preset> {
        match self {
            Self::Standard | Self::Ed25519 | Self::Hmac => None,
            Self::Github => Some(Preset::Github),
            Self::Stripe => Some(Preset::Stripe),
            Self::Shopify => Some(Preset::Shopify),
            Self::Slack => Some(Preset::Slack),
        }
    }
}

/// A signature scheme of a form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignatureForm {
    scheme: SchemeName,
    until: Option<UtcTime>,
    header: Option<String>,
    hash: Option<SignatureHash>,
    encoding: Option<SignatureEncoding>,
    prefix: Option<String>,
    signed: Option<String>,
    timestamp_header: Option<String>,
    secret: Option<SecretText>,
    secret_base64: Option<SecretText>,
}

/// A signature scheme of an endpoint, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignatureView {
    /// `standard`, `ed25519` or `hmac`: a preset is shown as the `hmac` that it stands for.
    scheme: SchemeName,
    /// From then on it is left out; null is never.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    until: Option<OffsetDateTime>,
    /// The header of the signature. Only for `hmac`, like the fields below.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// The hash of the HMAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<SignatureHash>,
    /// How the signature is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<SignatureEncoding>,
    /// What stands before the signature in the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// What is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<String>,
    /// A further header with the time, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_header: Option<String>,
}

/// Reads the schemes of a form. What is kept of a scheme comes from those before. None is what is usual, or stands for wrong
/// fields.
pub(crate) fn read(
    forms: Vec<SignatureForm>,
    before: Option<&Signatures>,
    errors: &mut FieldErrors,
) -> Option<Signatures> {
    let read: Vec<_> = forms
        .into_iter()
        .enumerate()
        .map(|(index, form)| {
            let mut wrong = Wrong {
                place: format!("signatures[{index}]"),
                errors: &mut *errors,
            };
            form.read(&mut wrong, before)
        })
        .collect();
    let read: Option<Vec<_>> = read.into_iter().collect();
    read.map(Signatures)
        .filter(|signatures| !signatures.are_default())
}

/// The wrong fields of one scheme.
struct Wrong<'a> {
    place: String,
    errors: &'a mut FieldErrors,
}

impl Wrong<'_> {
    fn push(&mut self, field: &str, detail: impl Into<String>) {
        self.errors.push(&format!("{}.{field}", self.place), detail);
    }

    fn template(&mut self, field: &str, text: &str) -> Option<Template> {
        let template: Result<Template, _> = text.parse();
        template.map_err(|error| self.push(field, error.to_string())).ok()
    }
}

impl SignatureForm {
    fn read(self, wrong: &mut Wrong<'_>, before: Option<&Signatures>) -> Option<Signature> {
        let until = self.until.map(|until| UnixMicros::from(until.0));
        self.check_fields(wrong)?;
        let scheme = match self.scheme {
            SchemeName::Standard => Scheme::Standard,
            SchemeName::Ed25519 => {
                let known = before.and_then(Signatures::key_pair);
                Scheme::Ed25519(known.cloned().unwrap_or_else(KeyPair::generate))
            }
            _ => Scheme::Hmac(self.hmac(wrong, before)?),
        };
        Some(Signature { scheme, until })
    }

    /// Refuses what has no meaning beside the scheme's name.
    fn check_fields(&self, wrong: &mut Wrong<'_>) -> Option<()> {
        let shape = [
            ("header", self.header.is_some()),
            ("hash", self.hash.is_some()),
            ("encoding", self.encoding.is_some()),
            ("prefix", self.prefix.is_some()),
            ("signed", self.signed.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
        ];
        let secrets = [
            ("secret", self.secret.is_some()),
            ("secret_base64", self.secret_base64.is_some()),
        ];
        let takes_secret = !matches!(self.scheme, SchemeName::Standard | SchemeName::Ed25519);
        let takes_shape = self.scheme == SchemeName::Hmac;
        let refused = shape
            .into_iter()
            .filter(|_| !takes_shape)
            .chain(secrets.into_iter().filter(|_| !takes_secret));
        let mut good = Some(());
        for (field, _) in refused.filter(|(_, is_given)| *is_given) {
            let scheme = self.scheme;
            wrong.push(field, format!("must not stand beside the scheme `{scheme}`"));
            good = None;
        }
        good
    }

    fn hmac(self, wrong: &mut Wrong<'_>, before: Option<&Signatures>) -> Option<HmacScheme> {
        let preset = self.scheme.preset().map(Preset::fields);
        let header = preset.map(|preset| preset.header.to_owned());
        let Some(header) = header.or_else(|| self.header.clone()) else {
            wrong.push("header", "is missing");
            return None;
        };
        let before = before.and_then(|before| before.hmac_in(&header));
        let known = before.map(|hmac| hmac.secret.clone());
        let (prefix, signed) = preset.map_or_else(
            || {
                let text = |field: &Option<String>, default: &str| {
                    field.clone().unwrap_or_else(|| default.to_owned())
                };
                (text(&self.prefix, ""), text(&self.signed, "{body}"))
            },
            |preset| (preset.prefix.to_owned(), preset.signed.to_owned()),
        );
        let prefix = wrong.template("prefix", &prefix);
        let signed = wrong.template("signed", &signed);
        let secret = self.secret(wrong, known);
        let timestamp_header = preset.map_or_else(
            || self.timestamp_header.clone(),
            |preset| preset.timestamp_header.map(str::to_owned),
        );
        Some(HmacScheme {
            header,
            hash: self.hash.unwrap_or_default(),
            encoding: preset.map_or(self.encoding.unwrap_or_default(), |preset| preset.encoding),
            prefix: prefix?,
            signed: signed?,
            timestamp_header,
            secret: secret?,
        })
    }

    /// The secret that is given, or else the one that the header had before.
    fn secret(&self, wrong: &mut Wrong<'_>, known: Option<SecretBytes>) -> Option<SecretBytes> {
        match (&self.secret, &self.secret_base64) {
            (Some(_), Some(_)) => {
                wrong.push("secret_base64", "must not stand beside `secret`");
                None
            }
            (Some(text), None) => Some(text.reveal().as_bytes().to_vec().into()),
            (None, Some(text)) => {
                let bytes = BASE64.decode(text.reveal().as_bytes());
                let bytes = bytes.map_err(|_| wrong.push("secret_base64", "is not base64"));
                bytes.ok().map(SecretBytes::from)
            }
            (None, None) if known.is_some() => known,
            (None, None) => {
                wrong.push("secret", "is missing");
                None
            }
        }
    }
}

/// The schemes as their owner sees them.
pub(crate) fn view(signatures: Option<&Signatures>) -> Vec<SignatureView> {
    match signatures {
        Some(signatures) => signatures.0.iter().map(SignatureView::new).collect(),
        None => vec![SignatureView::plain(SchemeName::Standard, None)],
    }
}

impl SignatureView {
    fn new(signature: &Signature) -> Self {
        let until = signature.until.map(UnixMicros::to_date_time);
        match &signature.scheme {
            Scheme::Standard => Self::plain(SchemeName::Standard, until),
            Scheme::Ed25519(_) => Self::plain(SchemeName::Ed25519, until),
            Scheme::Hmac(hmac) => Self {
                header: Some(hmac.header.clone()),
                hash: Some(hmac.hash),
                encoding: Some(hmac.encoding),
                prefix: Some(hmac.prefix.as_str().to_owned()),
                signed: Some(hmac.signed.as_str().to_owned()),
                timestamp_header: hmac.timestamp_header.clone(),
                ..Self::plain(SchemeName::Hmac, until)
            },
        }
    }

    fn plain(scheme: SchemeName, until: Option<OffsetDateTime>) -> Self {
        Self {
            scheme,
            until,
            header: None,
            hash: None,
            encoding: None,
            prefix: None,
            signed: None,
            timestamp_header: None,
        }
    }
}
