//! The events in frames, and what is in them that cannot be read.

use shared::wire::frame;

use crate::intake::frame::{Frame, Located};
use crate::store::quarantine::Unreadable;

/// What stands in some frames.
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
                            let unreadable = frame.unreadable(Some(position), error.to_string(), error.bytes);
                            decoded.unreadable.push(unreadable);
                        }
                    }
                }
            }
            Err(error) => {
                let unreadable = frame.unreadable(None, error.to_string(), frame.payload);
                decoded.unreadable.push(unreadable);
            }
        }
    }
    decoded
}
