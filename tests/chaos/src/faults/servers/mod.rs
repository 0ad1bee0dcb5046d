//! Faults of nats-server, Postgres, and what they run on.
//!
//! Imports the stage on which faults happen, and the machine.

pub(crate) mod cluster;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod power;
pub(crate) mod stream;
pub(crate) mod restore;
