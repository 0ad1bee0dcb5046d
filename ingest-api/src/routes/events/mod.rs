//! `/v1/events`: sending events, and reading them back.

pub(crate) mod request;
pub(crate) mod batch;
pub(crate) mod create;
pub(crate) mod delivery_view;
pub(crate) mod view;
pub(crate) mod read;
pub(crate) mod replay;
pub(crate) mod data;
pub(crate) mod explain;
