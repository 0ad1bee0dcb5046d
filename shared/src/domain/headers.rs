//! Request headers that an endpoint's owner adds to its webhooks. They may be credentials, so they are stored
//! encrypted and their Debug form shows only names.

use std::collections::BTreeMap;
use std::fmt;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::domain::id::EndpointId;
use crate::secret::{SecretError, SecretsKey};

/// Most headers of one endpoint.
pub const MAX_HEADERS: usize = 20;

/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 2_048;

/// Headers that make the message itself, or that others rely on.
const RESERVED: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "forwarded",
    "via",
    "traceparent",
    "tracestate",
];

/// What reserved names start with, too.
const RESERVED_PREFIXES: &[&str] = &["webhook-", "content-", "ce-", "proxy-", "x-forwarded-"];

/// Names and values, as their owner wrote them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomHeaders(BTreeMap<String, String>);

/// Headers to set, and names without a value to remove.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct HeaderChanges(BTreeMap<String, Option<String>>);

impl fmt::Debug for HeaderChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// What is wrong with a header.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// Too many.
    #[error("must not be more than {MAX_HEADERS} headers")]
    TooMany,
    /// Not a header name.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// One of those that the sender sets.
    #[error("{0:?} is reserved")]
    Reserved(String),
    /// The same name twice, in another case.
    #[error("{0:?} stands more than once")]
    Repeated(String),
    /// Not a header value.
    #[error("the value of {0:?} must be at most {MAX_VALUE_BYTES} bytes of visible ASCII, spaces and tabs")]
    Value(String),
}

impl CustomHeaders {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names, as their owner wrote them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Sets the headers that have a value and removes those that have none. A name may stand in another case than
    /// before.
    pub fn merge(&mut self, changes: HeaderChanges) {
        let is_changed = |name: &String| changes.0.keys().any(|changed| changed.eq_ignore_ascii_case(name));
        self.0.retain(|name, _| !is_changed(name));
        let set = changes
            .0
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        self.0.extend(set);
    }

    /// The headers, ready to be sent.
    ///
    /// # Errors
    /// [`HeaderError`] for the first one that cannot be sent.
    pub fn to_map(&self) -> Result<HeaderMap, HeaderError> {
        if self.0.len() > MAX_HEADERS {
            return Err(HeaderError::TooMany);
        }
        let mut map = HeaderMap::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            let parsed: HeaderName = name.parse().map_err(|_| HeaderError::Name(name.clone()))?;
            if is_reserved(&parsed) {
                return Err(HeaderError::Reserved(name.clone()));
            }
            let is_ascii = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
            let mut value = HeaderValue::from_str(without_blanks(value))
                .ok()
                .filter(|_| is_ascii && value.len() <= MAX_VALUE_BYTES)
                .ok_or_else(|| HeaderError::Value(name.clone()))?;
            value.set_sensitive(true);
            if map.insert(parsed, value).is_some() {
                return Err(HeaderError::Repeated(name.clone()));
            }
        }
        Ok(map)
    }

    /// Encrypts the headers for the database; `None` when there are none. They open for `endpoint` only.
    pub fn seal(&self, key: &SecretsKey, endpoint: EndpointId) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        Some(key.seal_json(self, &Self::context(endpoint)))
    }

    /// Reverses [`CustomHeaders::seal`].
    ///
    /// # Errors
    /// [`SecretError::Sealed`], [`SecretError::UnknownKey`].
    pub fn unseal(
        sealed: Option<&[u8]>,
        key: &SecretsKey,
        endpoint: EndpointId,
    ) -> Result<Self, SecretError> {
        let Some(sealed) = sealed else {
            return Ok(Self::default());
        };
        key.unseal_json(sealed, &Self::context(endpoint))
    }

    /// What they are sealed with: another context than the signing secret's, so that neither can stand in the other's
    /// place.
    pub fn context(endpoint: EndpointId) -> Vec<u8> {
        [endpoint.as_uuid().as_bytes().as_slice(), b"headers"].concat()
    }
}

/// A header's value without the white space around it, which HTTP/2 does not allow and which in HTTP/1 is no part of it.
pub fn without_blanks(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// Whether a header makes the message itself, or others rely on it, so that no owner of an endpoint may set it.
pub fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for CustomHeaders {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let owned = headers
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self(owned.collect())
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn error(name: &str, value: &str) -> HeaderError {
        CustomHeaders::from_iter([(name, value)]).to_map().unwrap_err()
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        for name in [
            "Webhook-Id",
            "content-type",
            "Content-Length",
            "Host",
            "TE",
            "ce-type",
            "Proxy-Authorization",
        ] {
            assert_eq!(error(name, "x"), HeaderError::Reserved(name.to_owned()));
        }
        assert_eq!(error("a b", "x"), HeaderError::Name("a b".to_owned()));
        assert_eq!(error("", "x"), HeaderError::Name(String::new()));
        for value in ["a\r\nb", "\0", "é", &"x".repeat(MAX_VALUE_BYTES + 1)] {
            assert_eq!(error("x-a", value), HeaderError::Value("x-a".to_owned()));
        }
        let twice = CustomHeaders::from_iter([("X-A", "1"), ("x-a", "2")]);
        assert!(matches!(twice.to_map(), Err(HeaderError::Repeated(_))));
        let many = (0..=MAX_HEADERS).map(|number| (format!("x-{number}"), "1"));
        let many: CustomHeaders = many.collect();
        assert_eq!(many.to_map(), Err(HeaderError::TooMany));
    }

    #[test]
    fn white_space_around_a_value_is_not_sent() {
        let headers = CustomHeaders::from_iter([("x-a", " \tone two \t"), ("x-b", " ")]);
        let map = headers.to_map().unwrap();
        assert_eq!(map["x-a"], "one two");
        assert_eq!(map["x-b"], "");
    }

    #[test]
    fn changes_set_and_remove_headers_whatever_the_case_of_their_names() {
        let mut headers = CustomHeaders::from_iter([("X-A", "1"), ("X-B", "2"), ("X-C", "3")]);
        headers.merge(serde_json::from_str(r#"{"x-a":"4","x-b":null,"X-D":"5"}"#).unwrap());
        let expected = [("x-a", "4"), ("X-C", "3"), ("X-D", "5")];
        assert_eq!(headers, CustomHeaders::from_iter(expected));
        headers.merge(serde_json::from_str(r#"{"X-E":"1","x-e":"2"}"#).unwrap());
        assert!(matches!(headers.to_map(), Err(HeaderError::Repeated(_))));
    }

    #[test]
    fn headers_open_for_their_endpoint_only_and_are_not_shown() {
        let key: SecretsKey = BASE64.encode(&[7; 32]).parse().unwrap();
        let (endpoint, other) = (EndpointId::generate(), EndpointId::generate());
        let headers = CustomHeaders::from_iter([("Authorization", "Bearer canary")]);
        let sealed = headers.seal(&key, endpoint);
        let open = |id| CustomHeaders::unseal(sealed.as_deref(), &key, id);
        assert_eq!(open(endpoint).unwrap(), headers);
        assert!(open(other).is_err());
        assert!(CustomHeaders::unseal(None, &key, other).unwrap().is_empty());
        assert_eq!(format!("{headers:?}"), r#"["Authorization"]"#);
        assert!(!format!("{:?}", headers.to_map().unwrap()).contains("canary"));
    }
}
