//! How much waits in an event stream.

use std::time::Duration;

use async_nats::jetstream::stream::{Info, Stream};
use time::OffsetDateTime;

use crate::wire::frame;

/// From how many frames the number of events in a stream's frames is estimated.
const SAMPLES: u64 = 3;

/// What no worker has stored of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth {
    /// Events: exact for up to three frames, and estimated from three of them for more.
    pub events: f64,
    /// Age of the oldest frame; zero when there is none.
    pub age: Duration,
}

impl Depth {
    /// Of a stream, as it was when its `info` was read, by a reader whose clock shows `now`.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn of<I>(stream: &Stream<I>, info: &Info, now: OffsetDateTime) -> anyhow::Result<Self> {
        let state = &info.state;
        if state.messages == 0 {
            return Ok(Self::default());
        }
        // The server's time and ours, which may be apart.
        let age = Duration::try_from(now - state.first_timestamp).unwrap_or_default();
        let [subject] = info.config.subjects.as_slice() else {
            anyhow::bail!("{} is no event stream: it has not one subject", info.config.name);
        };
        let (mut counted, mut next, mut frames) = (0, state.first_sequence, 0);
        let step = (state.last_sequence - state.first_sequence.min(state.last_sequence)) / SAMPLES + 1;
        while frames < SAMPLES && next <= state.last_sequence {
            let Ok(frame) = stream.get_first_raw_message_by_subject(subject, next).await else {
                // Workers have taken the rest meanwhile.
                break;
            };
            counted += frame::count(&frame.payload) as u64;
            frames += 1;
            next = (next + step).max(frame.sequence + 1);
        }
        let events = estimate(state.messages, frames, counted);
        Ok(Self { events, age })
    }

    /// Of this and another stream together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            age: self.age.max(other.age),
        }
    }
}

/// Events in `frames` of which `sampled` have `counted`. A frame that cannot be seen has one.
#[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
fn estimate(frames: u64, sampled: u64, counted: u64) -> f64 {
    if sampled == 0 {
        return frames as f64;
    }
    (frames as f64 * counted as f64 / sampled as f64).max(frames as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers")]
    fn frames_that_were_not_looked_at_count_as_those_that_were() {
        assert_eq!(estimate(2, 2, 7), 7.0);
        assert_eq!(estimate(300, 3, 60), 6_000.0);
        assert_eq!(estimate(5, 0, 0), 5.0);
    }
}
