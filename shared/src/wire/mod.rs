//! What goes over NATS between the services: frames of events, and the streams that hold them.
//!
//! Imports `domain` only.

pub mod frame;
pub mod owners;
pub mod stream;
pub mod depth;
