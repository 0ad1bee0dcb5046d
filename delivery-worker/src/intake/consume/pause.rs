//! Pauses after batches, in which frames gather: one statement does the work of several. A frame that comes alone does not
//! meet one.
//!
//! A worker pauses 0.5 ms for each event of the batch, 3 ms at least and 8 ms at most. At 2 000 events a second or more its batches
//! grow until they hold the events of 8 ms, 16 or more. At fewer the pause comes to 3 ms. At 200 a second one event comes in 5 ms,
//! and seldom meets it.

use std::time::Duration;

use async_nats::jetstream::Message;
use shared::wire;

use crate::intake::consume::batch::MAX_BATCH_FRAMES;

/// The pause for each event, and at least and at most.
const PER_EVENT: Duration = Duration::from_micros(500);
const SHORTEST: Duration = Duration::from_millis(3);
const LONGEST: Duration = Duration::from_millis(8);

/// How long the next batch gathers after this one.
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
