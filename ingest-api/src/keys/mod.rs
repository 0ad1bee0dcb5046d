//! API keys: reading, checking and remembering them, and hearing of their changes.
//!
//! Imports `config`, `domain` and `store`. Knows no HTTP.

pub(crate) mod error;
pub mod api_key;
pub(crate) mod verified_key;
pub(crate) mod authenticator;
pub(crate) mod single_flight;
pub(crate) mod cache;
pub(crate) mod share;
pub mod moment;
pub(crate) mod changes;
pub(crate) mod uses;
pub(crate) mod portal;
pub(crate) mod start;
