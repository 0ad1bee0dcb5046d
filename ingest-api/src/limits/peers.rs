//! Which replicas there are, by the signs of life that each sends.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::cluster::Cluster;
use crate::limits::message::ReplicaId;

/// A replica that was not heard for this long counts as gone.
const SILENCE: Duration = Duration::from_secs(3);

/// The replicas that were heard lately.
#[derive(Debug)]
pub(super) struct Peers {
    own: ReplicaId,
    heard: HashMap<ReplicaId, Instant>,
    own_heard: Instant,
    known: Cluster,
}

impl Peers {
    /// This replica alone.
    pub(super) fn new(own: ReplicaId, now: Instant) -> Self {
        Self {
            own,
            heard: HashMap::new(),
            own_heard: now,
            known: Cluster::ALONE,
        }
    }

    /// This replica.
    pub(super) fn own(&self) -> ReplicaId {
        self.own
    }

    /// Notes a sign of life. True for a replica that was not there before.
    pub(super) fn hear(&mut self, from: ReplicaId, now: Instant) -> bool {
        if from == self.own {
            self.own_heard = now;
            return false;
        }
        self.heard.insert(from, now).is_none()
    }

    /// Whether a replica is among those that were heard.
    pub(super) fn knows(&self, id: ReplicaId) -> bool {
        self.heard.contains_key(&id)
    }

    /// A replica stops.
    pub(super) fn leave(&mut self, from: ReplicaId) {
        self.heard.remove(&from);
    }

    /// Whether this replica welcomes `newcomer`: it has the lowest id of the replicas that were there before.
    pub(super) fn welcomes(&self, newcomer: ReplicaId) -> bool {
        let mut others = self.heard.keys().filter(|id| **id != newcomer);
        others.all(|id| self.own < *id)
    }

    /// Counts the replicas. While this one is cut off it keeps the last count.
    pub(super) fn count(&mut self, connected: bool, now: Instant) -> Cluster {
        let cut_off = !connected || now.duration_since(self.own_heard) > SILENCE;
        if cut_off {
            self.known.cut_off = true;
            return self.known;
        }
        if self.known.cut_off {
            // Nobody could be heard: give everyone time to be heard again.
            self.heard.values_mut().for_each(|heard| *heard = now);
        }
        self.heard
            .retain(|_, heard| now.duration_since(*heard) <= SILENCE);
        self.known = Cluster {
            replicas: u32::try_from(self.heard.len()).map_or(u32::MAX, |others| others.saturating_add(1)),
            cut_off: false,
        };
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(count: usize) -> Vec<ReplicaId> {
        let mut ids: Vec<_> = (0..count).map(|_| ReplicaId::generate()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn replicas_are_counted_while_they_are_heard() {
        let (ids, start) = (replicas(3), Instant::now());
        let mut peers = Peers::new(ids[0], start);
        assert_eq!(peers.count(true, start), Cluster::ALONE);
        assert!(peers.hear(ids[1], start) && peers.hear(ids[2], start));
        assert!(!peers.hear(ids[1], start) && !peers.hear(ids[0], start));
        assert_eq!(peers.count(true, start).replicas, 3);
        peers.leave(ids[2]);
        assert_eq!(peers.count(true, start).replicas, 2);
        let later = start + SILENCE * 2;
        peers.hear(ids[0], later);
        assert_eq!(peers.count(true, later), Cluster::ALONE);
    }

    #[test]
    fn a_replica_that_is_cut_off_keeps_the_count_and_gives_everyone_time_to_return() {
        let (ids, start) = (replicas(2), Instant::now());
        let two = |cut_off| Cluster { replicas: 2, cut_off };
        let mut peers = Peers::new(ids[0], start);
        peers.hear(ids[1], start);
        assert_eq!(peers.count(true, start), two(false));
        assert_eq!(peers.count(false, start), two(true));
        let later = start + SILENCE * 10;
        assert_eq!(
            peers.count(true, later),
            two(true),
            "its own messages do not return"
        );
        peers.hear(ids[0], later);
        assert_eq!(peers.count(true, later), two(false));
        let much_later = later + SILENCE * 2;
        peers.hear(ids[0], much_later);
        assert_eq!(peers.count(true, much_later), Cluster::ALONE);
    }

    #[test]
    fn exactly_one_of_those_that_were_there_welcomes_a_newcomer() {
        let (ids, now) = (replicas(4), Instant::now());
        for newcomer in &ids {
            let welcoming = ids.iter().filter(|own| *own != newcomer).filter(|own| {
                let mut peers = Peers::new(**own, now);
                for id in &ids {
                    peers.hear(*id, now);
                }
                peers.welcomes(*newcomer)
            });
            assert_eq!(welcoming.count(), 1);
        }
    }
}
