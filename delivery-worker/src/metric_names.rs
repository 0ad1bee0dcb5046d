//! What this service's metrics mean.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// Writes the help texts of all metrics, and starts those that an alert looks at with zero: an increase can only be seen
/// of a series that was there before.
pub(crate) fn describe() {
    shared::process::metric_names::describe();
    describe_counter!(
        "intake_events_total",
        "Events taken out of the streams and stored, or found to be stored already."
    );
    describe_counter!(
        "tenant_events_without_endpoint_total",
        "Events of tenants that had no enabled endpoint of their own: unknown, disabled, or without one."
    );
    describe_counter!(
        "quarantined_total",
        "Frames and events set aside because they cannot be read or stored."
    );
    describe_counter!(
        "filters_undecided_total",
        "Deliveries that are dead because the payload filters of their event would have taken more than FILTER_STEPS."
    );
    describe_counter!(
        "deliveries_claimed_total",
        "Due deliveries claimed from the table."
    );
    describe_counter!("attempts_total", "Attempts by outcome.");
    describe_counter!(
        "deliveries_put_off_total",
        "Deliveries that were not tried and wait a moment, by what the worker was short of: descriptors, memory, ports or \
         lookups (its name server does not answer, or too many look-ups are not done)."
    );
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
        "days_kept_past_retention",
        "Days older than RETENTION that are kept because deliveries of them are still pending, as of the last hourly \
         look. Every worker sees the same table."
    );
    for name in [
        "quarantined_total",
        "filters_undecided_total",
        "leases_lost_total",
        "circuits_opened_total",
        "endpoints_disabled_total",
    ] {
        counter!(name).increment(0);
    }
}
