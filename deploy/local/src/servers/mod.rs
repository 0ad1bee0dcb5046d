//! nats-server and Postgres: where they come from, and how they are started.
//!
//! Imports `children`, the data folder and the options.

pub(super) mod nats;
pub(super) mod postgres;
pub(super) mod cluster;
pub(super) mod template;
pub(super) mod scram;
pub(super) mod binaries;
pub(super) mod version;
