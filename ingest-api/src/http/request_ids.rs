//! Each request's id, and a log line for each that is refused or given up.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use data_encoding::HEXLOWER;
use shared::process::telemetry::line_limit::LineLimit;
use shared::secret::random_bytes;
use uuid::Uuid;

use crate::http::admission::admitted::Admitted;
use crate::http::error::{Cause, Reason};

/// Where an id comes and goes.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where probes ask whether this replica is ready.
const READYZ: &str = "/readyz";

/// Longest id that is taken from a client, in bytes.
const MAX_BYTES: usize = 128;

static REFUSED: LineLimit = LineLimit::new("refused requests");

/// The numbers of this replica's requests.
#[derive(Debug)]
pub(crate) struct Ids {
    replica: u64,
    last: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            replica: u64::from_le_bytes(random_bytes()),
            last: AtomicU64::new(0),
        }
    }
}

impl Ids {
    /// Takes the client's id when it is printable ASCII of a bounded length, or makes one: the replica's number and the
    /// request's.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_valid = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
        };
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        match (given.next().filter(is_valid), given.next()) {
            (Some(id), None) => id.clone(),
            _ => self.next(),
        }
    }

    fn next(&self) -> HeaderValue {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let id = (u128::from(self.replica) << 64) | u128::from(number);
        let mut text = [0; 32];
        HEXLOWER.encode_mut(&id.to_be_bytes(), &mut text);
        HeaderValue::from_bytes(&text).expect("digits are ASCII")
    }
}

/// Whether a probe is told that this replica is not ready. Probes ask every few seconds; the change itself is logged.
fn is_probes_answer(route: Option<&str>, status: StatusCode) -> bool {
    route == Some(READYZ) && status == StatusCode::SERVICE_UNAVAILABLE
}

/// Logs a refusal. A cause that only we may know is always logged; the refusals of others within a limit.
pub(crate) fn log_refusal<B>(
    id: &HeaderValue,
    method: &Method,
    route: Option<&str>,
    path: &str,
    response: &Response<B>,
) {
    if is_probes_answer(route, response.status()) {
        return;
    }
    let id = id.to_str().unwrap_or_default();
    let extensions = response.extensions();
    if let Some(Cause(cause)) = extensions.get::<Cause>() {
        tracing::error!(request_id = id, error = cause.as_str(), "a request failed");
    }
    let Some(left_out) = REFUSED.pass() else { return };
    let admitted = extensions.get::<Admitted>();
    let realm = admitted.map(Admitted::realm);
    tracing::info!(
        request_id = id,
        status = response.status().as_u16(),
        method = method.as_str(),
        path = shown(route, path),
        organization_id = realm.map(|realm| tracing::field::display(realm.org_id)),
        tenant = realm.and_then(|realm| realm.tenant()),
        key_id = admitted.map(|admitted| tracing::field::display(admitted.key_id())),
        reason = extensions.get::<Reason>().map(|reason| &*reason.0),
        left_out,
        "refused a request"
    );
}

/// Logs, within the limit of refusals, that a client has gone before it had an answer. What it asked for may have been done.
pub(crate) fn log_client_gone(id: &HeaderValue, method: &Method, route: Option<&str>, path: &str) {
    let Some(left_out) = REFUSED.pass() else { return };
    tracing::info!(
        request_id = id.to_str().unwrap_or_default(),
        method = method.as_str(),
        path = shown(route, path),
        left_out,
        "a client has gone before it had an answer"
    );
}

/// A path with the ids of its things. What else stands in the place of one may be a secret or a name, and is not shown; nor is
/// a path that is not ours.
fn shown(route: Option<&str>, path: &str) -> String {
    let Some(route) = route else {
        return "unknown".to_owned();
    };
    let parts = route.split('/').zip(path.split('/'));
    let parts = parts.map(|(pattern, part)| {
        let is_id = pattern.starts_with('{') && Uuid::try_parse(part).is_ok();
        if is_id { part } else { pattern }
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_with_ids_and_nothing_else_that_a_client_wrote() {
        let id = "01a22773-ad3a-7c0d-9ec0-96168066d58b";
        let route = Some("/v1/endpoints/{id}/recoveries/{recovery_id}");
        assert_eq!(
            shown(route, &format!("/v1/endpoints/{id}/recoveries/secret")),
            format!("/v1/endpoints/{id}/recoveries/{{recovery_id}}")
        );
        assert_eq!(shown(Some("/v1/events"), "/v1/events"), "/v1/events");
        assert_eq!(shown(None, "/secret"), "unknown");
    }

    #[test]
    fn only_a_short_printable_id_is_taken() {
        let ids = Ids {
            replica: 0xab,
            last: AtomicU64::new(7),
        };
        let of = |values: &[&[u8]]| {
            let values = values.iter().map(|value| HeaderValue::from_bytes(value).unwrap());
            let headers: HeaderMap = values.map(|value| (X_REQUEST_ID, value)).collect();
            ids.of(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(of(&[b"abc 1~"]), "abc 1~");
        assert_eq!(of(&["x".repeat(MAX_BYTES).as_bytes()]), "x".repeat(MAX_BYTES));
        let made = [
            of(&[]),
            of(&[b""]),
            of(&["x".repeat(MAX_BYTES + 1).as_bytes()]),
            of(&[b"a\tb"]),
            of(&["é".as_bytes()]),
            of(&[b"a", b"b"]),
        ];
        for (number, id) in (7..).zip(made) {
            assert_eq!(id, format!("00000000000000ab{number:016x}"));
        }
    }
}
