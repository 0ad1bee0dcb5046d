//! The words of this service: keys and what they may do, what an organisation sets, a lease, a place in a list, and how
//! these are written in requests.
//!
//! Imports nothing else of this crate. The words that workers speak too stand in `shared::domain`.

pub mod limit;
pub(crate) mod scope;
pub(crate) mod realm;
pub(crate) mod maximum;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod actor;
pub(crate) mod audit;
pub(crate) mod quota;
pub(crate) mod organization;
pub(crate) mod tenant;
pub(crate) mod session;
pub(crate) mod portal;
pub(crate) mod endpoint;
pub(crate) mod lease;
pub(crate) mod cursor;
pub(crate) mod page;
pub(crate) mod day;
pub(crate) mod usage;
pub(crate) mod json;
pub(crate) mod utc;
pub(crate) mod whole;
pub(crate) mod object;
pub(crate) mod field;
pub(crate) mod field_errors;
