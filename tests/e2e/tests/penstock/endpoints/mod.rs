//! Endpoints as their owners make, watch, pull and mend them.

mod breaker;
pub(crate) mod manage;
mod pull;
mod recoveries;
mod recovery;
