//! Fault tests: a real Penstock under a steady load while something is killed, frozen, cut or filled up. Each ends
//! with the same question, answered by [`e2e::History::judge`]: what became of every event that was answered 202?
//!
//! [`Fault`] lists them. `cargo chaos` runs them in full, `cargo test` a bounded form
//! of each.

mod fault;
mod stage;
mod trial;
mod report;
mod proxy;
mod machine;
mod faults;
mod sync;

pub use self::faults::servers::power::Loss;
pub use fault::Fault;
pub use report::{Outcome, Report, heading, row};
pub use stage::Stage;
pub use sync::{Record, cut_off};
pub use trial::Trial;
