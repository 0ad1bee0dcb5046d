//! The events in frames, and what is in them that cannot be read.

use bytes::Bytes;
use shared::wire::{frame, owners};

use crate::intake::frame::{Frame, Located};
use crate::store::quarantine::Unreadable;

/// The contents of some frames.
#[derive(Debug, Default)]
pub(crate) struct Decoded<'a> {
    /// What can be stored.
    pub events: Vec<Located<'a>>,
    /// What cannot.
    pub unreadable: Vec<Unreadable<'a>>,
}

/// Reads frames.
pub(crate) fn decode<'a>(frames: &'a [Frame<'a>]) -> Decoded<'a> {
    let mut decoded = Decoded::default();
    for frame in frames {
        match frame::decode(frame.version, frame.payload) {
            Ok(events) => {
                for (position, event) in events.into_iter().enumerate() {
                    match event {
                        Ok(event) => decoded.events.push(Located {
                            event,
                            frame,
                            position,
                        }),
                        Err(error) => {
                            let bytes = Bytes::copy_from_slice(error.bytes);
                            let (owner, reason) = (owners::of_event(&bytes), error.to_string());
                            let unreadable = frame.unreadable(Some(position), owner, reason, bytes);
                            decoded.unreadable.push(unreadable);
                        }
                    }
                }
            }
            Err(error) => decoded
                .unreadable
                .extend(frame.all_unreadable(&error.to_string())),
        }
    }
    decoded
}
