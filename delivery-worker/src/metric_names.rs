//! What this service's metrics mean.

use metrics::{Unit, describe_counter, describe_histogram};

/// Writes the help texts of all metrics.
pub fn describe() {
    describe_counter!(
        "intake_events_total",
        "Events taken out of the streams, repeats included."
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
        "Time from an event's acceptance to its delivery, where the first attempt succeeded."
    );
    describe_counter!(
        "delivery_results_total",
        "Recorded attempts by what became of the delivery."
    );
    describe_counter!(
        "leases_lost_total",
        "Results that came after their lease had run out: duplicates."
    );
    describe_counter!(
        "circuits_opened_total",
        "Endpoints whose circuit was opened because they kept failing."
    );
    describe_counter!("endpoints_disabled_total", "Endpoints that were disabled.");
    describe_counter!("task_panics_total", "Panics of short tasks.");
}
