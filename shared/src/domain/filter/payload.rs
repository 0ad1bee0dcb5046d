//! A filter: its text, read and checked.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use thiserror::Error;

use super::condition::conditions;
use super::plan::{Next, Node, Question, Subject, plan};
use super::pointer::Pointer;

/// Longest filter, in bytes.
pub const MAX_BYTES: usize = 4_096;

/// Most conditions in one filter, in all that is nested in it. What stands at one pointer is one.
pub const MAX_CONDITIONS: usize = 64;

/// Deepest nesting of `any`, `all` and `not`.
pub const MAX_DEPTH: usize = 8;

/// How many bytes of a filter's text count as one step of its evaluation.
const BYTES_OF_A_STEP: usize = 16;

/// A filter that was read and can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadFilter {
    pub(super) questions: Vec<Question>,
    pub(super) first: Next,
    /// Some of its conditions search whole texts.
    pub(super) searches: bool,
    asks_data: bool,
    steps: u32,
}

/// What is wrong with a filter.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// Not JSON, or not an object.
    #[error("must be a JSON object of pointers and conditions")]
    NotAnObject,
    /// Too long.
    #[error("must have 1 to {MAX_CONDITIONS} conditions and at most {MAX_BYTES} bytes")]
    Size,
    /// Nested too deep.
    #[error("must not nest `any`, `all` and `not` more than {MAX_DEPTH} deep")]
    Depth,
    /// A key is not a JSON pointer, and no other name that a filter knows.
    #[error(
        "{0:?} is not a JSON pointer, such as \"/order/total\", and not `type`, `tenant`, `any`, `all` or `not`"
    )]
    Pointer(String),
    /// What must be a list of filters is none.
    #[error("`{0}` must be a list of one or more filters")]
    List(&'static str),
    /// A condition is not understood.
    #[error("{pointer:?}: {detail}")]
    Condition {
        /// Whose condition.
        pointer: String,
        /// What is wrong with it.
        detail: &'static str,
    },
}

impl PayloadFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`], with the pointer that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Self::parse_with_paths(text).map(|(filter, _)| filter)
    }

    /// Reads a filter, and tells where in its text each of its conditions stands, as JSON pointers by the numbers of
    /// [`Decision::by`](super::Decision::by).
    ///
    /// # Errors
    /// [`FilterError`], with the pointer that is wrong.
    pub fn parse_with_paths(text: &str) -> Result<(Self, Vec<String>), FilterError> {
        if text.len() > MAX_BYTES {
            return Err(FilterError::Size);
        }
        let mut reader = Reader::default();
        let root = reader.filter(text, &Level::ROOT)?;
        if reader.count > MAX_CONDITIONS {
            return Err(FilterError::Size);
        }
        let (questions, first, paths) = plan(root);
        let steps = questions.len() + text.len() / BYTES_OF_A_STEP;
        let filter = Self {
            searches: questions.iter().any(|question| question.condition.searches()),
            asks_data: questions
                .iter()
                .any(|question| matches!(question.subject, Subject::Data(_))),
            questions,
            first,
            steps: u32::try_from(steps).unwrap_or(u32::MAX),
        };
        Ok((filter, paths))
    }

    /// The most that evaluating it takes in steps of some ten nanoseconds, whatever the payload is, but for
    /// [searching](super::FilterSet::steps) in long texts.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// How many of its conditions are about `data`.
    pub fn pointers(&self) -> usize {
        let is_data = |question: &&Question| matches!(question.subject, Subject::Data(_));
        self.questions.iter().filter(is_data).count()
    }

    /// Whether one of its conditions is about `data`. Otherwise it asks about events with any payload.
    pub fn asks_data(&self) -> bool {
        self.asks_data
    }
}

/// Where in a filter's text something stands.
struct Level {
    path: String,
    depth: usize,
    /// Within an odd number of `not`.
    negated: bool,
}

impl Level {
    const ROOT: Self = Self {
        path: String::new(),
        depth: 0,
        negated: false,
    };

    fn inside(&self, name: &str) -> Self {
        Self {
            path: format!("{}/{}", self.path, name.replace('~', "~0").replace('/', "~1")),
            depth: self.depth + 1,
            negated: self.negated,
        }
    }
}

/// Counts conditions while it reads.
#[derive(Default)]
struct Reader {
    count: usize,
}

impl Reader {
    /// Reads a filter: all of its members hold. Negations are carried down to the conditions, so that what cannot be read makes
    /// none of them true.
    fn filter(&mut self, text: &str, level: &Level) -> Result<Node, FilterError> {
        if level.depth > 2 * MAX_DEPTH {
            return Err(FilterError::Depth);
        }
        // As texts: numbers are compared as they are written.
        let object: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|_| FilterError::NotAnObject)?;
        if object.is_empty() {
            return Err(FilterError::Size);
        }
        let members = object
            .into_iter()
            .map(|(name, value)| self.member(name, value.get(), level));
        let members = members.collect::<Result<_, _>>()?;
        Ok(Node::all(members, level.negated))
    }

    fn member(&mut self, name: String, value: &str, level: &Level) -> Result<Node, FilterError> {
        let inside = level.inside(&name);
        match &*name {
            "any" => Ok(Node::all(self.list("any", value, &inside)?, !level.negated)),
            "all" => Ok(Node::all(self.list("all", value, &inside)?, level.negated)),
            "not" => self.filter(
                value,
                &Level {
                    negated: !level.negated,
                    depth: inside.depth + 1,
                    ..inside
                },
            ),
            "type" => self.conditions(&Subject::Type, name, value, &inside),
            "tenant" => self.conditions(&Subject::Tenant, name, value, &inside),
            _ => match Pointer::parse(&name) {
                Some(pointer) => self.conditions(&Subject::Data(pointer), name, value, &inside),
                None => Err(FilterError::Pointer(name)),
            },
        }
    }

    fn list(&mut self, name: &'static str, value: &str, level: &Level) -> Result<Vec<Node>, FilterError> {
        let filters: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| FilterError::List(name))?;
        if filters.is_empty() {
            return Err(FilterError::List(name));
        }
        let filters = filters.into_iter().enumerate();
        filters
            .map(|(index, filter)| self.filter(filter.get(), &level.inside(&index.to_string())))
            .collect()
    }

    fn conditions(
        &mut self,
        subject: &Subject,
        pointer: String,
        value: &str,
        level: &Level,
    ) -> Result<Node, FilterError> {
        self.count += 1;
        let conditions = conditions(value).map_err(|detail| FilterError::Condition { pointer, detail })?;
        let asked = conditions.into_iter().map(|(operator, condition)| Node::Ask {
            subject: subject.clone(),
            condition: condition.negated(level.negated),
            path: operator.map_or_else(|| level.path.clone(), |operator| level.inside(&operator).path),
        });
        Ok(Node::all(asked.collect(), level.negated))
    }
}
