//! The handlers, by resource.

pub mod body;
pub mod field;
pub mod page;
pub mod refusals;
pub mod events;
pub mod organizations;
pub mod keys;
pub mod endpoints;
pub mod pull;
pub mod legacy;
