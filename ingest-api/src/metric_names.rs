//! The help texts of this service's metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

use crate::publish::error::PublishError;

/// Writes the help texts of all metrics, and starts those that an alert looks at with zero: an increase can only be seen
/// of a series that was there before.
pub(crate) fn describe() {
    shared::process::metric_names::describe();
    describe_counter!(
        "penstock_http_requests_total",
        "Requests by route, method and status; 499 when the client has gone before it had an answer."
    );
    describe_histogram!(
        "penstock_http_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's headers to its answer, or until the client has gone."
    );
    describe_memory();
    describe_counter!(
        "penstock_key_verifications_total",
        "API keys verified with argon2: neither in memory nor shared by another replica."
    );
    describe_counter!(
        "penstock_key_lookups_total",
        "API keys looked up in Postgres: not in memory, or due to be confirmed."
    );
    describe_counter!(
        "penstock_key_lookup_refusals_total",
        "Requests answered 503 because their API key could neither be found in memory nor be looked up."
    );
    describe_counter!(
        "penstock_key_forgeries_total",
        "Texts that were no API key of ours, refused without any look-up."
    );
    describe_counter!(
        "penstock_key_shares_total",
        "Verified keys to be shared with other replicas, by outcome."
    );
    describe_counter!(
        "penstock_rate_limit_messages_sent_total",
        "Messages to other replicas about what was admitted, and about refused tenants."
    );
    describe_counter!(
        "penstock_rate_limit_messages_unread_total",
        "Messages about rate limits that this version does not know."
    );
    describe_gauge!(
        "penstock_rate_limit_replicas",
        "Replicas that keep to the rate limits together."
    );
    describe_gauge!(
        "penstock_rate_limit_cut_off",
        "1 while this replica cannot hear the others and admits its share only."
    );
    describe_counter!(
        "penstock_quota_refusals_total",
        "Requests, and events of batches, answered 429 because a quota of the month was used up."
    );
    describe_histogram!("penstock_publish_frame_events", "Events in a published frame.");
    describe_histogram!(
        "penstock_publish_duration_seconds",
        Unit::Seconds,
        "Time until a frame was acknowledged."
    );
    describe_counter!(
        "penstock_publish_resends_total",
        "Frames sent again because their acknowledgement did not come."
    );
    describe_counter!(
        "penstock_publish_refusals_total",
        "Events answered 503, by reason."
    );
    describe_gauge!(
        "penstock_nats_wedged",
        "1 while NATS answers and stores nothing in this stream, as after its disk was full. It must be restarted."
    );
    describe_counter!(
        "penstock_deliveries_pulled_total",
        "Deliveries leased to consumers that pull."
    );
    describe_counter!(
        "penstock_pull_acknowledgements_total",
        "Leases handed back by consumers that pull, by outcome."
    );
    describe_gauge!("penstock_pulls_waiting", "Pulls that wait for a delivery.");
    describe_gauge!(
        "penstock_listeners",
        "Live tails and figures that somebody looks at."
    );
    describe_what_waits();
    describe_saturation();
    for error in PublishError::ALL {
        counter!("penstock_publish_refusals_total", "reason" => error.code()).increment(0);
    }
    for name in [
        "penstock_publish_resends_total",
        "penstock_key_lookup_refusals_total",
    ] {
        counter!(name).increment(0);
    }
    counter!("penstock_body_refusals_total").increment(0);
    counter!("penstock_answer_refusals_total").increment(0);
    counter!("penstock_quota_refusals_total").increment(0);
}

/// The memory of bodies and answers.
fn describe_memory() {
    describe_gauge!(
        "penstock_body_buffer_bytes",
        Unit::Bytes,
        "Memory of bodies on their way in, out of BODY_BUFFER_BYTES."
    );
    describe_gauge!(
        "penstock_body_buffer_max_bytes",
        Unit::Bytes,
        "BODY_BUFFER_BYTES, at which requests are answered 503."
    );
    describe_counter!(
        "penstock_body_refusals_total",
        "Requests answered 503 because the bodies on their way in left no memory for theirs."
    );
    describe_gauge!(
        "penstock_answer_buffer_bytes",
        Unit::Bytes,
        "Memory of large answers that their clients have not taken."
    );
    describe_gauge!(
        "penstock_answer_buffer_max_bytes",
        Unit::Bytes,
        "Memory of large answers at which requests for them are answered 503."
    );
    describe_counter!(
        "penstock_answer_refusals_total",
        "Requests answered 503 because the large answers on their way out left no memory for theirs."
    );
}

/// How near this replica is to its limits.
fn describe_saturation() {
    describe_gauge!(
        "penstock_ingest_saturation",
        "How near this replica is to the first of its limits, from 0 to 1: the largest of \
         penstock_ingest_resource_saturation. Add replicas by it."
    );
    describe_gauge!(
        "penstock_ingest_resource_saturation",
        "How much of a resource is taken, from 0 to 1: publish_queue, body_buffer, connections, or processor (of all \
         cores that the process may use, smoothed over some seconds)."
    );
    describe_gauge!("penstock_http_connections", "Open connections to the API.");
    describe_gauge!(
        "penstock_http_max_connections",
        "MAX_CONNECTIONS, at which further connections wait."
    );
}

/// The gauges of the frames and deliveries that wait in the streams and in the tables.
fn describe_what_waits() {
    describe_gauge!(
        "penstock_event_stream_frames",
        "Frames in an event stream that no worker has stored."
    );
    describe_gauge!(
        "penstock_event_stream_bytes",
        Unit::Bytes,
        "Bytes of these frames."
    );
    describe_gauge!(
        "penstock_event_stream_max_bytes",
        Unit::Bytes,
        "Bytes at which the stream is full and events are answered 503."
    );
    describe_gauge!(
        "penstock_event_stream_oldest_frame_seconds",
        Unit::Seconds,
        "Age of the oldest frame that no worker has stored; 0 when there is none. All event_stream gauges are absent while \
         NATS does not tell."
    );
}
