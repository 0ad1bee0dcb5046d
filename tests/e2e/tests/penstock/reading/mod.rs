//! Lists, histories, and how Postgres finds their rows.

mod by_key;
mod history;
mod long_lists;
pub(crate) mod pages;
pub(crate) mod plans;
mod tenants;
