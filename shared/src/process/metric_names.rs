//! The help texts of the metrics that both services have.

use metrics::{Unit, counter, describe_counter, describe_gauge};

/// Writes their help texts, and starts those that an alert looks at with zero.
pub fn describe() {
    describe_counter!("penstock_task_panics_total", "Panics of short tasks.");
    describe_counter!(
        "penstock_log_lines_dropped_total",
        "Log lines that were not written because nobody reads them, or not in time."
    );
    describe_counter!(
        "penstock_log_lines_left_out_total",
        "Log lines of a kind that were beyond its limit of 20 a second."
    );
    describe_counter!(
        "penstock_trace_spans_sent_total",
        "Spans that the collector of traces has taken."
    );
    describe_counter!(
        "penstock_trace_spans_dropped_total",
        "Spans that nobody will see, by reason: queue_full (OTEL_BSP_MAX_QUEUE_SIZE), not_taken (by the collector), or stopped."
    );
    describe_counter!(
        "penstock_http2_floods_total",
        "HTTP/2 connections closed because of too many frames that belong to no request."
    );
    describe_gauge!(
        "penstock_dependency_up",
        "1 while this process reaches the dependency, else 0."
    );
    describe_gauge!(
        "penstock_deliveries_pending",
        "Pending deliveries by what keeps them: due (only the workers), paced (a rate limit), circuit_open, held (the receiver asked to \
         wait), waiting (due later, or in progress), ordered (behind another of their ordering key), pull (to be fetched), disabled \
         (the endpoint, or its tenant). 10000 stands for as many or more, and of 2000 endpoints at most. Every replica sees \
         the same table. Absent while it cannot be read."
    );
    describe_gauge!(
        "penstock_deliveries_due_for_seconds",
        Unit::Seconds,
        "How long the oldest delivery that only the workers keep back has been due. Every replica sees the same table. \
         Absent while it cannot be read."
    );
    describe_gauge!(
        "penstock_worker_backlog_deliveries",
        "How much waits for workers: events in the streams, and due deliveries that only workers keep back. Scale workers by \
         it. Every replica of both services shows the same. Of the table as many as penstock_deliveries_pending counts; of streams \
         with many frames an estimate. Absent while it cannot be known."
    );
    describe_gauge!(
        "penstock_worker_backlog_age_seconds",
        Unit::Seconds,
        "How long the oldest of penstock_worker_backlog_deliveries has waited."
    );
    describe_gauge!(
        "penstock_database_connections_in_use",
        "Connections to Postgres that are in use, by pool."
    );
    describe_gauge!(
        "penstock_database_connections_idle",
        "Connections to Postgres that are open and not in use, by pool."
    );
    describe_gauge!(
        "penstock_database_max_connections",
        "Most connections to Postgres, by pool."
    );
    describe_gauge!("penstock_build_info", "1, with the version of this build.");
    for name in ["penstock_log_lines_dropped_total", "penstock_http2_floods_total"] {
        counter!(name).increment(0);
    }
}
