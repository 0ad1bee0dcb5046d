//! How much load a lane's last frames show, and how long the next frame may therefore wait for more events: a frame costs NATS
//! a message and a sync however many events it has.
//!
//! A replica that is alone looks at its last frame: one of [`LOADED`] events or more shows load.
//!
//! Each of `n` replicas sees an `n`-th of the events, in smaller frames. When its own events come [`APART`] times `n` after one
//! another, or faster, it judges as if it saw those of all: one of its last frames had [`LOADED`] divided by `n`, two at least. Then
//! the next one is to have [`LOADED`]. Of one that is alone, events also gather while a frame is stored; so here a short wait may
//! last one and a half times `n` as long, up to 6 ms. The long wait has paid with fewer events. When they come more slowly it judges
//! as if it were alone.
//!
//! At 2 000 events a second in all each of two replicas gets one in 1 ms, and [`APART`] times two is 1.5 ms: load. At 200 a second
//! it gets one in 10 ms, and waits no more than one that is alone. Nor does it while each event comes alone, as those of a single
//! sender do that waits for the answer. A count of replicas that is out of date costs a wait, or smaller frames.

use std::time::Duration;

use shared::process::replicas::Replicas;
use tokio::time::Instant;

/// A frame of this many events shows load. Then the next one may wait this long to become as large: the shortest time that
/// the runtime's timers can wait.
pub(super) const LOADED: usize = 4;
pub(super) const SHORT_WAIT: Duration = Duration::from_millis(1);

/// Under more load a frame waits longer. The wait ends when no event comes for [`GAP`]: then all who send may be waiting for this
/// very frame.
pub(super) const LONG_WAIT: Duration = Duration::from_millis(4);
const GAP: Duration = Duration::from_millis(2);

/// A long wait has paid when the frame has this many events, and half as many again as before. After one that has not, so
/// many frames go by without.
pub(super) const FULL: usize = 10;
pub(super) const FRAMES_WITHOUT: u32 = 256;

/// Several replicas are under load together when events come to all of them this long after one another, or faster: at 1 333 a
/// second.
const APART: Duration = Duration::from_micros(750);

/// The fewest events that show load, and with which a long wait has paid, with however many replicas.
const FEWEST_LOADED: usize = 2;
const FEWEST_FULL: usize = 3;

/// Most times that a short wait is longer with several replicas.
const LONGER: u32 = 6;

/// How many frames are remembered: one that is small by chance does not end the waits of a replica among several.
const REMEMBERED: usize = 4;

/// The newest frame counts for so much of the time between events.
const SMOOTHING: u32 = 8;

/// A lane's last frames.
#[derive(Debug)]
pub(super) struct Load {
    replicas: Replicas,
    /// Their events, the newest frame first.
    frames: [usize; REMEMBERED],
    /// The time between events, on the average of about as many frames as [`SMOOTHING`].
    apart: Duration,
    /// When the last frame went.
    at: Instant,
    /// Frames until the next long wait.
    without: u32,
}

/// What a frame may wait for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wait {
    /// The short wait ends with so many events.
    pub events: usize,
    /// The longest that it may last.
    pub short: Duration,
    /// What comes after it.
    pub long: Option<LongWait>,
}

/// A wait for as many events as come, until [`LONG_WAIT`] after the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LongWait {
    /// It ends when none comes for so long.
    pub gap: Duration,
    /// It has paid with so many events, if they are half as many again as before it.
    pub full: usize,
}

impl Load {
    /// Of a lane that has sent nothing yet.
    pub(super) fn new(replicas: Replicas, now: Instant) -> Self {
        Self {
            replicas,
            frames: [0; REMEMBERED],
            // No load.
            apart: Duration::from_secs(1),
            at: now,
            without: 0,
        }
    }

    /// Notes that a frame of so many events goes.
    pub(super) fn note(&mut self, events: usize, now: Instant) {
        self.frames.rotate_right(1);
        self.frames[0] = events;
        let count = u32::try_from(events).unwrap_or(u32::MAX).max(1);
        let apart = (now - std::mem::replace(&mut self.at, now)) / count;
        self.apart = (self.apart * (SMOOTHING - 1) + apart) / SMOOTHING;
    }

    /// What the next frame may wait for; None is no wait at all.
    pub(super) fn next_wait(&mut self) -> Option<Wait> {
        let replicas = self.sharing();
        let events = self.as_large(replicas)?;
        let is_long = self.without == 0;
        self.without = self.without.saturating_sub(1);
        let (short, long) = if is_long {
            (SHORT_WAIT, Some(LongWait::of(replicas)))
        } else {
            (SHORT_WAIT * longer(replicas), None)
        };
        Some(Wait { events, short, long })
    }

    /// Says that a long wait has not paid.
    pub(super) fn go_without(&mut self) {
        self.without = FRAMES_WITHOUT;
    }

    /// For how many replicas it judges: for all while many events come, and otherwise for itself.
    fn sharing(&self) -> u32 {
        let all = self.replicas.count();
        if self.apart <= APART.saturating_mul(all) {
            all
        } else {
            1
        }
    }

    /// How large the next frame should become, if there is load.
    fn as_large(&self, replicas: u32) -> Option<usize> {
        let [last, ..] = self.frames;
        if replicas == 1 {
            return (last >= LOADED).then_some(last);
        }
        let largest = self.frames.into_iter().max().unwrap_or(last);
        let loaded = LOADED.div_ceil(replicas as usize).max(FEWEST_LOADED);
        (largest >= loaded).then_some(largest.max(LOADED))
    }
}

/// How many times as long a short wait may last with so many replicas.
fn longer(replicas: u32) -> u32 {
    (replicas.saturating_mul(3) / 2).clamp(1, LONGER)
}

impl LongWait {
    fn of(replicas: u32) -> Self {
        if replicas == 1 {
            return Self { gap: GAP, full: FULL };
        }
        Self {
            gap: GAP.saturating_mul(replicas),
            full: FULL.div_ceil(replicas as usize).max(FEWEST_FULL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What so many frames of `events` each, sent this long after one another, leave to the next one.
    fn after(frames: u32, events: usize, apart: Duration, replicas: u32) -> Load {
        let all = Replicas::default();
        all.set(replicas);
        let start = Instant::now();
        let mut load = Load::new(all, start);
        for number in 1..=frames {
            load.note(events, start + apart * number);
        }
        load
    }

    const MANY: u32 = 200;
    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_replica_that_is_alone_judges_by_its_last_frame() {
        // At whatever pace.
        for apart in [MILLI, MILLI * 1_000] {
            assert_eq!(after(1, LOADED - 1, apart, 1).next_wait(), None);
            let mut load = after(1, LOADED, apart, 1);
            let wait = Wait {
                events: LOADED,
                short: SHORT_WAIT,
                long: Some(LongWait { gap: GAP, full: FULL }),
            };
            assert_eq!(load.next_wait(), Some(wait));
            load.go_without();
            for _ in 0..FRAMES_WITHOUT {
                assert_eq!(load.next_wait(), Some(Wait { long: None, ..wait }));
            }
            assert_eq!(load.next_wait(), Some(wait));
            load.note(LOADED - 1, load.at + apart);
            assert_eq!(load.next_wait(), None);
        }
    }

    #[test]
    fn each_of_several_replicas_judges_by_its_share_of_the_load() {
        // Two events in 2 ms at two replicas, and in 4 ms at four, are 2 000 a second in all.
        for (replicas, short, full) in [(2, 3, 5), (3, 4, 4), (4, 6, 3), (100, 6, 3)] {
            let mut load = after(MANY, 2, MILLI * replicas, replicas);
            let wait = load.next_wait().expect("there is load");
            assert_eq!((wait.events, wait.short), (LOADED, SHORT_WAIT));
            assert_eq!(wait.long.map(|long| long.full), Some(full));
            load.go_without();
            let wait = load.next_wait().expect("there is load");
            assert_eq!((wait.short, wait.long), (MILLI * short, None));
        }
        assert_eq!(after(MANY, 2, MILLI * 2, 1).next_wait(), None);
    }

    #[test]
    fn at_a_low_rate_each_of_several_replicas_judges_as_if_it_were_alone() {
        for replicas in [2, 3, 4, 8] {
            // 200 a second in all: one by one, two at once, and twenty at once.
            for events in [1, 2, 20] {
                let apart = MILLI * 5 * replicas * events;
                let judged = |replicas| after(MANY, events as usize, apart, replicas).next_wait();
                assert_eq!(judged(replicas), judged(1), "{replicas} {events}");
                assert_eq!(judged(replicas).is_some(), events == 20);
            }
        }
    }

    #[test]
    fn while_each_event_comes_alone_no_replica_of_several_waits() {
        // A sender that waits for the answer sends its next event only then.
        assert_eq!(after(MANY, 1, MILLI / 2, 2).next_wait(), None);
    }

    #[test]
    fn a_frame_that_is_small_by_chance_does_not_end_the_waits_of_several_replicas() {
        let mut load = after(MANY, 5, MILLI, 2);
        let now = load.at;
        for number in 1..4 {
            load.note(1, now + MILLI * number);
            assert_eq!(load.next_wait().map(|wait| wait.events), Some(5));
        }
        load.note(1, now + MILLI * 4);
        assert_eq!(load.next_wait(), None);
    }
}
