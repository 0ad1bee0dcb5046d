//! Consuming a stream: how its frames come from NATS, and how NATS hears what became of them.
//!
//! `turns` says whether this worker listens to a stream or only looks, and `requests` when it asks for more frames. `pull` asks
//! for them and receives them, `batch` takes those that are there, and `pause` lets some gather before the next batch. `room`
//! bounds what batches take, and `in_hand` knows their frames. `acks` acknowledges. `session` joins these to one connection.
//! `streams` reads the streams themselves; chores, the claimer and commands ask it too.
//!
//! Imports nothing else of intake.

pub(crate) mod streams;
pub(crate) mod turns;
mod requests;
mod pull;
pub(crate) mod batch;
pub(crate) mod pause;
pub(crate) mod room;
pub(crate) mod acks;
pub(crate) mod in_hand;
pub(crate) mod session;
