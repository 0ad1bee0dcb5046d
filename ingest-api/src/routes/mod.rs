//! The handlers, by resource.

pub(crate) mod openapi;

pub(crate) mod narrowed;
pub(crate) mod page;
pub(crate) mod refusals;
pub(crate) mod events;
pub(crate) mod organizations;
pub(crate) mod tenants;
pub(crate) mod keys;
pub(crate) mod endpoints;
pub(crate) mod pull;
pub(crate) mod legacy;
