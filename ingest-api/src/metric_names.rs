//! What this service's metrics mean.

use metrics::{Unit, describe_counter, describe_histogram};

/// Writes the help texts of all metrics.
pub fn describe() {
    describe_counter!("http_requests_total", "Requests by route, method and status.");
    describe_histogram!(
        "http_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's headers to its answer."
    );
    describe_counter!(
        "key_verifications_total",
        "API keys verified with argon2: not found in memory."
    );
    describe_histogram!("publish_frame_events", "Events in a published frame.");
    describe_histogram!(
        "publish_duration_seconds",
        Unit::Seconds,
        "Time until a frame was acknowledged."
    );
    describe_counter!(
        "publish_resends_total",
        "Frames sent again because their acknowledgement did not come."
    );
    describe_counter!("publish_refusals_total", "Events answered 503, by reason.");
    describe_counter!("task_panics_total", "Panics of short tasks.");
}
