//! Traces: what became of one event, from its producer to its receivers, as spans of one trace.
//!
//! A span is made only when it is recorded, so what is not traced costs a look at an `Option`. `traceparent` carries a trace
//! through frames and tables: an attempt names the span that accepted its event, however late and whichever worker makes
//! it. Spans are sent by OTLP over HTTP; the collector is never waited for.
//!
//! Imports `domain` and `process`.

pub mod parent;
pub mod sampler;
pub mod config;
pub mod span;
mod collector;
mod exporter;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::InstrumentationScope;
pub use opentelemetry::trace::SpanKind;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::domain::clock::UnixMicros;
use crate::process::shutdown::Tasks;
use crate::traces::collector::Collector;
use crate::traces::config::TracesConfig;
use crate::traces::exporter::{Exporter, LAST_SPANS_WITHIN, count_dropped};
use crate::traces::parent::TraceParent;
use crate::traces::sampler::Sampler;
use crate::traces::span::Span;

/// How long the task of [`Traces::start`] takes at most to end after its stop.
pub const ENDS_WITHIN: Duration = LAST_SPANS_WITHIN.saturating_add(Duration::from_millis(250));

/// Records spans. Clones are the same.
#[derive(Clone)]
pub struct Traces(Arc<Inner>);

struct Inner {
    sampler: Sampler,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    spans: mpsc::Sender<SpanData>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Traces {
    /// Starts to send spans, as a task of `tasks` until their stop. `None` when the settings name no collector.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn start(
        config: &TracesConfig,
        service: &'static str,
        sampler: Sampler,
        tasks: &Tasks,
    ) -> anyhow::Result<Option<Self>> {
        let Some(target) = config.target() else {
            return Ok(None);
        };
        TracesConfig::warn_of_others();
        let timeout = config.timeout();
        let mut otlp = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(&target, config.headers(), timeout)?)
            .with_endpoint(target.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .build()
            .context("cannot send traces")?;
        otlp.set_resource(&config.resource(service));
        let most = config.otel_bsp_max_export_batch_size as usize;
        let (spans, queue) = mpsc::channel(config.otel_bsp_max_queue_size as usize);
        let delay = Duration::from_millis(config.otel_bsp_schedule_delay.into());
        let exporter = Exporter::new(queue, otlp, delay, most);
        tasks.spawn("traces", exporter.run(tasks.stop().clone()));
        let scope = InstrumentationScope::builder("penstock");
        let scope = scope.with_version(env!("CARGO_PKG_VERSION")).build();
        tracing::info!(collector = target.host_str(), "traces are recorded");
        Ok(Some(Self(Arc::new(Inner {
            sampler,
            ids: RandomIdGenerator::default(),
            scope,
            spans,
        }))))
    }

    /// Begins the span of a request, in the trace of `parent` or in a new one; `None` when it is not recorded.
    pub fn begin_request(&self, parent: Option<TraceParent>, name: &'static str) -> Option<Span> {
        let ids = &self.0.ids;
        let trace = parent.map_or_else(|| ids.new_trace_id(), |parent| parent.trace);
        if !self.0.sampler.keeps(parent, trace) {
            return None;
        }
        let context = TraceParent::sampled(trace, ids.new_span_id());
        let now = UnixMicros::now();
        Some(Span::begin(self, context, parent, SpanKind::Server, name, now))
    }

    /// Begins a span in the trace of `parent`; `None` when that is not recorded.
    pub fn begin(&self, parent: TraceParent, kind: SpanKind, name: &'static str) -> Option<Span> {
        self.begin_at(parent, kind, name, UnixMicros::now())
    }

    /// The same at a time that is over.
    pub fn begin_at(
        &self,
        parent: TraceParent,
        kind: SpanKind,
        name: &'static str,
        at: UnixMicros,
    ) -> Option<Span> {
        if !parent.is_sampled() {
            return None;
        }
        let context = TraceParent::sampled(parent.trace, self.0.ids.new_span_id());
        Some(Span::begin(self, context, Some(parent), kind, name, at))
    }

    fn scope(&self) -> InstrumentationScope {
        self.0.scope.clone()
    }

    fn record(&self, span: SpanData) {
        match self.0.spans.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => count_dropped("queue_full", 1),
            Err(TrySendError::Closed(_)) => count_dropped("stopped", 1),
        }
    }
}
