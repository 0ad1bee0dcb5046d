//! Sending spans to the collector, in batches. Nobody waits for it: what does not fit in its queue, or cannot be sent, is
//! dropped and counted.

use std::time::Duration;

use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long the last spans may take to be sent.
pub(super) const LAST_SPANS_WITHIN: Duration = Duration::from_millis(1_500);

/// Takes spans out of their queue.
#[derive(Debug)]
pub(super) struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    otlp: opentelemetry_otlp::SpanExporter,
    /// How long a span waits for others.
    delay: Duration,
    /// Most spans in a batch.
    most: usize,
    gathered: Vec<SpanData>,
    /// Spans that are being sent.
    under_way: usize,
    is_failing: bool,
}

impl Exporter {
    /// Of the spans that come here.
    pub(super) fn new(
        spans: mpsc::Receiver<SpanData>,
        otlp: opentelemetry_otlp::SpanExporter,
        delay: Duration,
        most: usize,
    ) -> Self {
        Self {
            spans,
            otlp,
            delay,
            most,
            gathered: Vec::new(),
            under_way: 0,
            is_failing: false,
        }
    }

    /// Sends spans until the stop, and then those that are left for a moment.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_SPANS_WITHIN).await;
        };
        tokio::select! {
            () = self.send_all(&stop) => {}
            () = too_late => {}
        }
        count_dropped("stopped", self.gathered.len() + self.under_way + self.spans.len());
    }

    async fn send_all(&mut self, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.gather()).await.is_some() {
            self.send().await;
        }
        self.spans.close();
        while self.fill() {
            self.send().await;
        }
    }

    /// Waits until there is a batch. What was gathered stays when it is not waited for any more.
    async fn gather(&mut self) {
        if self.gathered.is_empty() && self.spans.recv_many(&mut self.gathered, self.most).await == 0 {
            // Nobody is left who could send one.
            return std::future::pending().await;
        }
        let until = Instant::now() + self.delay;
        while self.gathered.len() < self.most {
            let room = self.most - self.gathered.len();
            let receiving = self.spans.recv_many(&mut self.gathered, room);
            if !matches!(timeout_at(until, receiving).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Takes a batch out of a queue to which nothing is added; false when there is none.
    fn fill(&mut self) -> bool {
        while self.gathered.len() < self.most
            && let Ok(span) = self.spans.try_recv()
        {
            self.gathered.push(span);
        }
        !self.gathered.is_empty()
    }

    async fn send(&mut self) {
        let batch = std::mem::take(&mut self.gathered);
        self.under_way = batch.len();
        let sent = self.otlp.export(batch).await;
        let count = std::mem::take(&mut self.under_way);
        match sent {
            Ok(()) => {
                metrics::counter!("penstock_trace_spans_sent_total").increment(count as u64);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                count_dropped("not_taken", count);
                // One line until it takes some again.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "the collector does not take spans, dropping them");
                }
            }
        }
    }
}

/// Counts spans that nobody will see.
pub(super) fn count_dropped(reason: &'static str, count: usize) {
    metrics::counter!("penstock_trace_spans_dropped_total", "reason" => reason).increment(count as u64);
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use hyper::header::HeaderMap;
    use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};

    use super::*;
    use crate::traces::collector::Collector;

    #[tokio::test]
    async fn when_nobody_is_left_who_could_send_a_span_it_waits() {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let collector = Collector::new(&url, HeaderMap::new(), Duration::from_secs(1)).unwrap();
        let otlp = SpanExporter::builder().with_http().with_http_client(collector);
        let (spans, queue) = mpsc::channel(1);
        drop(spans);
        let mut exporter = Exporter::new(queue, otlp.build().unwrap(), Duration::ZERO, 1);
        assert!(exporter.gather().now_or_never().is_none());
    }
}
