//! The words of this service: keys and what they may do, what an organisation sets, a lease, a place in a list, and how
//! these are written in requests.
//!
//! Imports nothing else of this crate. The words that workers speak too stand in `shared::domain`.

pub(crate) mod endpoint;
pub(crate) mod lease;
pub(crate) mod cursor;
pub(crate) mod page;
pub(crate) mod access;
pub mod accounts;
pub(crate) mod form;
