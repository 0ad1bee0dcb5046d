//! The headers that tell clients how much of their rate limit is left.

use std::io::Write as _;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::accounts::limit::WINDOW_NANOS;
use crate::limits::gcra::Decision;

const WINDOW_SECONDS: u64 = WINDOW_NANOS / 1_000_000_000;

/// The requests that the organisation, or its tenant, has left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The requests that the organisation, or its tenant, may make.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds the `RateLimit` and `RateLimit-Policy` headers (draft-ietf-httpapi-ratelimit-headers-10).
pub fn write(decision: &Decision, headers: &mut HeaderMap) {
    // The draft: a `Retry-After` of any reason must not be earlier than the end of `t`.
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let reset = decision.reset_seconds().min(retry_after.unwrap_or(u64::MAX));
    let (most, window) = (decision.limit.get(), WINDOW_SECONDS);
    let policy = header_value(format_args!("\"default\";q={most};w={window}"));
    let state = header_value(format_args!("\"default\";r={};t={reset}", decision.remaining));
    headers.insert(RATE_LIMIT_POLICY, policy);
    headers.insert(RATE_LIMIT, state);
}

/// A header of quotes and at most two numbers, with one allocation: every answer has two of them.
fn header_value(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut buffer = [0; 64];
    let mut rest = buffer.as_mut_slice();
    rest.write_fmt(text).expect("two numbers fit into 64 bytes");
    let left = rest.len();
    let written = &buffer[..buffer.len() - left];
    HeaderValue::from_bytes(written).expect("digits and quotes are header characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::accounts::limit::Limit;
    use crate::limits::gcra::gcra;

    #[test]
    fn the_time_in_the_header_is_never_later_than_retry_after() {
        let (_, decision) = gcra(0, 0, Limit::per_minute(60), 30);
        let text = |retry_after: Option<u64>| {
            let mut headers: HeaderMap = retry_after
                .map(|seconds| (RETRY_AFTER, seconds.into()))
                .into_iter()
                .collect();
            write(&decision, &mut headers);
            headers[RATE_LIMIT].to_str().unwrap().to_owned()
        };
        assert_eq!(text(None), r#""default";r=30;t=30"#);
        assert_eq!(text(Some(2)), r#""default";r=30;t=2"#);
        assert_eq!(text(Some(60)), r#""default";r=30;t=30"#);
    }
}
