//! Who asks, and what they may do.
//!
//! Imports `accounts`.

pub(crate) mod key;
pub(crate) mod grant;
pub(crate) mod scope;
pub(crate) mod realm;
pub(crate) mod session;
pub(crate) mod actor;
