//! Lists, histories, and how Postgres finds their rows.

mod by_key;
mod history;
pub(crate) mod pages;
pub(crate) mod plans;
mod tenants;
