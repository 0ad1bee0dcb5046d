//! Lines that say what a slow start is waiting for.

use std::pin::pin;
use std::time::Duration;

use shared::process::output::complain;

/// A step shorter than this is not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Prints steps to standard error, or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) shown: bool,
}

impl Progress {
    /// Does `work` and prints `what …` if that takes longer than a second.
    pub(crate) async fn step<T>(self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = tokio::time::timeout(WORTH_A_LINE, work.as_mut()).await {
            return done;
        }
        if self.shown {
            complain(&format!("{what} …"));
        }
        work.await
    }
}
