//! What this service's metrics mean.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// Writes the help texts of all metrics, and starts those that an alert looks at with zero: an increase can only be seen
/// of a series that was there before.
pub fn describe() {
    describe_counter!(
        "intake_events_total",
        "Events taken out of the streams and stored, or found to be stored already."
    );
    describe_counter!(
        "quarantined_total",
        "Frames and events set aside because they cannot be read or stored."
    );
    describe_counter!(
        "deliveries_claimed_total",
        "Due deliveries claimed from the table."
    );
    describe_counter!("attempts_total", "Attempts by outcome.");
    describe_histogram!("attempt_duration_seconds", Unit::Seconds, "Time of one attempt.");
    describe_histogram!(
        "event_to_delivery_seconds",
        Unit::Seconds,
        "Time from an event's acceptance to its delivery, where the first attempt succeeded. Replays and recoveries \
         are not counted."
    );
    describe_counter!(
        "delivery_results_total",
        "Recorded attempts by what became of the delivery."
    );
    describe_counter!(
        "leases_lost_total",
        "Results that came after their lease had run out: duplicates. One that was written, and whose writing was not \
         confirmed because the connection broke, counts here and not in delivery_results_total."
    );
    describe_counter!(
        "circuits_opened_total",
        "Endpoints whose circuit was opened because they kept failing."
    );
    describe_counter!("endpoints_disabled_total", "Endpoints that were disabled.");
    describe_gauge!(
        "deliveries_in_flight",
        "Deliveries that this worker has started and not recorded."
    );
    describe_gauge!(
        "deliveries_due_for_seconds",
        Unit::Seconds,
        "How long the oldest due delivery has waited in the table, of endpoints that are enabled, closed in their \
         circuit and without a rate limit. Every worker sees the same table."
    );
    describe_gauge!(
        "days_kept_past_retention",
        "Days older than RETENTION that are kept because deliveries of them are still pending, as of the last hourly \
         look. Every worker sees the same table."
    );
    describe_counter!("task_panics_total", "Panics of short tasks.");
    describe_counter!(
        "log_lines_dropped_total",
        "Log lines that were not written because nobody reads them, or not in time."
    );
    describe_counter!(
        "http2_floods_total",
        "HTTP/2 connections closed because of too many frames that belong to no request."
    );
    for name in [
        "quarantined_total",
        "leases_lost_total",
        "circuits_opened_total",
        "endpoints_disabled_total",
        "log_lines_dropped_total",
        "http2_floods_total",
    ] {
        counter!(name).increment(0);
    }
}
