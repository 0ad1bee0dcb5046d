//! Organisations and their tenants, and what is set and counted for them.
//!
//! Imports `form` and cursors.

pub mod limit;
pub(crate) mod maximum;
pub(crate) mod organization;
pub(crate) mod tenant;
pub(crate) mod portal;
pub(crate) mod quota;
pub(crate) mod usage;
pub(crate) mod audit;
