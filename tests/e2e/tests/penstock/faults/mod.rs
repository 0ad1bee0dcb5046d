//! Processes that are killed or frozen, and servers that are away, slow or wrong.

mod checker;
pub(crate) mod database;
pub(crate) mod held_up;
pub(crate) mod kills;
mod late_answers;
mod logs;
pub(crate) mod restarts;
mod restored;
mod silence;
mod wedged;
