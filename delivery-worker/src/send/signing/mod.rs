//! What a request proves itself with: signatures, credentials and tokens.

pub mod sign;
pub(crate) mod schemes;
pub(crate) mod credentials;
pub(crate) mod tokens;
