//! Creations that wait for the next statement of their maker.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Answer, Creation, Maker};

/// Most creations of one statement. Others wait for its locks while it makes them; a larger one would cost hardly less for each.
const MAX_GROUP: usize = 32;

/// A creation whose request waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What is asked for.
    pub creation: Creation,
    /// Where the request waits. Closed when it has gone.
    pub answer: oneshot::Sender<Answer>,
}

impl Waiting {
    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// A queue for each maker whose statement is under way, and none for any other.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues(Arc<Mutex<HashMap<Maker, VecDeque<Waiting>>>>);

impl Queues {
    /// Lets a creation wait. Returns where its answer comes. The first one of a maker also gets the maker's turns, which must be
    /// taken then.
    pub(super) fn enter(
        &self,
        maker: Maker,
        creation: Creation,
    ) -> (oneshot::Receiver<Answer>, Option<Turns>) {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { creation, answer };
        let turns = match self.lock().entry(maker) {
            Entry::Occupied(mut queue) => {
                let queue = queue.get_mut();
                // So no more wait here than there are requests.
                queue.retain(Waiting::is_awaited);
                queue.push_back(waiting);
                None
            }
            Entry::Vacant(place) => {
                let turns = Turns {
                    queues: self.clone(),
                    maker: place.key().clone(),
                    have_ended: false,
                };
                place.insert(VecDeque::from([waiting]));
                Some(turns)
            }
        };
        (answered, turns)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Maker, VecDeque<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turns of one maker. While they are there, its creations gather. Dropped before their end, they drop those that wait.
#[derive(Debug)]
pub(super) struct Turns {
    queues: Queues,
    maker: Maker,
    have_ended: bool,
}

impl Turns {
    /// Whose they are.
    pub(super) fn maker(&self) -> &Maker {
        &self.maker
    }

    /// Takes the creations that have waited longest, at most [`MAX_GROUP`]. None when no request waits: these turns have ended,
    /// and the next creation of this maker begins new ones.
    pub(super) fn next_group(&mut self) -> Option<Vec<Waiting>> {
        if self.have_ended {
            return None;
        }
        let mut queues = self.queues.lock();
        let mut group = Vec::new();
        if let Some(queue) = queues.get_mut(&self.maker) {
            queue.retain(Waiting::is_awaited);
            group.extend(queue.drain(..queue.len().min(MAX_GROUP)));
        }
        if group.is_empty() {
            queues.remove(&self.maker);
            self.have_ended = true;
            return None;
        }
        Some(group)
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if !self.have_ended {
            self.queues.lock().remove(&self.maker);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::id::OrgId;

    use super::*;

    fn maker(actor: &str) -> Maker {
        Maker {
            org_id: OrgId::from(uuid::Uuid::nil()),
            actor: actor.to_owned(),
            address: String::new(),
        }
    }

    fn creation(row: usize) -> Creation {
        Creation {
            row: row.to_string(),
            tenant: None,
            may_make_tenant: false,
        }
    }

    fn rows(group: Option<Vec<Waiting>>) -> Vec<String> {
        let group = group.into_iter().flatten();
        group.map(|waiting| waiting.creation.row).collect()
    }

    #[tokio::test]
    async fn one_that_comes_alone_has_its_turn_at_once_and_leaves_nothing_behind() {
        let queues = Queues::default();
        let (answered, turns) = queues.enter(maker("a"), creation(1));
        let mut turns = turns.expect("nobody else is there");
        let group = turns.next_group().expect("it waits");
        assert_eq!(group.len(), 1);
        for waiting in group {
            waiting.answer.send(Ok(None)).expect("the request waits");
        }
        assert!(
            answered
                .await
                .expect("it is answered")
                .expect("it is made")
                .is_none()
        );
        assert!(turns.next_group().is_none() && queues.lock().is_empty());
    }

    #[test]
    fn those_that_come_meanwhile_go_together_in_their_order() {
        let queues = Queues::default();
        let (_first, turns) = queues.enter(maker("a"), creation(0));
        let mut turns = turns.expect("nobody else is there");
        assert_eq!(rows(turns.next_group()), ["0"]);
        let others: Vec<_> = (1..=MAX_GROUP + 1)
            .map(|row| queues.enter(maker("a"), creation(row)))
            .collect();
        assert!(others.iter().all(|(_, turns)| turns.is_none()));
        let expected: Vec<_> = (1..=MAX_GROUP).map(|row| row.to_string()).collect();
        assert_eq!(rows(turns.next_group()), expected);
        assert_eq!(rows(turns.next_group()), [(MAX_GROUP + 1).to_string()]);
        assert!(turns.next_group().is_none() && queues.lock().is_empty());
    }

    #[test]
    fn makers_do_not_wait_for_each_other() {
        let queues = Queues::default();
        let [(_one, of_one), (_other, of_other)] =
            ["one", "other"].map(|name| queues.enter(maker(name), creation(0)));
        let mut of_one = of_one.expect("nobody else is there");
        assert_eq!(rows(of_one.next_group()), ["0"]);
        assert_eq!(rows(of_other.expect("nobody else is there").next_group()), ["0"]);
        let (_again, turns) = queues.enter(maker("one"), creation(1));
        assert!(turns.is_none());
        let (_again, turns) = queues.enter(maker("other"), creation(1));
        assert!(turns.is_some(), "the turns of the other one were given up");
    }

    #[test]
    fn a_request_that_has_gone_is_left_out_and_takes_no_memory() {
        let queues = Queues::default();
        let (_first, turns) = queues.enter(maker("a"), creation(0));
        let mut turns = turns.expect("nobody else is there");
        assert_eq!(rows(turns.next_group()), ["0"]);
        for row in 1..100 {
            drop(queues.enter(maker("a"), creation(row)));
        }
        assert_eq!(queues.lock()[&maker("a")].len(), 1);
        let (_last, _) = queues.enter(maker("a"), creation(100));
        assert_eq!(rows(turns.next_group()), ["100"]);
    }

    #[tokio::test]
    async fn turns_that_are_dropped_leave_nobody_waiting() {
        let queues = Queues::default();
        let (first, turns) = queues.enter(maker("a"), creation(0));
        let (second, _) = queues.enter(maker("a"), creation(1));
        drop(turns);
        assert!(first.await.is_err() && second.await.is_err());
        let (_third, turns) = queues.enter(maker("a"), creation(2));
        let mut turns = turns.expect("nobody else is there");
        assert_eq!(rows(turns.next_group()), ["2"]);
        assert!(turns.next_group().is_none());
        let (_fourth, of_fourth) = queues.enter(maker("a"), creation(3));
        drop(turns);
        assert_eq!(rows(of_fourth.expect("nobody else is there").next_group()), ["3"]);
    }
}
