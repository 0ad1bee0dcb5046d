//! What Penstock's two services must agree on, and nothing else.
//!
//! The modules stand in the order in which an event meets them: its ids and its form, the streams that
//! carry it, the tables and secrets it is delivered with, the addresses it may go to, what its receiver's owner
//! picks out and adds; then what every process needs to start, to be watched and to stop.

// `println!` and `eprintln!` panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod clock;
pub mod id;
pub mod event;
pub mod frame;
pub mod nats;
pub mod stream;
pub mod limited;
pub mod db;
pub mod secret;
pub mod egress;
pub mod filter;
pub mod headers;
pub mod config;
pub mod output;
mod log_writer;
pub mod telemetry;
pub mod http_server;
pub mod http_rules;
mod bare_refusal;
mod frame_meter;
mod leftover;
mod answer;
mod progress;
pub mod shutdown;
mod allocator;

#[cfg(test)]
mod fuzz;
