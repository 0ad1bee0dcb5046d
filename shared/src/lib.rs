//! What Penstock's two services must agree on, and nothing else.
//!
//! The modules stand in the order in which an event meets them: its ids and its form, the streams that
//! carry it, the tables and secrets it is delivered with, the addresses it may go to, what its receiver's owner
//! picks out and adds; then what every process needs to start, to be watched and to stop.

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
