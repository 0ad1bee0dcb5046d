//! The words that both services speak: ids, times, events, endpoints and deliveries.
//!
//! Imports nothing else of this crate but `secret`, which seals the headers of endpoints. Knows no SQL statement and no NATS, and of
//! HTTP the headers alone.

pub mod id;
pub mod clock;
pub mod word;
pub mod name;
pub mod event;
pub mod event_type;
pub mod cloudevent;
pub mod endpoint;
pub mod delivery;
pub mod durations;
pub mod inbox;
pub mod tier;
pub mod json;
pub mod filter;
pub mod headers;
