//! Endpoints as their owners make, watch, pull and mend them.

mod breaker;
mod filters;
mod manage;
mod leases;
mod pull;
mod recoveries;
mod recovery;
mod waiting;
mod moved;
mod stats;
mod signatures;
