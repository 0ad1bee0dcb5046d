//! What a pending delivery waits for.

use super::read::EndpointRow;
use crate::domain::clock::Timestamp;
use crate::domain::endpoint::EndpointStatus;

/// The first thing that must pass, as `audit` and the claims see it.
pub(super) fn what_for(delivery: &EndpointRow) -> String {
    let due = delivery.next_attempt_at.unwrap_or(delivery.now);
    let is_due = due <= delivery.now;
    let is_held = delivery.is_leased == Some(true) && !is_due;
    if delivery.deleted_at.is_some() {
        return "The endpoint was deleted: a worker will end the delivery.".to_owned();
    }
    if !delivery.kind.is_sent() {
        return if is_held {
            format!(
                "Its owner has pulled it, and may acknowledge it until {}.",
                Timestamp(due)
            )
        } else {
            "It waits until its owner pulls it.".to_owned()
        };
    }
    if is_held {
        return format!(
            "A worker is sending it; should that one die, it is due at {}.",
            Timestamp(due)
        );
    }
    if delivery.status == EndpointStatus::Disabled {
        return "It waits until the endpoint is enabled.".to_owned();
    }
    if !delivery.tenant_enabled {
        return "It waits until the endpoint's tenant is enabled.".to_owned();
    }
    if delivery.is_behind {
        return "It waits for an earlier event of its ordering key.".to_owned();
    }
    if let Some(until) = delivery.later_until {
        return format!(
            "It was made again while a later event of its ordering key is being sent, and waits for that attempt, until {} \
             at the latest.",
            Timestamp(until)
        );
    }
    if let Some(until) = delivery.open_until {
        let failures = delivery.consecutive_failures.unwrap_or_default();
        return format!(
            "The endpoint's circuit is open after {failures} failures in a row: one delivery is tried as a probe from \
             {}, and this one, which is due at {}, after it succeeds or as that probe.",
            Timestamp(until),
            Timestamp(due)
        );
    }
    if let Some(until) = delivery.waits_until {
        return format!(
            "The receiver asked for no request before {}: then one delivery is tried as a probe, and this one, which is \
             due at {}, after it succeeds or as that probe.",
            Timestamp(until),
            Timestamp(due)
        );
    }
    if !is_due {
        return format!("The next attempt is due at {}.", Timestamp(due));
    }
    if let Some(until) = delivery.rests_until.filter(|until| *until > delivery.now) {
        return format!(
            "It was made again, and rests until {}: by then it is seen whether a later event of its ordering key is being \
             sent.",
            Timestamp(until)
        );
    }
    if let Some(until) = delivery.paced_until.filter(|until| *until > delivery.now) {
        return format!(
            "It waits for its turn in the endpoint's rate limit, whose next is at {}.",
            Timestamp(until)
        );
    }
    format!(
        "It has been due since {} and waits for a worker with room for it.",
        Timestamp(due)
    )
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn a_delivery_that_was_made_again_rests_and_then_waits_for_a_worker() {
        let pending = EndpointRow::sample();
        let until = pending.now + Duration::SECOND;
        let mut pending = EndpointRow {
            rests_until: Some(until),
            paced_until: Some(until + Duration::SECOND),
            ..pending
        };
        let rests = format!("It was made again, and rests until {}: ", Timestamp(until));
        assert!(what_for(&pending).starts_with(&rests), "{}", what_for(&pending));
        pending.now = until;
        assert!(what_for(&pending).starts_with("It waits for its turn in the endpoint's rate limit"));
        pending.now += Duration::SECOND;
        assert!(what_for(&pending).starts_with("It has been due since"));
    }
}
