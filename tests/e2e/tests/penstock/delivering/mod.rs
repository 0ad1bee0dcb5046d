//! Webhooks: where they go, what they carry, and what becomes of an attempt.

mod answers;
mod bodies;
mod connections;
mod credentials;
mod egress;
mod filters;
mod intake;
mod opening;
mod isolation;
mod ordering;
mod pace;
mod retries;
