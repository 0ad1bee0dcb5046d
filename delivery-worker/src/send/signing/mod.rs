//! What a request proves itself with: signatures, credentials and tokens.
//!
//! Imports of `send` the client and the look-ups, with which tokens are fetched.

pub mod sign;
pub(crate) mod schemes;
pub(crate) mod credentials;
pub(crate) mod tokens;
