//! The markers that a replica sends itself, to know which signals it has heard. Pure: the connection is elsewhere.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use crate::keys::changes::hearing::Span;
use crate::keys::moment::Moment;

/// Markers on their way that are remembered. One is sent four times a second at the most.
const MOST: usize = 64;

/// The least time between two markers.
const PACE: Duration = Duration::from_millis(250);

/// The age of what is known at which a marker is sent: the look at Postgres that comes twice a second has not renewed it.
/// Every replica hears every marker, so while Postgres answers there are none. What is known is good for a second.
const STALE: Duration = Duration::from_millis(600);

/// A marker on its way.
#[derive(Debug)]
struct Sent {
    number: u64,
    connection: u64,
    at: Moment,
}

/// Markers that come back in the order in which they were sent, as long as none was lost.
#[derive(Debug)]
struct Row {
    connection: u64,
    last: u64,
    since: Moment,
}

/// What the return of a marker shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    /// It is another replica's, or from an earlier connection.
    Foreign,
    /// The subscription is in force from now on.
    First,
    /// All signals of this stretch were heard.
    Again(Span),
}

/// The markers of one replica.
#[derive(Debug)]
pub(crate) struct Markers {
    own: u64,
    number: u64,
    sent: VecDeque<Sent>,
    row: Option<Row>,
    /// When one was last sent, or could not be.
    tried: Moment,
}

impl Markers {
    /// A replica that has sent none.
    pub(crate) fn new() -> Self {
        Self {
            own: Uuid::new_v4().as_u64_pair().1,
            number: 0,
            sent: VecDeque::new(),
            row: None,
            tried: Moment::START,
        }
    }

    /// When the next one is to be sent. Until one has come back over this connection they follow each other; then they
    /// are sent when nothing else has shown what was changed after `known_until`.
    pub(crate) fn due(&self, connection: u64, known_until: Moment) -> Moment {
        let soon = self.tried + PACE;
        let is_in_force = self.row.as_ref().is_some_and(|row| row.connection == connection);
        if is_in_force {
            soon.max(known_until + STALE)
        } else {
            soon
        }
    }

    /// Notes that one could not be sent now.
    pub(crate) fn skip(&mut self, now: Moment) {
        self.tried = now;
    }

    /// The next marker, to be sent over this connection now.
    pub(crate) fn next(&mut self, connection: u64, now: Moment) -> Uuid {
        self.tried = now;
        self.number += 1;
        self.sent.push_back(Sent {
            number: self.number,
            connection,
            at: now,
        });
        if self.sent.len() > MOST {
            self.sent.pop_front();
        }
        Uuid::from_u64_pair(self.number, self.own)
    }

    /// Notes a marker that came over this connection.
    pub(crate) fn returned(&mut self, marker: Uuid, connection: u64, now: Moment) -> Returned {
        let (number, whose) = marker.as_u64_pair();
        if whose != self.own {
            return Returned::Foreign;
        }
        self.sent.retain(|sent| sent.number >= number);
        let sent = self.sent.pop_front_if(|sent| sent.number == number);
        let Some(sent) = sent.filter(|sent| sent.connection == connection) else {
            self.row = None;
            return Returned::Foreign;
        };
        let in_row = |row: &Row| row.connection == connection && row.last + 1 == number;
        if let Some(row) = self.row.as_mut().filter(|row| in_row(row)) {
            row.last = number;
            return Returned::Again(Span {
                from: row.since,
                until: sent.at,
            });
        }
        self.row = Some(Row {
            connection,
            last: number,
            since: now,
        });
        Returned::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_marker_shows_what_was_heard_since_the_first_one_came_back() {
        let mut markers = Markers::new();
        let (one, two) = (markers.next(1, at(1)), markers.next(1, at(5)));
        assert_eq!(markers.returned(one, 1, at(2)), Returned::First);
        let span = Span {
            from: at(2),
            until: at(5),
        };
        assert_eq!(markers.returned(two, 1, at(6)), Returned::Again(span));
        assert_eq!(
            markers.returned(two, 1, at(6)),
            Returned::Foreign,
            "it came back before"
        );
    }

    #[test]
    fn after_another_connection_or_a_lost_marker_it_begins_anew() {
        let mut markers = Markers::new();
        let sent: Vec<_> = (1..=4).map(|second| markers.next(1, at(second))).collect();
        assert_eq!(markers.returned(sent[0], 1, at(1)), Returned::First);
        assert_eq!(
            markers.returned(sent[2], 1, at(4)),
            Returned::First,
            "one is missing"
        );
        assert_eq!(markers.returned(sent[3], 2, at(5)), Returned::Foreign);
        let new = markers.next(2, at(6));
        assert_eq!(markers.returned(new, 2, at(6)), Returned::First);
    }

    #[test]
    fn markers_follow_each_other_until_one_returns_and_then_wait_until_what_is_known_is_stale() {
        let mut markers = Markers::new();
        assert!(markers.due(1, at(0)) < at(1), "the first one is sent at once");
        let first = markers.next(1, at(1));
        assert_eq!(markers.due(1, at(1)), at(1) + PACE);
        markers.skip(at(2));
        assert_eq!(markers.due(1, at(1)), at(2) + PACE);
        assert_eq!(markers.returned(first, 1, at(3)), Returned::First);
        assert_eq!(markers.due(1, at(3)), at(3) + STALE);
        assert_eq!(markers.due(1, at(1)), at(2) + PACE, "it is stale");
        assert_eq!(
            markers.due(2, at(3)),
            at(2) + PACE,
            "the connection is another one"
        );
    }

    #[test]
    fn markers_of_others_show_nothing() {
        let mut markers = Markers::new();
        let (own, other) = (markers.next(1, at(1)), Markers::new().next(1, at(1)));
        assert_eq!(markers.returned(other, 1, at(1)), Returned::Foreign);
        assert_eq!(markers.returned(own, 1, at(1)), Returned::First);
    }
}
