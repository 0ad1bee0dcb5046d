//! A collector of traces: a real HTTP server on loopback that takes OTLP and writes down the spans that come.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::post;
use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::wait::until;

/// A span that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectedSpan {
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The id of the span before; empty for the first of a trace.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// Whether it says that it failed.
    pub has_failed: bool,
    /// What it tells, as text.
    pub attributes: BTreeMap<String, String>,
    /// What it tells of the process that it is of.
    pub resource: BTreeMap<String, String>,
}

/// A collector. It ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    _server: JoinSet<()>,
}

impl Collector {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let spans = Arc::<Mutex<Vec<CollectedSpan>>>::default();
        let collected = spans.clone();
        let collect = async move |headers: HeaderMap, body: Bytes| match read(&headers, &body) {
            Ok(spans) => {
                lock(&collected).extend(spans);
                (StatusCode::OK, [("content-type", "application/x-protobuf")]).into_response()
            }
            Err(refusal) => (StatusCode::BAD_REQUEST, refusal).into_response(),
        };
        let routes = Router::new().route("/v1/traces", post(collect));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let ended = axum::serve(listener, routes).await;
            ended.expect("accepting connections does not fail");
        });
        Self {
            address,
            spans,
            _server: server,
        }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have arrived.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        lock(&self.spans).clone()
    }

    /// Waits until at least `count` spans of a name have arrived, and returns all of that name.
    ///
    /// # Panics
    /// After [`DEADLINE`](crate::DEADLINE).
    pub async fn wait_for(&self, name: &str, count: usize) -> Vec<CollectedSpan> {
        until(&format!("{count} spans {name:?}"), async || {
            let mut spans = self.spans();
            spans.retain(|span| span.name == name);
            if spans.len() >= count {
                Ok(spans)
            } else {
                Err(format!("{:?}", self.spans()))
            }
        })
        .await
    }
}

/// The spans of a request.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Vec<CollectedSpan>, String> {
    let media_type = headers.get("content-type").map(axum::http::HeaderValue::as_bytes);
    if media_type != Some(b"application/x-protobuf".as_slice()) {
        return Err(format!("the media type is {media_type:?}"));
    }
    let request = ExportTraceServiceRequest::decode(body.clone());
    let request = request.map_err(|error| error.to_string())?;
    let mut collected = Vec::new();
    for of_process in request.resource_spans {
        let resource = attributes(of_process.resource.unwrap_or_default().attributes);
        let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
        collected.extend(spans.map(|span| collected_span(span, &resource)));
    }
    Ok(collected)
}

fn collected_span(span: Span, resource: &BTreeMap<String, String>) -> CollectedSpan {
    let status = span.status.unwrap_or_default();
    CollectedSpan {
        trace: HEXLOWER.encode(&span.trace_id),
        id: HEXLOWER.encode(&span.span_id),
        parent: HEXLOWER.encode(&span.parent_span_id),
        name: span.name,
        has_failed: status.code == SpanStatus::Error as i32,
        attributes: attributes(span.attributes),
        resource: resource.clone(),
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let attributes = attributes.into_iter().map(|attribute| {
        let value = attribute.value.and_then(|value| value.value);
        let text = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key, text)
    });
    attributes.collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("address", &self.address)
            .field("spans", &lock(&self.spans).len())
            .finish_non_exhaustive()
    }
}
