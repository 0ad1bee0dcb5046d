//! One attempt: the request as Standard Webhooks 1.0.0 describes it, and what the receiver's answer means.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use data_encoding::BASE64;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use shared::clock::UnixMicros;
use shared::egress::{EgressConfig, Refused};
use shared::id::{EventId, OrgId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::retry::Verdict;

/// How much of a receiver's answer is kept.
const MAX_RESPONSE_BYTES: usize = 4 * 1024;

/// An event in the form in which receivers get it.
#[derive(Debug)]
pub struct Outgoing {
    /// The event's id: `webhook-id`.
    pub id: EventId,
    /// The organisation whose event it is.
    pub org_id: OrgId,
    /// When it was accepted.
    pub accepted_at: UnixMicros,
    /// W3C trace context to pass on.
    pub traceparent: Option<String>,
    body: Bytes,
}

impl Outgoing {
    /// Renders `{"id","type","timestamp","data"}`; `data` goes in byte for byte. A payload that is not JSON
    /// goes in as `"content_type","data_base64"` instead.
    pub fn new(event: &EventFields<'_>) -> Self {
        #[derive(Serialize)]
        struct Envelope<'a> {
            id: EventId,
            r#type: &'a str,
            timestamp: String,
        }
        let accepted = event.accepted_at.to_date_time();
        let timestamp = accepted
            .format(&Rfc3339)
            .expect("`to_date_time` stays within the years of RFC 3339");
        let envelope = Envelope {
            id: event.id,
            r#type: event.event_type,
            timestamp,
        };
        let mut body = Vec::with_capacity(event.data.len() + event.event_type.len() + 128);
        serde_json::to_writer(&mut body, &envelope).expect("strings can be written to a Vec as JSON");
        body.pop();
        if shared::event::is_json(event.content_type) {
            body.extend_from_slice(b",\"data\":");
            body.extend_from_slice(event.data);
        } else {
            body.extend_from_slice(b",\"content_type\":");
            serde_json::to_writer(&mut body, event.content_type).expect("a string can be written as JSON");
            body.extend_from_slice(b",\"data_base64\":\"");
            body.extend_from_slice(BASE64.encode(event.data).as_bytes());
            body.push(b'"');
        }
        body.push(b'}');
        Self {
            id: event.id,
            org_id: event.org_id,
            accepted_at: event.accepted_at,
            traceparent: event.traceparent.map(str::to_owned),
            body: body.into(),
        }
    }
}

/// What an [`Outgoing`] is made of, from a stream or from the table.
#[derive(Clone, Copy, Debug)]
pub struct EventFields<'a> {
    /// The event's id.
    pub id: EventId,
    /// The organisation whose event it is.
    pub org_id: OrgId,
    /// Its type.
    pub event_type: &'a str,
    /// When it was accepted.
    pub accepted_at: UnixMicros,
    /// Media type of its payload.
    pub content_type: &'a str,
    /// W3C trace context of the request that brought it.
    pub traceparent: Option<&'a str>,
    /// Its payload.
    pub data: &'a [u8],
}

/// What became of one attempt.
#[derive(Debug)]
pub struct Attempt {
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// `delivered`, or the class of the failure.
    pub outcome: &'static str,
    /// The answer's status.
    pub status: Option<u16>,
    /// The answer's first bytes.
    pub response: Vec<u8>,
    /// What went wrong before there was an answer.
    pub error: Option<String>,
    retry_after: Option<Duration>,
}

impl Attempt {
    /// What the retry schedule needs to know.
    pub fn verdict(&self) -> Verdict {
        if self.outcome == "delivered" {
            Verdict::Delivered
        } else {
            Verdict::Failed {
                retry_after: self.retry_after,
            }
        }
    }

    /// The receiver said that it is gone for good.
    pub fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }
}

/// Sends webhooks.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    egress: EgressConfig,
}

impl Sender {
    /// With the client of [`crate::egress::client`].
    pub fn new(client: Client, egress: EgressConfig) -> Self {
        Self { client, egress }
    }

    /// Makes one attempt. It ends at the endpoint's timeout, whatever the receiver does.
    pub async fn attempt(&self, event: &Outgoing, endpoint: &Endpoint) -> Attempt {
        let started_at = UnixMicros::now().to_date_time();
        let started = Instant::now();
        let deadline = started + endpoint.timeout;
        let mut attempt = Attempt {
            started_at,
            duration: Duration::ZERO,
            outcome: "timeout",
            status: None,
            response: Vec::new(),
            error: None,
            retry_after: None,
        };
        if let Err(refused) = self.egress.check_url(&endpoint.url) {
            attempt.fail("refused", &refused.to_string());
        } else {
            let sent = self.request(event, endpoint, started_at).send();
            match tokio::time::timeout_at(deadline, sent).await {
                Err(_) => attempt.fail("timeout", &format!("no answer within {:?}", endpoint.timeout)),
                Ok(Err(error)) => attempt.fail(classify(&error), &describe(&error)),
                Ok(Ok(response)) => attempt.read(response, deadline).await,
            }
        }
        attempt.duration = started.elapsed();
        attempt
    }

    fn request(&self, event: &Outgoing, endpoint: &Endpoint, now: OffsetDateTime) -> RequestBuilder {
        let timestamp = now.unix_timestamp();
        let mut request = self
            .client
            .post(endpoint.url.clone())
            .header(CONTENT_TYPE, shared::event::JSON)
            .header("webhook-id", event.id.to_string())
            .header("webhook-timestamp", timestamp)
            .header(
                "webhook-signature",
                endpoint.signer.sign(event.id, timestamp, &event.body),
            );
        if let Some(traceparent) = &event.traceparent {
            request = request.header("traceparent", traceparent);
        }
        request.body(event.body.clone())
    }
}

impl Attempt {
    fn fail(&mut self, outcome: &'static str, error: &str) {
        self.outcome = outcome;
        // Postgres text holds no NUL.
        self.error = Some(error.replace('\0', ""));
    }

    /// The status decides; the body is kept as far as it comes in time.
    async fn read(&mut self, mut response: Response, deadline: Instant) {
        let status = response.status();
        self.status = Some(status.as_u16());
        self.outcome = if status.is_success() {
            "delivered"
        } else {
            "status"
        };
        self.retry_after = retry_after(response.headers(), self.started_at.into());
        while self.response.len() < MAX_RESPONSE_BYTES {
            match tokio::time::timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    let room = MAX_RESPONSE_BYTES - self.response.len();
                    self.response.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
    }
}

/// `Retry-After` as seconds or as an HTTP date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

fn classify(error: &reqwest::Error) -> &'static str {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<Refused>() {
            return "refused";
        }
        source = cause.source();
    }
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        "network"
    }
}

/// The chain of causes, without the URL, which may hold the receiver's own secrets.
fn describe(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields<'a>(event_type: &'a str, data: &'a [u8]) -> EventFields<'a> {
        EventFields {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            org_id: OrgId::generate(),
            event_type,
            accepted_at: UnixMicros::new(1_700_000_000_123_456),
            content_type: shared::event::JSON,
            traceparent: None,
            data,
        }
    }

    #[test]
    fn a_payload_that_is_not_json_goes_out_in_base64() {
        let outgoing = Outgoing::new(&EventFields {
            content_type: "text/plain",
            ..fields("note", b"hi \xff")
        });
        insta::assert_snapshot!(
            String::from_utf8(outgoing.body.to_vec()).unwrap(),
            @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"note","timestamp":"2023-11-14T22:13:20.123456Z","content_type":"text/plain","data_base64":"aGkg/w=="}"#
        );
    }

    #[test]
    fn a_body_is_the_envelope_around_the_producers_bytes() {
        let outgoing = Outgoing::new(&fields("order.created", br#"{"n":1e400,  "s":"\u0000"}"#));
        insta::assert_snapshot!(
            String::from_utf8(outgoing.body.to_vec()).unwrap(),
            @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"order.created","timestamp":"2023-11-14T22:13:20.123456Z","data":{"n":1e400,  "s":"\u0000"}}"#
        );
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read =
            |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("Tue, 14 Nov 2023 22:15:20 GMT"),
            Some(Duration::from_secs(120))
        );
        assert_eq!(read("Tue, 14 Nov 2023 22:11:20 GMT"), None);
        assert_eq!(read("soon"), None);
    }

    proptest! {
        #[test]
        fn every_body_is_json_whatever_the_type(event_type in ".{1,40}") {
            let outgoing = Outgoing::new(&fields(&event_type, b"[1]"));
            let body: serde_json::Value = serde_json::from_slice(&outgoing.body).unwrap();
            prop_assert_eq!(body["type"].as_str(), Some(event_type.as_str()));
        }
    }
}
