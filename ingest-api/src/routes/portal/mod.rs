//! `/v1/portal` and `/v1/tenants/{uid}/portal-sessions`: the page with which a tenant's people help themselves.

pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod show;
