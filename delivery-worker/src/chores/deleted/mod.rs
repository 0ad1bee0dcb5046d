//! After something is deleted: what was kept about it ends, in bounded steps.
//!
//! Imports `store`, the rounds of `chores`, and of `intake` how far the streams are stored.

pub(crate) mod endpoints;
pub(crate) mod organizations;
pub(crate) mod tenants;
pub(super) mod erasing;
