//! Which frames of a stream this worker is storing.
//!
//! A frame may come again meanwhile: the server has not heard for too long that it is worked on, or has forgotten it. Its
//! deliveries may have begun, and whoever stored it again beside that would begin them again. So it is left to the batch that has
//! it. That batch acknowledges it, or it comes once more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::Message;
use bytes::Bytes;

/// The frames that are being stored, by sequence number, with their bytes: a stream that was made again gives the numbers to other
/// frames. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct InHand(Arc<Mutex<HashMap<u64, Bytes>>>);

/// Frames that one batch has in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hand {
    in_hand: InHand,
    sequences: Vec<u64>,
}

impl InHand {
    /// Takes frames in hand. Removes those that are already.
    pub(crate) fn take(&self, frames: &mut Vec<Message>) -> Hand {
        self.take_by(frames, |frame| {
            let info = frame.info().ok()?;
            Some((info.stream_sequence, &frame.payload))
        })
    }

    /// The same, where `place` tells a frame's sequence number and bytes. Without them it is only passed on.
    fn take_by<T>(&self, frames: &mut Vec<T>, place: impl Fn(&T) -> Option<(u64, &Bytes)>) -> Hand {
        let (mut all, mut sequences) = (self.all(), Vec::new());
        frames.retain(|frame| {
            let Some((sequence, bytes)) = place(frame) else {
                return true;
            };
            match all.entry(sequence) {
                Entry::Vacant(entry) => {
                    entry.insert(bytes.clone());
                    sequences.push(sequence);
                    true
                }
                Entry::Occupied(entry) => {
                    let is_another = entry.get() != bytes;
                    if !is_another {
                        tracing::debug!(sequence, "a frame came again while it is being stored");
                    }
                    is_another
                }
            }
        });
        drop(all);
        let in_hand = self.clone();
        Hand { in_hand, sequences }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let mut all = self.in_hand.all();
        for sequence in &self.sequences {
            all.remove(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame's sequence number and bytes.
    type Frame = (u64, Bytes);

    /// Takes frames, and returns those that are left to store.
    fn take(in_hand: &InHand, frames: &[(u64, &'static str)]) -> (Vec<u64>, Hand) {
        let mut frames: Vec<Frame> = frames
            .iter()
            .map(|&(sequence, bytes)| (sequence, Bytes::from_static(bytes.as_bytes())))
            .collect();
        let hand = in_hand.take_by(&mut frames, |(sequence, bytes)| Some((*sequence, bytes)));
        (frames.into_iter().map(|(sequence, _)| sequence).collect(), hand)
    }

    #[test]
    fn a_frame_that_comes_again_is_left_to_the_batch_that_has_it_until_that_has_ended() {
        let in_hand = InHand::default();
        let (first, hand) = take(&in_hand, &[(1, "a"), (2, "b")]);
        assert_eq!(first, [1, 2]);
        let (again, other_hand) = take(&in_hand, &[(2, "b"), (3, "c")]);
        assert_eq!(again, [3]);
        drop(hand);
        assert_eq!(take(&in_hand, &[(1, "a"), (2, "b"), (3, "c")]).0, [1, 2]);
        drop(other_hand);
        assert_eq!(take(&in_hand, &[(3, "c")]).0, [3]);
    }

    #[test]
    fn another_frame_of_the_same_number_is_stored_too() {
        let in_hand = InHand::default();
        let (_, hand) = take(&in_hand, &[(1, "a")]);
        let (another, other_hand) = take(&in_hand, &[(1, "b")]);
        assert_eq!(another, [1]);
        drop(other_hand);
        assert!(
            take(&in_hand, &[(1, "a")]).0.is_empty(),
            "the first one is in hand"
        );
        drop(hand);
        assert_eq!(take(&in_hand, &[(1, "a")]).0, [1]);
    }
}
