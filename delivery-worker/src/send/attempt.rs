//! One attempt: the request as Standard Webhooks 1.0.0 describes it, and what the receiver's answer means.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use shared::domain::clock::UnixMicros;
use shared::domain::delivery::Outcome;
use shared::egress::EgressConfig;
use shared::traces::parent::TraceParent;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::retry::Verdict;
use crate::send::client::{Answer, Client, Outbound};
use crate::send::content::body::Outgoing;
use crate::send::content::headers::headers;
use crate::send::content::render::Renderer;
use crate::send::content::{Content, NoContent};
use crate::send::lookups::on_behalf_of;
use crate::send::retry_after::retry_after;
use crate::send::signing::credentials::NotSent;
use crate::send::signing::tokens::Fetcher;

/// Longest time for which a receiver that asks to wait is left alone. Then it gets a probe.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// How much of a receiver's answer is kept.
const MAX_RESPONSE_BYTES: usize = 4 * 1024;

/// How much is kept of what went wrong. Receivers have a part in it: the names in a certificate, what a `GOAWAY` says.
const MAX_ERROR_BYTES: usize = 1024;

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

    /// None: the delivery is put off before any request.
    pub(crate) fn not_made() -> Self {
        Self::begun(UnixMicros::now().to_date_time())
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

    /// How long the receiver wants no request at all: it has too much to do, and says when to come back. No failure.
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        let is_asked = matches!(self.status, Some(429 | 503));
        let wait = self.retry_after.filter(|wait| is_asked && !wait.is_zero());
        wait.map(|wait| wait.min(MAX_WAIT))
    }

    /// Whether it tells how well the receiver is: it was asked, and did not ask to wait.
    pub(crate) fn is_receivers(&self) -> bool {
        self.outcome.counts_for_health() && self.asked_wait().is_none()
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
    renderer: Renderer,
}

impl Sender {
    /// Sends with `client` to addresses that `egress` allows.
    pub(crate) fn new(client: Arc<Client>, egress: EgressConfig) -> Self {
        Self {
            client,
            egress,
            renderer: Renderer::default(),
        }
    }

    /// Makes one attempt, whose span is `span` when it is recorded. It ends at the endpoint's timeout, whatever the receiver
    /// does.
    pub(crate) async fn attempt(
        &self,
        event: &Arc<Outgoing>,
        endpoint: &Endpoint,
        span: Option<TraceParent>,
    ) -> Attempt {
        let started = Instant::now();
        let deadline = started + endpoint.timeout;
        let mut attempt = Attempt::not_made();
        match self.content(event, endpoint, deadline).await {
            Err(none) => attempt.fail_without_content(&none),
            Ok(content) => {
                let signed_at = content.rendered_at.unwrap_or(attempt.started_at);
                let outbound = Outbound {
                    url: &endpoint.url,
                    method: &endpoint.method,
                    headers: &|| headers(event, endpoint, &content, signed_at, span),
                    body: &content.body,
                    identity: None,
                };
                let owner = (endpoint.org_id, endpoint.tenant.clone());
                let sent = on_behalf_of(owner, self.send(endpoint, outbound, deadline));
                match tokio::time::timeout_at(deadline, sent).await {
                    Err(_) => attempt.fail(
                        Outcome::Timeout,
                        &format!("no answer within {:?}", endpoint.timeout),
                    ),
                    Ok(Err(not_sent)) => attempt.fail_to_send(&not_sent),
                    Ok(Ok(answer)) => attempt.read(answer, deadline).await,
                }
            }
        }
        attempt.duration = started.elapsed();
        attempt
    }

    /// What is sent, if anything may be.
    async fn content(
        &self,
        event: &Arc<Outgoing>,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Content, NoContent> {
        let allowed = self.egress.check_url(&endpoint.url);
        allowed.map_err(|refused| NoContent::Refused(refused.to_string()))?;
        match &endpoint.template {
            None => Content::of(event, endpoint),
            Some(template) => {
                let tenant = endpoint.tenant.as_ref();
                let rendering = Box::pin(self.renderer.render(event, tenant, template));
                let rendered = tokio::time::timeout_at(deadline, rendering).await;
                Content::rendered(rendered, template)
            }
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        outbound: Outbound<'_>,
        deadline: Instant,
    ) -> Result<Answer, NotSent> {
        let Some(credentials) = &endpoint.credentials else {
            return self.client.send(outbound).await.map_err(NotSent::Failed);
        };
        let fetcher = Fetcher {
            client: &self.client,
            egress: &self.egress,
            org_id: endpoint.org_id,
            tenant: endpoint.tenant.as_ref(),
        };
        Box::pin(credentials.send(&fetcher, outbound, deadline)).await
    }
}

impl Attempt {
    fn fail(&mut self, outcome: Outcome, error: &str) {
        self.outcome = outcome;
        let error = &error[..error.floor_char_boundary(MAX_ERROR_BYTES)];
        // Postgres text holds no NUL.
        self.error = Some(error.replace('\0', ""));
    }

    fn fail_without_content(&mut self, none: &NoContent) {
        self.fail(none.outcome(), &none.to_string());
        self.lack = none.lack();
    }

    fn fail_to_send(&mut self, not_sent: &NotSent) {
        self.fail(not_sent.outcome(), &not_sent.describe());
        self.lack = not_sent.lack();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<u64>) -> Option<Duration> {
        let attempt = Attempt {
            status: Some(status),
            outcome: Outcome::Status,
            retry_after: retry_after.map(Duration::from_secs),
            ..Attempt::not_made()
        };
        attempt.asked_wait()
    }

    #[test]
    fn a_long_error_is_kept_up_to_a_whole_character() {
        let mut attempt = Attempt::not_made();
        for (given, kept) in [("a", MAX_ERROR_BYTES), ("€", MAX_ERROR_BYTES - 1), ("\0", 0)] {
            attempt.fail(Outcome::Tls, &given.repeat(100_000));
            assert_eq!(attempt.error.as_ref().map(String::len), Some(kept), "{given:?}");
        }
    }

    #[test]
    fn only_a_429_or_503_with_a_time_asks_to_wait_and_for_an_hour_at_most() {
        for status in [429, 503] {
            assert_eq!(answered(status, Some(7)), Some(Duration::from_secs(7)));
            assert_eq!(answered(status, Some(u64::MAX)), Some(Duration::from_hours(1)));
            assert_eq!(answered(status, Some(0)), None);
            assert_eq!(answered(status, None), None);
        }
        for status in [200, 301, 408, 413, 500, 502, 504] {
            assert_eq!(answered(status, Some(7)), None, "{status}");
        }
    }
}
