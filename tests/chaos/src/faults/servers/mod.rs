//! Faults of nats-server, Postgres, and what they run on.

pub(crate) mod cluster;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod power;
pub(crate) mod stream;
pub(crate) mod restore;
