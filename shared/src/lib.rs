//! What Penstock's two services must agree on, and nothing else.
//!
//! `domain` holds the words that both services speak, `wire` what goes over NATS, `secret` and `egress` what guards a
//! delivery, `db` the way to Postgres, `server` the HTTP server, and `process` what a service needs to start, to be watched
//! and to stop. Each room's first lines say what it is for.

// `println!` and `eprintln!` panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod domain;
pub mod wire;
pub mod secret;
pub mod egress;
pub mod db;
pub mod server;
pub mod process;

#[cfg(test)]
mod fuzz;
