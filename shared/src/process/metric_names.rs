//! The help texts of the metrics that both services have.

use metrics::{Unit, counter, describe_counter, describe_gauge};

/// Writes their help texts, and starts those that an alert looks at with zero.
pub fn describe() {
    describe_counter!("task_panics_total", "Panics of short tasks.");
    describe_counter!(
        "log_lines_dropped_total",
        "Log lines that were not written because nobody reads them, or not in time."
    );
    describe_counter!(
        "http2_floods_total",
        "HTTP/2 connections closed because of too many frames that belong to no request."
    );
    describe_gauge!(
        "dependency_up",
        "1 while this process reaches the dependency, else 0."
    );
    describe_gauge!(
        "deliveries_pending",
        "Pending deliveries by what keeps them: due (only the workers), paced (a rate limit), circuit_open, waiting (due \
         later, or in progress), ordered (behind another of their ordering key), pull (to be fetched), disabled. 10000 stands for as many \
         or more, and of 2000 endpoints at most. Every replica sees the same table. Absent while it cannot be read."
    );
    describe_gauge!(
        "deliveries_due_for_seconds",
        Unit::Seconds,
        "How long the oldest delivery that only the workers keep back has been due. Every replica sees the same table. \
         Absent while it cannot be read."
    );
    for name in ["log_lines_dropped_total", "http2_floods_total"] {
        counter!(name).increment(0);
    }
}
