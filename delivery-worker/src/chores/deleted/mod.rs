//! After something is deleted: what was kept about it ends, in bounded steps.

pub(crate) mod endpoints;
pub(crate) mod organizations;
pub(crate) mod tenants;
pub(super) mod erasing;
