//! Child processes, and what they need of this machine.
//!
//! Imports the lines that tell of progress.

pub(super) mod process;
pub(super) mod spawn;
pub(super) mod exec;
pub(super) mod ports;
pub(super) mod host;
