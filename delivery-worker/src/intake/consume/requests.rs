//! Requests for the frames of one stream: how many frames the open ones may still bring, and when the next one is due.
//!
//! A worker that listens always has a request open. It sends the next one before NATS ends the last, so that one is open whenever
//! a frame comes. NATS ends each request after a few seconds. So a worker that stands still is handed no more frames than its
//! last requests asked for.
//!
//! Requests are counted together, because a frame does not say which one brought it. When a server of a cluster fails, a request
//! or its end may be lost, and the count is too high. So a request that renews another is not renewed itself: if no full one is
//! due until both are over, the count begins anew.

use std::time::Duration;

use tokio::time::Instant;

use crate::intake::consume::batch::MAX_BATCH_FRAMES;

/// The frames of a request, and of one that only renews another. The server sends ahead no more than both together.
const FRAMES: usize = MAX_BATCH_FRAMES;
const FEW_FRAMES: usize = FRAMES / 2;

/// How long a request stays open.
pub(super) const EXPIRES: Duration = Duration::from_secs(4);

/// How long after a request a worker that listens sends the next one, at the latest.
const RENEWAL: Duration = Duration::from_secs(2);

/// How late an answer of NATS may be: it says when it ends a request, and it answers a look at once.
const LATE: Duration = Duration::from_secs(1);

/// Pause after a request that was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// What is asked of NATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The most frames that it brings.
    pub frames: usize,
    /// Whether it asks only for frames that are there already.
    pub is_look: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Requests {
    /// Frames that the open requests may still bring.
    open: usize,
    /// The last request, and when it was sent.
    last: Request,
    sent_at: Instant,
    /// When the first request was sent after which nothing has come.
    silent_since: Option<Instant>,
    /// When a worker that listens may send the next request, and when a worker that looks sends its next look.
    not_before: Instant,
    look_at: Instant,
}

impl Requests {
    /// No request is open, and the first is due `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            open: 0,
            last: Request {
                frames: FRAMES,
                is_look: false,
            },
            sent_at: now,
            silent_since: None,
            not_before: now,
            look_at: now,
        }
    }

    /// The request that is due `now`, of a worker that `listens` or one that looks.
    pub(super) fn next(&self, listens: bool, now: Instant) -> Option<Request> {
        let (at, frames) = self.due(listens)?;
        (at <= now).then_some(Request {
            frames,
            is_look: !listens,
        })
    }

    /// When the next request is due. `None` while enough is asked for.
    pub(super) fn due_at(&self, listens: bool) -> Option<Instant> {
        self.due(listens).map(|(at, _)| at)
    }

    /// The same, with how many frames it asks for.
    fn due(&self, listens: bool) -> Option<(Instant, usize)> {
        if !listens {
            return (self.open == 0).then_some((self.look_at, FRAMES));
        }
        if self.open <= FEW_FRAMES {
            return Some((self.not_before, FRAMES));
        }
        let is_full = self.last.frames == FRAMES;
        (is_full && self.open <= FRAMES).then(|| (self.sent_at + RENEWAL, FEW_FRAMES))
    }

    /// Notes that a request was sent.
    pub(super) fn sent(&mut self, request: Request, now: Instant) {
        self.open += request.frames;
        (self.last, self.sent_at) = (request, now);
        self.silent_since.get_or_insert(now);
    }

    /// Whether the last request was a look.
    pub(super) fn is_look(&self) -> bool {
        self.last.is_look
    }

    /// Notes that something has come from NATS.
    pub(super) fn heard(&mut self) {
        self.silent_since = None;
    }

    /// Notes that a frame has come.
    pub(super) fn came(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Notes that NATS has ended a request. `left` of its frames have not come; `None` says that all requests have ended. A
    /// worker that looks sends its next look at `look_at`.
    pub(super) fn ended(&mut self, left: Option<usize>, look_at: Instant) {
        self.open = left.map_or(0, |left| self.open.saturating_sub(left));
        self.look_at = look_at;
    }

    /// Notes that NATS has refused a request. It would refuse the next one too if that were sent `now`.
    pub(super) fn refused(&mut self, now: Instant) {
        self.not_before = now + REFUSED_PAUSE;
    }

    /// When the open requests are over, although NATS has not said so.
    pub(super) fn over_at(&self) -> Option<Instant> {
        let time = if self.is_look() { LATE } else { EXPIRES + LATE };
        (self.open > 0).then(|| self.sent_at + time)
    }

    /// Notes that the open requests are over. Returns for how long NATS has been silent after a request.
    pub(super) fn give_up(&mut self, now: Instant) -> Duration {
        self.open = 0;
        self.silent_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: Request = Request {
        frames: FRAMES,
        is_look: false,
    };
    const RENEW: Request = Request {
        frames: FEW_FRAMES,
        is_look: false,
    };
    const LOOK: Request = Request {
        frames: FRAMES,
        is_look: true,
    };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_worker_that_listens_has_a_request_open_at_every_moment_of_silence() {
        let start = Instant::now();
        let mut requests = Requests::new(start);
        let mut open: Vec<(Instant, Request)> = Vec::new();
        for second in 0..60 {
            let now = start + SECOND * second;
            open.retain(|(end, request)| {
                let is_over = *end <= now;
                if is_over {
                    requests.ended(Some(request.frames), now);
                    requests.heard();
                }
                !is_over
            });
            assert!(second == 0 || !open.is_empty(), "after {second} s");
            if let Some(request) = requests.next(true, now) {
                requests.sent(request, now);
                open.push((now + EXPIRES, request));
            }
            let frames: usize = open.iter().map(|(_, request)| request.frames).sum();
            assert!(frames <= FRAMES + FEW_FRAMES, "{frames} after {second} s");
        }
    }

    #[test]
    fn a_worker_under_load_asks_for_more_before_the_last_frame_has_come() {
        let now = Instant::now();
        let mut requests = Requests::new(now);
        requests.sent(LISTEN, now);
        assert_eq!(requests.next(true, now), None);
        for _ in 0..FEW_FRAMES {
            requests.came();
        }
        assert_eq!(requests.next(true, now), Some(LISTEN));
        requests.sent(LISTEN, now);
        assert_eq!(requests.due_at(true), None, "it has asked for enough");
        requests.ended(Some(0), now);
        assert_eq!(requests.due_at(true), None, "nothing was left of the first one");
    }

    #[test]
    fn a_request_is_renewed_before_it_ends() {
        let now = Instant::now();
        let mut requests = Requests::new(now);
        requests.sent(LISTEN, now);
        assert_eq!(requests.due_at(true), Some(now + RENEWAL));
        assert_eq!(requests.next(true, now + RENEWAL), Some(RENEW));
    }

    #[test]
    fn a_request_whose_end_is_lost_holds_later_ones_up_only_until_it_must_be_over() {
        let start = Instant::now();
        let mut requests = Requests::new(start);
        // Nothing comes of the first one.
        requests.sent(LISTEN, start);
        let renewed_at = start + RENEWAL;
        requests.sent(RENEW, renewed_at);
        for _ in 0..FEW_FRAMES {
            requests.heard();
            requests.came();
        }
        assert_eq!(requests.due_at(true), None, "the first one seems to be open");
        let over_at = renewed_at + EXPIRES + LATE;
        assert_eq!(requests.over_at(), Some(over_at));
        assert_eq!(requests.give_up(over_at), Duration::ZERO);
        assert_eq!(requests.next(true, over_at), Some(LISTEN));
    }

    #[test]
    fn a_worker_looks_only_when_nothing_is_open_and_again_after_its_pause() {
        let now = Instant::now();
        let mut requests = Requests::new(now);
        requests.sent(LISTEN, now);
        assert_eq!(requests.due_at(false), None);
        requests.ended(Some(FRAMES), now + SECOND);
        assert_eq!(requests.next(false, now), None);
        assert_eq!(requests.next(false, now + SECOND), Some(LOOK));
        assert_eq!(requests.next(true, now), Some(LISTEN), "to listen needs no pause");
    }

    #[test]
    fn a_request_that_is_refused_is_not_repeated_at_once() {
        let now = Instant::now();
        let mut requests = Requests::new(now);
        requests.sent(LISTEN, now);
        requests.refused(now);
        requests.ended(None, now);
        assert_eq!(requests.next(true, now), None);
        assert_eq!(requests.next(true, now + REFUSED_PAUSE), Some(LISTEN));
    }

    #[test]
    fn what_is_not_answered_is_given_up_and_silence_goes_on_over_the_next_request() {
        let now = Instant::now();
        let mut requests = Requests::new(now);
        assert_eq!(requests.over_at(), None);
        requests.sent(LOOK, now);
        assert!(requests.is_look());
        assert_eq!(requests.over_at(), Some(now + LATE));
        assert_eq!(requests.give_up(now + LATE), LATE);
        requests.sent(LISTEN, now + LATE);
        let over_at = now + LATE + EXPIRES + LATE;
        assert_eq!(requests.over_at(), Some(over_at));
        assert!(requests.give_up(over_at) >= EXPIRES);
        requests.sent(LISTEN, over_at);
        requests.heard();
        assert_eq!(requests.give_up(over_at + EXPIRES), Duration::ZERO);
    }
}
