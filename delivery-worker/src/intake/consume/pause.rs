//! Pauses after batches. Frames gather in a pause, and one statement stores several. A frame that comes alone meets no pause.
//!
//! A worker pauses 0.5 ms for each event of the batch, at least 3 ms and at most 8 ms. At 2 000 events a second or more, batches
//! grow until they hold the events of 8 ms, 16 or more. At lower rates, the pause shrinks to 3 ms. At 200 events a second, one
//! comes every 5 ms and seldom meets a pause.

use std::time::Duration;

use async_nats::jetstream::Message;
use shared::wire;

use crate::intake::consume::batch::MAX_BATCH_FRAMES;

/// The pause for each event, the shortest and the longest.
const PER_EVENT: Duration = Duration::from_micros(500);
const SHORTEST: Duration = Duration::from_millis(3);
const LONGEST: Duration = Duration::from_millis(8);

/// The pause after this batch. After a full one there is none.
pub(crate) fn after(batch: &[Message]) -> Duration {
    if batch.len() >= MAX_BATCH_FRAMES {
        return Duration::ZERO;
    }
    let events: usize = batch
        .iter()
        .map(|message| wire::frame::count(&message.payload))
        .sum();
    pause(u32::try_from(events).unwrap_or(u32::MAX))
}

fn pause(events: u32) -> Duration {
    PER_EVENT.saturating_mul(events).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_the_events_of_the_batch_between_two_bounds() {
        for (events, millis) in [(0, 3), (1, 3), (6, 3), (10, 5), (16, 8), (u32::MAX, 8)] {
            assert_eq!(pause(events), Duration::from_millis(millis), "{events}");
        }
        assert_eq!(pause(7), Duration::from_micros(3_500));
    }
}
