//! A clock that runs while the process, its container or the machine is suspended.

use std::ops::{Add, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// [`std::time::Instant`] stops while the machine sleeps, so that old entries would look fresh afterwards.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// A moment, counted from the machine's start; there are some before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    nanos: i64,
}

impl Moment {
    /// The machine's start.
    pub const START: Self = Self { nanos: 0 };

    /// This one.
    ///
    /// # Panics
    /// Without the clock, which every supported system has.
    pub fn now() -> Self {
        let time = clock_gettime(CLOCK).expect("the system has this clock");
        Self::START + Duration::from(time)
    }

    /// A moment as [`Moment::to_nanos`] gave it.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// Nanoseconds since the machine was started.
    pub const fn to_nanos(self) -> i64 {
        self.nanos
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self::from_nanos(self.nanos.saturating_add(nanos(time)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self::from_nanos(self.nanos.saturating_sub(nanos(time)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// No time when `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        let nanos = self.nanos.saturating_sub(earlier.nanos);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
