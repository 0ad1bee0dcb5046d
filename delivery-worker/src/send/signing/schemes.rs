//! Signatures of endpoints that do not use Standard Webhooks alone: their schemes, with keys that are ready.

use std::fmt;

use anyhow::Context as _;
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use shared::domain::clock::UnixMicros;
use shared::domain::id::{EndpointId, EventId};
use shared::secret::SecretsKey;
use shared::signatures::hmac::{HmacScheme, SignatureEncoding, SignatureHash, header_name};
use shared::signatures::key_pair::{Ed25519Key, KeyPair};
use shared::signatures::template::{Part, Template};
use shared::signatures::{Scheme, Signatures};

use crate::send::signing::sign::Signer;

/// What a signature is made of.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The event's id.
    pub id: EventId,
    /// The attempt's time, in Unix seconds.
    pub timestamp: i64,
    /// The webhook's body.
    pub body: &'a [u8],
}

/// The schemes of an endpoint, ready to sign.
#[derive(Debug)]
pub(crate) struct Schemes(Vec<Timed>);

#[derive(Debug)]
struct Timed {
    scheme: Ready,
    /// Unix microseconds.
    until: Option<i64>,
}

#[derive(Debug)]
enum Ready {
    Standard,
    Ed25519(Box<Keys>),
    Hmac(Box<ReadyHmac>),
}

#[derive(Debug)]
struct Keys {
    current: Ed25519Key,
    /// The key before the last rotation, and when it expires in Unix seconds.
    previous: Option<(Ed25519Key, i64)>,
}

#[derive(Debug)]
struct ReadyHmac {
    header: HeaderName,
    timestamp_header: Option<HeaderName>,
    encoding: SignatureEncoding,
    prefix: Template,
    signed: Template,
    key: Key,
}

enum Key {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Box<Hmac<Sha512>>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Schemes {
    /// Those that are stored of an endpoint. `headers` are its owner's own.
    ///
    /// # Errors
    /// When `key` does not open them, or with what the API would not have taken.
    pub(crate) fn open(
        sealed: Option<&[u8]>,
        key: &SecretsKey,
        endpoint: EndpointId,
        headers: &HeaderMap,
    ) -> anyhow::Result<Option<Self>> {
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let signatures = Signatures::unseal(sealed, key, endpoint)?;
        let taken: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        Self::new(&signatures, &taken).map(Some)
    }

    /// Makes the keys ready. `taken` are the names of headers that the endpoint sends for other reasons.
    ///
    /// # Errors
    /// With what the API would not have taken.
    fn new(signatures: &Signatures, taken: &[&str]) -> anyhow::Result<Self> {
        if let Some(wrong) = signatures.check(taken).into_iter().next() {
            anyhow::bail!("signatures{}: {}", wrong.place, wrong.detail);
        }
        let schemes = signatures.0.iter().map(|signature| {
            Ok(Timed {
                scheme: Ready::new(&signature.scheme)?,
                until: signature.until.map(UnixMicros::get),
            })
        });
        schemes.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Sets the headers with the signatures of a message. `standard` signs as Standard Webhooks does.
    pub(crate) fn sign(&self, standard: &Signer, message: Message<'_>, headers: &mut HeaderMap) {
        let now = message.timestamp.saturating_mul(1_000_000);
        let mut entries = Vec::new();
        for timed in &self.0 {
            if timed.until.is_some_and(|until| until <= now) {
                continue;
            }
            match &timed.scheme {
                Ready::Standard => {
                    entries.push(standard.sign(message.id, message.timestamp, message.body));
                }
                Ready::Ed25519(keys) => keys.sign(message, &mut entries),
                Ready::Hmac(hmac) => hmac.sign(message, headers),
            }
        }
        if !entries.is_empty() {
            headers.insert("webhook-signature", ascii(entries.join(" ")));
        }
    }
}

impl Ready {
    fn new(scheme: &Scheme) -> anyhow::Result<Self> {
        Ok(match scheme {
            Scheme::Standard => Self::Standard,
            Scheme::Ed25519(key_pair) => Self::Ed25519(Box::new(Keys::new(key_pair)?)),
            Scheme::Hmac(hmac) => Self::Hmac(Box::new(ReadyHmac::new(hmac)?)),
        })
    }
}

impl Keys {
    fn new(key_pair: &KeyPair) -> anyhow::Result<Self> {
        Ok(Self {
            current: key_pair.key().context("its Ed25519 key cannot be read")?,
            previous: key_pair.previous(),
        })
    }

    /// An entry of each key that is valid, the newest first: `v1a,` and the base64 signature of `{id}.{timestamp}.{body}`.
    fn sign(&self, message: Message<'_>, entries: &mut Vec<String>) {
        let start = format!("{}.{}.", message.id, message.timestamp);
        let signed = [start.as_bytes(), message.body].concat();
        let previous = self
            .previous
            .iter()
            .filter(|(_, expires_at)| message.timestamp < *expires_at);
        for key in std::iter::once(&self.current).chain(previous.map(|(key, _)| key)) {
            entries.push(format!("v1a,{}", BASE64.encode(&key.sign(&signed))));
        }
    }
}

impl ReadyHmac {
    fn new(hmac: &HmacScheme) -> anyhow::Result<Self> {
        let timestamp_header = hmac.timestamp_header.as_deref().map(header_name);
        Ok(Self {
            header: header_name(&hmac.header)?,
            timestamp_header: timestamp_header.transpose()?,
            encoding: hmac.encoding,
            prefix: hmac.prefix.clone(),
            signed: hmac.signed.clone(),
            key: Key::new(hmac.hash, hmac.secret.reveal()),
        })
    }

    fn sign(&self, message: Message<'_>, headers: &mut HeaderMap) {
        let mac = self.key.sign(&self.signed, message);
        let mut value = String::new();
        fill(&self.prefix, message, |bytes| {
            value.push_str(&String::from_utf8_lossy(bytes));
        });
        match self.encoding {
            SignatureEncoding::Hex => HEXLOWER.encode_append(&mac, &mut value),
            SignatureEncoding::Base64 => BASE64.encode_append(&mac, &mut value),
        }
        headers.insert(&self.header, ascii(value));
        if let Some(name) = &self.timestamp_header {
            headers.insert(name, ascii(message.timestamp.to_string()));
        }
    }
}

impl Key {
    fn new(hash: SignatureHash, secret: &[u8]) -> Self {
        match hash {
            SignatureHash::Sha1 => Self::Sha1(keyed(secret)),
            SignatureHash::Sha256 => Self::Sha256(keyed(secret)),
            SignatureHash::Sha512 => Self::Sha512(Box::new(keyed(secret))),
        }
    }

    fn sign(&self, signed: &Template, message: Message<'_>) -> Vec<u8> {
        match self {
            Self::Sha1(key) => mac(key, signed, message),
            Self::Sha256(key) => mac(key, signed, message),
            Self::Sha512(key) => mac(&**key, signed, message),
        }
    }
}

fn keyed<M: KeyInit>(secret: &[u8]) -> M {
    M::new_from_slice(secret).expect("HMAC takes keys of any length")
}

fn mac<M: Mac + Clone>(key: &M, signed: &Template, message: Message<'_>) -> Vec<u8> {
    let mut mac = key.clone();
    fill(signed, message, |bytes| mac.update(bytes));
    mac.finalize().into_bytes().to_vec()
}

/// Passes on the pieces of a template, filled in.
fn fill(template: &Template, message: Message<'_>, mut take: impl FnMut(&[u8])) {
    for part in template.parts() {
        match part {
            Part::Text(text) => take(text.as_bytes()),
            Part::Body => take(message.body),
            Part::Timestamp => take(message.timestamp.to_string().as_bytes()),
            Part::Id => take(message.id.to_string().as_bytes()),
        }
    }
}

fn ascii(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("a signature and what stands before it are visible ASCII")
}

#[cfg(test)]
mod tests;
