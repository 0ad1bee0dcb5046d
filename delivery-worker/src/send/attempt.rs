//! One attempt: the request as Standard Webhooks 1.0.0 describes it, and what the receiver's answer means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use shared::domain::clock::UnixMicros;
use shared::domain::delivery::Outcome;
use shared::egress::EgressConfig;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::retry::Verdict;
use crate::send::body::Outgoing;
use crate::send::client::{Answer, Client, Failure, Outbound};
use crate::send::lookups::on_behalf_of;

/// How much of a receiver's answer is kept.
const MAX_RESPONSE_BYTES: usize = 4 * 1024;

/// One attempt and its result.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status.
    pub status: Option<u16>,
    /// The answer's first bytes.
    pub response: Vec<u8>,
    /// What went wrong before there was an answer.
    pub error: Option<String>,
    /// The resource that this worker lacked. Then no request was sent, and this is no attempt.
    pub lack: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Attempt {
    /// An attempt without a result.
    fn begun(started_at: OffsetDateTime) -> Self {
        Self {
            started_at,
            duration: Duration::ZERO,
            outcome: Outcome::Timeout,
            status: None,
            response: Vec::new(),
            error: None,
            lack: None,
            retry_after: None,
        }
    }

    /// An attempt that ended with a panic.
    pub(crate) fn panicked(started_at: OffsetDateTime, duration: Duration, message: &str) -> Self {
        let mut attempt = Self::begun(started_at);
        attempt.duration = duration;
        attempt.fail(Outcome::Panic, message);
        attempt
    }

    /// What the retry schedule needs to know.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.lack.is_some() {
            Verdict::NotTried
        } else if self.outcome == Outcome::Delivered {
            Verdict::Delivered
        } else {
            Verdict::Failed {
                retry_after: self.retry_after,
                overloaded: matches!(self.status, Some(429 | 502 | 504)),
            }
        }
    }

    /// Whether the receiver said that it is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }
}

/// Sends webhooks.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Arc<Client>,
    egress: EgressConfig,
}

impl Sender {
    /// Sends with `client` to addresses that `egress` allows.
    pub(crate) fn new(client: Arc<Client>, egress: EgressConfig) -> Self {
        Self { client, egress }
    }

    /// Makes one attempt. It ends at the endpoint's timeout, whatever the receiver does.
    pub(crate) async fn attempt(&self, event: &Outgoing, endpoint: &Endpoint) -> Attempt {
        let started_at = UnixMicros::now().to_date_time();
        let started = Instant::now();
        let deadline = started + endpoint.timeout;
        let mut attempt = Attempt::begun(started_at);
        if let Err(refused) = self.egress.check_url(&endpoint.url) {
            attempt.fail(Outcome::Refused, &refused.to_string());
        } else {
            let outbound = Outbound {
                url: &endpoint.url,
                headers: &|| headers(event, endpoint, started_at),
                body: event.body(endpoint.format, endpoint.names_tenant),
            };
            let sent = on_behalf_of(endpoint.org_id, self.client.send(outbound));
            match tokio::time::timeout_at(deadline, sent).await {
                Err(_) => attempt.fail(
                    Outcome::Timeout,
                    &format!("no answer within {:?}", endpoint.timeout),
                ),
                Ok(Err(failure)) => attempt.fail_to_send(&failure),
                Ok(Ok(answer)) => attempt.read(answer, deadline).await,
            }
        }
        attempt.duration = started.elapsed();
        attempt
    }
}

fn headers(event: &Outgoing, endpoint: &Endpoint, now: OffsetDateTime) -> HeaderMap {
    let timestamp = now.unix_timestamp();
    let body = event.body(endpoint.format, endpoint.names_tenant);
    // The owner's headers first: ours replace those of the same name.
    let mut headers = endpoint.headers.clone();
    let mut set = |name, value: String| {
        let value = HeaderValue::try_from(value).expect("what is set here is ASCII");
        headers.insert(HeaderName::from_static(name), value);
    };
    set("webhook-id", event.id.to_string());
    set("webhook-timestamp", timestamp.to_string());
    set(
        "webhook-signature",
        endpoint.signer.sign(event.id, timestamp, body),
    );
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(endpoint.format.content_type()),
    );
    let traceparent = event.traceparent.as_deref().map(HeaderValue::try_from);
    if let Some(Ok(traceparent)) = traceparent {
        headers.insert("traceparent", traceparent);
    }
    headers
}

impl Attempt {
    fn fail(&mut self, outcome: Outcome, error: &str) {
        self.outcome = outcome;
        // Postgres text holds no NUL.
        self.error = Some(error.replace('\0', ""));
    }

    fn fail_to_send(&mut self, failure: &Failure) {
        self.fail(failure.outcome(), &failure.describe());
        self.lack = failure.lack();
    }

    /// The status decides the outcome; the body is kept as far as it comes in time.
    async fn read(&mut self, mut answer: Answer, deadline: Instant) {
        let status = answer.status;
        self.status = Some(status.as_u16());
        self.outcome = if status.is_success() {
            Outcome::Delivered
        } else if status.is_redirection() {
            Outcome::Redirect
        } else {
            Outcome::Status
        };
        self.retry_after = retry_after(&answer.headers, self.started_at.into());
        while self.response.len() < MAX_RESPONSE_BYTES {
            let Some(body) = &mut answer.body else {
                return;
            };
            match tokio::time::timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    let chunk = frame.data_ref().map_or(&[][..], |data| data);
                    let room = MAX_RESPONSE_BYTES - self.response.len();
                    self.response.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Ok(None) => return answer.complete(),
                Ok(Some(Err(_))) | Err(_) => return,
            }
        }
        answer.cut();
    }
}

/// `Retry-After` in seconds, rounded up, or as an HTTP date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits(whole) && is_digits(part) {
        // A number that does not fit is the longest time there is.
        let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
        let rest = part.bytes().any(|digit| digit != b'0');
        return Some(Duration::from_secs(seconds.saturating_add(rest.into())));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 14 November 2023, 22:13:20 GMT.
    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn read(text: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(text.as_bytes()).ok()?)]);
        retry_after(&headers, SystemTime::UNIX_EPOCH + NOW)
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        for (text, seconds) in [("1.5", 2), ("0.001", 1), ("7.000", 7), ("0.0", 0)] {
            assert_eq!(read(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(
            read("Tue, 14 Nov 2023 22:15:20 GMT"),
            Some(Duration::from_secs(120))
        );
    }

    #[test]
    fn a_retry_after_that_says_nothing_is_ignored_and_a_huge_one_is_long() {
        for text in [
            "",
            "soon",
            "-5",
            "+5",
            "1.",
            ".5",
            "1.5.0",
            "1,5",
            "1e3",
            "0x10",
            "Tue, 14 Nov 2023 22:11:20 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        for text in [u64::MAX.to_string(), "9".repeat(100)] {
            assert_eq!(read(&text), Some(Duration::from_secs(u64::MAX)));
        }
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_hours(24));
    }

    proptest! {
        #[test]
        fn no_retry_after_panics(text in "[ -~]{0,40}") {
            let _ = read(&text);
        }
    }
}
