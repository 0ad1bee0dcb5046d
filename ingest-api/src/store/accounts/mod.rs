//! Organisations and their tenants, the keys and sessions of both, and what they have used.
//!
//! Imports `domain`, and the pools of `store`.

pub(super) mod organizations;
pub(super) mod owners;
pub(super) mod tenants;
pub(super) mod portals;
pub(super) mod keys;
pub(super) mod key_lookups;
pub(super) mod ended_sessions;
pub(super) mod usage;
pub(super) mod audit_log;
