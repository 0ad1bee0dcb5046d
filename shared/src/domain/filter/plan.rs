//! The order in which a filter's conditions are asked: each says which one comes next when it holds, and when it does not.

use super::condition::Condition;
use super::pointer::Pointer;

/// What a condition is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// What a pointer leads to in `data`.
    Data(Pointer),
    /// The event's type.
    Type,
    /// The event's tenant.
    Tenant,
}

/// What a filter says, without negations: they stand in its conditions.
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Ask {
        subject: Subject,
        condition: Condition,
        /// Where it stands in the filter's text.
        path: String,
    },
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub subject: Subject,
    pub condition: Condition,
    pub when_it_holds: Next,
    pub otherwise: Next,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// The question of this number is asked.
    Ask(usize),
    /// It is known whether the filter lets the event pass.
    Decided(bool),
}

impl Node {
    /// All of these, or, within a negation, one of them.
    pub(super) fn all(mut nodes: Vec<Self>, negated: bool) -> Self {
        match nodes.pop() {
            Some(only) if nodes.is_empty() => only,
            last => {
                nodes.extend(last);
                if negated {
                    Self::Any(nodes)
                } else {
                    Self::All(nodes)
                }
            }
        }
    }
}

/// The questions, which of them is the first, and where each stands in the filter's text.
pub(super) fn plan(root: Node) -> (Vec<Question>, Next, Vec<String>) {
    let mut plan = Plan::default();
    let first = plan.add(root, Next::Decided(true), Next::Decided(false));
    (plan.questions, first, plan.paths)
}

#[derive(Default)]
struct Plan {
    questions: Vec<Question>,
    paths: Vec<String>,
}

impl Plan {
    /// Adds what is to be asked, from its end to its beginning, and returns the beginning.
    fn add(&mut self, node: Node, when_it_holds: Next, otherwise: Next) -> Next {
        match node {
            Node::All(nodes) => {
                let nodes = nodes.into_iter().rev();
                nodes.fold(when_it_holds, |next, node| self.add(node, next, otherwise))
            }
            Node::Any(nodes) => {
                let nodes = nodes.into_iter().rev();
                nodes.fold(otherwise, |next, node| self.add(node, when_it_holds, next))
            }
            Node::Ask {
                subject,
                condition,
                path,
            } => {
                self.questions.push(Question {
                    subject,
                    condition,
                    when_it_holds,
                    otherwise,
                });
                self.paths.push(path);
                Next::Ask(self.questions.len() - 1)
            }
        }
    }
}
