//! `/v1/events`: sending events, and reading them back.

pub mod create;
pub mod batch;
pub mod view;
pub mod read;
pub mod replay;
pub mod data;
