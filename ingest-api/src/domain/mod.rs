//! The words of this service: what a key may do, a lease, a place in a list, a time in an answer.
//!
//! Imports nothing else of this crate. The words that workers speak too stand in `shared::domain`.

pub(crate) mod scope;
pub(crate) mod lease;
pub(crate) mod cursor;
pub(crate) mod page;
pub(crate) mod utc;
