//! A session of the console: the credential that was pasted, sealed in a cookie. Nothing is kept on a replica, and every
//! request passes the same checks as one with the credential itself, so a session ends with its key.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::secret::SecretsKey;
use zeroize::Zeroizing;

use crate::domain::access::session::SessionId;

/// The cookie. Browsers take one of such a name only from its own host, for all paths, and over TLS (or from this machine):
/// no other host of the domain can plant a session.
pub(super) const COOKIE_NAME: &str = "__Host-penstock";

/// What a session is sealed for.
const CONTEXT: &[u8] = b"penstock 2026 session of the console";

/// A session ends after this long without a request.
pub(super) const IDLE_SECONDS: i64 = 12 * 3_600;

/// A session ends after this long, however it is used.
pub(super) const LONGEST_SECONDS: i64 = 7 * 86_400;

/// The cookie is written anew when the last time was this long ago.
const RENEW_SECONDS: i64 = 300;

/// A session of the console.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    pub id: SessionId,
    credential: String,
    /// When the credential was pasted.
    pub signed_in_at: UnixMicros,
    /// When the cookie was written.
    pub seen_at: UnixMicros,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.id)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(Zeroizing::new(std::mem::take(&mut self.credential)));
    }
}

impl Session {
    /// A new session, whatever cookie the browser had.
    pub(super) fn begin(credential: String, now: UnixMicros) -> Self {
        Self {
            id: SessionId::generate(),
            credential,
            signed_in_at: now,
            seen_at: now,
        }
    }

    /// What was pasted.
    pub(super) fn credential(&self) -> &str {
        &self.credential
    }

    /// Whether the cookie should be written anew.
    pub(super) fn is_to_be_renewed(&self, now: UnixMicros) -> bool {
        now.get() - self.seen_at.get() >= RENEW_SECONDS * 1_000_000
    }

    /// The same session, seen now.
    pub(super) fn seen(&self, now: UnixMicros) -> Self {
        let mut session = self.clone();
        session.seen_at = now;
        session
    }

    /// When the session ends if no further request comes.
    pub(super) fn ends_at(&self) -> UnixMicros {
        let idle = self.seen_at.get() + IDLE_SECONDS * 1_000_000;
        let longest = self.signed_in_at.get() + LONGEST_SECONDS * 1_000_000;
        UnixMicros::new(idle.min(longest))
    }

    /// The `Set-Cookie` that carries it.
    pub(super) fn cookie(&self, key: &SecretsKey) -> String {
        let plain = Zeroizing::new(rmp_serde::to_vec_named(self).expect("plain fields can be written"));
        let sealed = BASE64URL_NOPAD.encode(&key.seal(&plain, CONTEXT));
        format!("{COOKIE_NAME}={sealed}; Path=/; Max-Age={IDLE_SECONDS}; HttpOnly; Secure; SameSite=Strict")
    }

    /// The session of a request's cookie, if its time is not over.
    pub(super) fn open(headers: &HeaderMap, key: &SecretsKey, now: UnixMicros) -> Option<Self> {
        let sealed = BASE64URL_NOPAD.decode(cookie(headers)?.as_bytes()).ok()?;
        let plain = key.unseal(&sealed, CONTEXT).ok()?;
        let session: Self = rmp_serde::from_slice(&plain).ok()?;
        (session.ends_at() > now).then_some(session)
    }
}

/// The `Set-Cookie` that removes the session's cookie.
pub(super) fn no_cookie() -> String {
    format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use data_encoding::BASE64;

    use super::*;

    fn key(byte: u8) -> SecretsKey {
        BASE64.encode(&[byte; 32]).parse().unwrap()
    }

    fn sent(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        let value = format!("other=1; {pair}");
        HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(value).unwrap())])
    }

    #[test]
    fn a_session_opens_until_it_was_idle_or_lasted_too_long() {
        let now = UnixMicros::now();
        let later = |seconds: i64| UnixMicros::new(now.get() + seconds * 1_000_000);
        let session = Session::begin("pk_live_x".to_owned(), now);
        let cookie = session.cookie(&key(1));
        assert!(!cookie.contains("pk_live"), "{cookie}");
        let opened = Session::open(&sent(&cookie), &key(1), later(IDLE_SECONDS - 1)).unwrap();
        assert_eq!((opened.id, opened.credential()), (session.id, "pk_live_x"));
        assert!(Session::open(&sent(&cookie), &key(1), later(IDLE_SECONDS)).is_none());
        assert!(Session::open(&sent(&cookie), &key(2), now).is_none());
        assert!(Session::open(&sent("__Host-penstock=AAAA"), &key(1), now).is_none());
        assert!(!session.is_to_be_renewed(later(RENEW_SECONDS - 1)));
        assert!(session.is_to_be_renewed(later(RENEW_SECONDS)));
        let seen = session.seen(later(LONGEST_SECONDS - 60));
        assert_eq!(seen.ends_at(), later(LONGEST_SECONDS));
        assert_eq!(format!("{session:?}"), format!("Session({})", session.id));
    }
}
