//! How much a receiver may send, and how fast it is read: pure arithmetic on bytes and times.
//!
//! An honest answer needs a fraction of it. What comes without end, however fast, is read at [`BYTES_PER_SECOND`] after
//! the first bytes, and is too much when the attempt's share is used up.

use std::time::Duration;

use tokio::time::Instant;

/// What one attempt may be sent: the largest head of an answer, the part of the body that is kept, and as much again for
/// interim answers, TLS and HTTP/2's own frames.
const EACH: u64 = 192 * 1024;

/// What may come between attempts, or still be on its way when an attempt has ended.
const BETWEEN: u64 = 64 * 1024;

/// How fast what may come between attempts grows back: more than HTTP/2 needs for its pings and settings.
const TRICKLE_PER_SECOND: u64 = 64;

/// What is read as fast as it comes, and how much more with each attempt that begins.
const BURST: u64 = 32 * 1024;
const BURST_EACH: u64 = 16 * 1024;

/// How fast the rest is read.
const BYTES_PER_SECOND: u64 = 64 * 1024;

/// What a read costs of the speed, however little it brings: waking up for each byte is work too.
const LEAST: u64 = 512;

/// Longest wait before a read.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What follows from a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read on.
    Read,
    /// Read on after this time.
    Wait(Duration),
    /// It is too much: hang up.
    HangUp,
}

/// What is left to a connection.
#[derive(Debug)]
pub(super) struct Allowance {
    attempts: u32,
    /// Bytes that may still come.
    left: u64,
    /// Bytes that may be read at once. Below zero it is owed.
    at_once: i64,
    filled_at: Instant,
}

impl Allowance {
    /// For a connection that is opened for an attempt.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            attempts: 1,
            left: EACH + BETWEEN,
            at_once: signed(BURST + BURST_EACH),
            filled_at: now,
        }
    }

    /// Attempts that use the connection.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// One more attempt uses it.
    pub(super) fn begin(&mut self) {
        self.attempts += 1;
        self.left = (self.left + EACH).min(self.most());
        self.at_once =
            (self.at_once + signed(BURST_EACH)).min(signed(BURST + BURST_EACH * u64::from(self.attempts)));
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.left = self.left.min(self.most());
    }

    /// Counts what was read.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Next {
        let bytes = bytes as u64;
        self.at_once -= signed(bytes.max(LEAST));
        if self.at_once < 0 || bytes > self.left {
            self.fill(now);
        }
        let Some(left) = self.left.checked_sub(bytes) else {
            return Next::HangUp;
        };
        self.left = left;
        if self.at_once >= 0 {
            return Next::Read;
        }
        let owed =
            Duration::from_secs(self.at_once.unsigned_abs()) / u32::try_from(BYTES_PER_SECOND).unwrap_or(1);
        Next::Wait(owed.min(LONGEST_WAIT))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let grown = |per_second: u64| per_second.saturating_mul(passed) / 1_000;
        // Less than a byte of the slower one would be lost by filling too often.
        if grown(TRICKLE_PER_SECOND) == 0 {
            return;
        }
        self.filled_at = now;
        self.left = (self.left + grown(TRICKLE_PER_SECOND)).min(self.most());
        let most = signed(BURST + BURST_EACH * u64::from(self.attempts));
        self.at_once = self
            .at_once
            .saturating_add(signed(grown(BYTES_PER_SECOND)))
            .min(most);
    }

    fn most(&self) -> u64 {
        EACH * u64::from(self.attempts) + BETWEEN
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads without end. Returns how many bytes came before the hanging up, in how many reads, and how long it took.
    fn flood(allowance: &mut Allowance, size: usize, mut now: Instant) -> (u64, u64, Duration) {
        let start = now;
        let (mut bytes, mut reads) = (0, 0);
        loop {
            match allowance.take(size, now) {
                Next::Read => {}
                Next::Wait(wait) => now += wait,
                Next::HangUp => return (bytes, reads, now - start),
            }
            bytes += size as u64;
            reads += 1;
        }
    }

    #[test]
    fn a_flood_is_slowed_down_and_then_hung_up_on() {
        let now = Instant::now();
        let (bytes, _, took) = flood(&mut Allowance::new(now), 8_192, now);
        assert!((EACH..=EACH + BETWEEN + 8_192).contains(&bytes), "{bytes}");
        assert!(took >= Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn single_bytes_are_read_no_more_often_than_the_speed_allows() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let mut clock = now;
        for _ in 0..1_000 {
            if let Next::Wait(wait) = allowance.take(1, clock) {
                clock += wait;
            }
        }
        let took = clock - now;
        assert!(took >= Duration::from_secs(6), "{took:?}");
    }

    #[test]
    fn an_answer_is_read_at_once_however_many_there_were() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..10_000 {
            for size in [300, 8_192, 4_096] {
                assert_eq!(allowance.take(size, now), Next::Read);
            }
            allowance.end();
            allowance.begin();
        }
    }

    #[test]
    fn what_many_attempts_left_over_is_not_saved_up() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..1_000 {
            allowance.begin();
        }
        for _ in 0..=1_000 {
            allowance.end();
        }
        let (bytes, ..) = flood(&mut allowance, 1_024, now);
        assert!(bytes <= BETWEEN + 1_024, "{bytes}");
    }

    #[test]
    fn an_idle_connection_may_ping_for_ever() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        allowance.end();
        for _ in 0..10_000 {
            now += Duration::from_secs(1);
            assert_eq!(allowance.take(40, now), Next::Read);
        }
    }
}
