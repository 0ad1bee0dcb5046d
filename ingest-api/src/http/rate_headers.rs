//! The headers that tell clients how much of their rate limit is left.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use itoa::Buffer;

use crate::domain::limit::WINDOW_NANOS;
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
    let [mut requests, mut seconds] = [Buffer::new(); 2];
    let most = requests.format(decision.limit.get());
    let policy = header_value(["\"default\";q=", most, ";w=", seconds.format(WINDOW_SECONDS)]);
    let left = requests.format(decision.remaining);
    let state = header_value(["\"default\";r=", left, ";t=", seconds.format(reset)]);
    headers.insert(RATE_LIMIT_POLICY, policy);
    headers.insert(RATE_LIMIT, state);
}

/// A header, with one allocation and without formatting: every answer has two of them.
fn header_value(parts: [&str; 4]) -> HeaderValue {
    HeaderValue::try_from(parts.concat()).expect("digits and quotes are header characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::Limit;
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
