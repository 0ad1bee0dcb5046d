//! Who is let in: keys, scopes, limits and the admin token.

mod admin;
mod floods;
pub(crate) mod lifecycle;
mod outages;
pub(crate) mod rate_limits;
mod revocations;
mod scopes;
mod secrets;
pub(crate) mod shared_keys;
