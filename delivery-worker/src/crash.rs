//! Places at which a test has a worker die: one before and one after each of its effects. Builds without debug
//! assertions, and so every release, have none.

use clap::ValueEnum;

/// An effect of the worker, just begun or just done, in the order in which an event meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Point {
    /// Frames came out of a stream.
    Fetched,
    /// Their events can be read.
    Decoded,
    /// First attempts have begun, and their events are not stored.
    Begun,
    /// The events and their deliveries are committed.
    Stored,
    /// A frame's acknowledgement is on its way.
    Acknowledged,
    /// Permits for due deliveries are taken.
    Claiming,
    /// The deliveries are leased.
    Claimed,
    /// A webhook is about to be sent.
    Sending,
    /// Its receiver has answered.
    Answered,
    /// Results are about to be written.
    Recording,
    /// They are committed.
    Recorded,
}

impl Point {
    /// Its name in `CRASH_AT`.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no point is hidden");
        value.get_name().to_owned()
    }
}

/// Dies without any clean-up if `CRASH_AT` is `point` or `point:n`, the latter at the n-th time.
#[cfg(debug_assertions)]
pub fn reach(point: Point) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static CRASH_AT: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("CRASH_AT").ok()?;
        let (name, passes) = text.split_once(':').unwrap_or((&text, "1"));
        let passes = passes.parse().expect("CRASH_AT is point:number");
        Some((name.to_owned(), AtomicU32::new(passes)))
    });
    if let Some((name, passes)) = &*CRASH_AT
        && *name == point.name()
        && passes.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn reach(_: Point) {}
