//! What this service's metrics mean.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// Writes the help texts of all metrics, and starts those that an alert looks at with zero: an increase can only be seen
/// of a series that was there before.
pub(crate) fn describe() {
    shared::process::metric_names::describe();
    describe_counter!(
        "penstock_intake_events_total",
        "Events taken out of the streams and stored, or found to be stored already."
    );
    describe_counter!(
        "penstock_tenant_events_without_endpoint_total",
        "Events of tenants that had no enabled endpoint of their own: unknown, disabled, or without one."
    );
    describe_counter!(
        "penstock_quarantined_total",
        "Frames and events set aside because they cannot be read or stored."
    );
    describe_counter!(
        "penstock_filters_undecided_total",
        "Deliveries that are dead because the payload filters of their event would have taken more than FILTER_STEPS."
    );
    describe_counter!(
        "penstock_deliveries_claimed_total",
        "Due deliveries claimed from the table."
    );
    describe_counter!("penstock_attempts_total", "Attempts by outcome.");
    describe_counter!(
        "penstock_deliveries_put_off_total",
        "Deliveries that were not tried and wait a moment, by what the worker was short of: descriptors, memory, ports, \
         lookups (its name server does not answer, or too many look-ups are not done), renders (turns at rendering \
         templates) or its proxy."
    );
    describe_histogram!(
        "penstock_attempt_duration_seconds",
        Unit::Seconds,
        "Time of one attempt."
    );
    describe_histogram!(
        "penstock_event_to_delivery_seconds",
        Unit::Seconds,
        "Time from an event's acceptance to its delivery, where the first attempt succeeded. Replays and recoveries \
         are not counted."
    );
    describe_counter!(
        "penstock_delivery_results_total",
        "Recorded attempts by what became of the delivery."
    );
    describe_counter!(
        "penstock_leases_lost_total",
        "Results that came after their lease had run out: duplicates. One that was written, and whose writing was not \
         confirmed because the connection broke, counts here and not in penstock_delivery_results_total."
    );
    describe_counter!(
        "penstock_circuits_opened_total",
        "Endpoints whose circuit was opened because they kept failing."
    );
    describe_counter!(
        "penstock_endpoints_disabled_total",
        "Endpoints that were disabled."
    );
    describe_counter!(
        "penstock_endpoints_disabling_soon_total",
        "Endpoints that had failed for half of DISABLE_AFTER, once for all failures since their last success."
    );
    describe_gauge!(
        "penstock_deliveries_in_flight",
        "Deliveries that this worker has started and not recorded."
    );
    describe_gauge!(
        "penstock_deliveries_in_flight_max",
        "MAX_IN_FLIGHT, or what the descriptors allow: the most of penstock_deliveries_in_flight."
    );
    describe_gauge!(
        "penstock_partitions_kept_past_retention",
        "Days older than RETENTION that are kept because deliveries of them are still pending, as of the last hourly \
         look. Every worker sees the same table."
    );
    describe_usage();
    for name in [
        "penstock_quarantined_total",
        "penstock_filters_undecided_total",
        "penstock_leases_lost_total",
        "penstock_circuits_opened_total",
        "penstock_endpoints_disabled_total",
        "penstock_endpoints_disabling_soon_total",
    ] {
        counter!(name).increment(0);
    }
}

/// Counting, and quotas.
fn describe_usage() {
    describe_gauge!(
        "penstock_usage_behind_seconds",
        Unit::Seconds,
        "Time since the end of the last hour whose usage is counted. Every worker reads the same."
    );
    describe_counter!(
        "penstock_quotas_reached_total",
        "Quotas of organisations and tenants of which that many percent were reached."
    );
    for percent in ["80", "100"] {
        counter!("penstock_quotas_reached_total", "percent" => percent).increment(0);
    }
}
