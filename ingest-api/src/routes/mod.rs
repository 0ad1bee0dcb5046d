//! The handlers, by resource.

pub mod body;
pub mod events;
pub mod organizations;
pub mod endpoints;
