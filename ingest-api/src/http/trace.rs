//! The spans of requests that bring events: one of the request, and one of each event's way into its stream.

pub(crate) mod context;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, Response};
use pin_project_lite::pin_project;
use shared::domain::id::EventId;
use shared::traces::parent::TraceParent;
use shared::traces::span::Span;
use shared::traces::{SpanKind, Traces};
use tower::{Layer, Service};

use crate::http::request::event_headers::traceparent;
use crate::publish::Enqueued;
use crate::publish::error::PublishError;

/// The routes that take events, with the names of their spans.
const ROUTES: [(&str, &str); 4] = [
    ("/v1/events", "POST /v1/events"),
    ("/v1/events/batch", "POST /v1/events/batch"),
    ("/v1/endpoints/{id}/test", "POST /v1/endpoints/{id}/test"),
    ("/api/events", "POST /api/events"),
];

/// A request that is traced, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    /// The request's span; or its client's, when the sampler ends a trace here that its client records.
    pub span: TraceParent,
    traces: Traces,
}

impl Traced {
    /// Begins the span of an event's way into its stream.
    fn begin_publishing(&self, id: EventId) -> Option<Span> {
        let mut span = self
            .traces
            .begin(self.span, SpanKind::Producer, "publish event")?;
        span.set("penstock.event.id", id.to_string());
        span.set("messaging.system", "nats");
        Some(span)
    }
}

/// The span of an event's way into its stream, if it is recorded.
#[derive(Debug)]
pub(crate) struct Publishing(Option<Span>);

impl Publishing {
    /// Of an event of a request.
    pub(crate) fn begin(traced: Option<&Traced>, id: EventId) -> Self {
        Self(traced.and_then(|traced| traced.begin_publishing(id)))
    }

    /// Returns when the stream has the event on disk.
    ///
    /// # Errors
    /// [`PublishError`].
    pub(crate) async fn until_stored(mut self, enqueued: Enqueued) -> Result<(), PublishError> {
        let outcome = enqueued.stored().await;
        if let Some(mut span) = self.0.take() {
            if let Err(error) = outcome {
                span.set("error.type", error.code());
                span.fail(error.code());
            }
            span.end();
        }
        outcome
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        end_unanswered(&mut self.0);
    }
}

/// Ends the span of a request whose client has gone. Its events may be stored and delivered all the same, and their spans name this
/// one.
fn end_unanswered(span: &mut Option<Span>) {
    if let Some(mut span) = span.take() {
        span.fail("the client has gone");
        span.end();
    }
}

/// Records requests that bring events.
#[derive(Clone, Debug)]
pub(crate) struct TraceLayer(Traces);

impl TraceLayer {
    /// Where they are recorded.
    pub(crate) fn new(traces: Traces) -> Self {
        Self(traces)
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace {
            inner,
            traces: self.0.clone(),
        }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub(crate) struct Trace<S> {
    inner: S,
    traces: Traces,
}

impl<S> Trace<S> {
    /// Begins the span of a request, if it is recorded, and says to handlers what its events belong to.
    fn begin(&self, request: &mut Request) -> Option<Span> {
        if request.method() != Method::POST {
            return None;
        }
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let (route, name) = ROUTES.into_iter().find(|(route, _)| *route == path)?;
        let parent = traceparent(request.headers()).and_then(TraceParent::parse);
        let mut span = self.traces.begin_request(parent, name);
        let traced = match &span {
            Some(span) => Some(span.context()),
            // Otherwise workers would record what follows.
            None => parent
                .filter(|parent| parent.is_sampled())
                .map(TraceParent::not_sampled),
        };
        if let Some(traced) = traced {
            request.extensions_mut().insert(Traced {
                span: traced,
                traces: self.traces.clone(),
            });
        }
        if let Some(span) = &mut span {
            span.set("http.request.method", "POST");
            span.set("http.route", route);
        }
        span
    }
}

impl<S, B> Service<Request> for Trace<S>
where
    S: Service<Request, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Tracing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Tracing<S::Future> {
        Tracing {
            span: self.begin(&mut request),
            answer: self.inner.call(request),
        }
    }
}

pin_project! {
    /// Waits for the answer and ends the request's span.
    #[derive(Debug)]
    pub struct Tracing<F> {
        span: Option<Span>,
        #[pin]
        answer: F,
    }

    impl<F> PinnedDrop for Tracing<F> {
        fn drop(this: Pin<&mut Self>) {
            end_unanswered(this.project().span);
        }
    }
}

impl<F, B, E> Future for Tracing<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        if let Some(mut span) = this.span.take() {
            if let Ok(response) = &answer {
                let status = response.status();
                span.set("http.response.status_code", i64::from(status.as_u16()));
                if status.is_server_error() {
                    span.fail(status.canonical_reason().unwrap_or("server error"));
                }
            }
            span.end();
        }
        Poll::Ready(answer)
    }
}
