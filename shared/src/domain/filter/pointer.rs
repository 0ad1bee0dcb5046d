//! JSON pointers (RFC 6901).

use std::cmp::Ordering;
use std::sync::Arc;

/// A JSON pointer's steps, unescaped. Pointers stand in the order of their steps: what is below a value stands right
/// after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(Arc<[Step]>);

/// A member's name, or an element's index as it is written. The shorter comes first: names of different lengths are
/// told apart without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step(Box<str>);

impl Step {
    fn cmp_to(&self, name: &str) -> Ordering {
        let lengths = self.0.len().cmp(&name.len());
        lengths.then_with(|| (*self.0).cmp(name))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cmp_to(&other.0)
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Pointer {
    /// Reads a pointer; `None` when the text is no pointer.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Arc::new([])));
        }
        let steps = text.strip_prefix('/')?.split('/').map(unescape);
        steps
            .map(|step| Some(Step(step?.into())))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// Reverses RFC 6901's escapes; `None` for an escape that RFC 6901 does not have.
fn unescape(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let rest = match part.split_at_checked(1)? {
            ("0", rest) => {
                plain.push('~');
                rest
            }
            ("1", rest) => {
                plain.push('/');
                rest
            }
            _ => return None,
        };
        plain.push_str(rest);
    }
    Some(plain)
}

/// Pointers in their order, each once. Takes up no more than their steps, however many have their beginnings in common.
#[derive(Clone, Debug, Default)]
pub struct Pointers(Vec<Pointer>);

/// A value of a document that some of the [`Pointers`] lead to or through: those from `from` to before `to`, which have
/// their first `depth` steps in common.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    from: usize,
    to: usize,
    depth: usize,
}

impl Pointers {
    /// Sorts pointers.
    pub fn new(pointers: impl Iterator<Item = Pointer>) -> Self {
        let mut pointers: Vec<_> = pointers.collect();
        pointers.sort_unstable();
        pointers.dedup();
        Self(pointers)
    }

    /// Where a pointer that is one of them stands.
    pub fn index(&self, pointer: &Pointer) -> Option<usize> {
        self.0.binary_search(pointer).ok()
    }

    /// The whole document.
    pub fn root(&self) -> Place {
        Place {
            from: 0,
            to: self.0.len(),
            depth: 0,
        }
    }

    /// The index of the pointer that ends here.
    pub fn ending_at(&self, place: Place) -> Option<usize> {
        let first = self.0[place.from..place.to].first()?;
        (first.0.len() == place.depth).then_some(place.from)
    }

    /// Whether some lead on to what is in this value.
    pub fn lead_on(&self, place: Place) -> bool {
        let last = self.0[place.from..place.to].last();
        last.is_some_and(|pointer| pointer.0.len() > place.depth)
    }

    /// The member or element of this name, if some lead there.
    pub fn child(&self, place: Place, name: &str) -> Option<Place> {
        let inside = &self.0[place.from..place.to];
        let step_is = |pointer: &Pointer, ordering: fn(Ordering) -> bool| match pointer.0.get(place.depth) {
            Some(step) => ordering(step.cmp_to(name)),
            None => true,
        };
        let start = inside.partition_point(|pointer| step_is(pointer, Ordering::is_lt));
        let length = inside[start..].partition_point(|pointer| step_is(pointer, Ordering::is_le));
        (length > 0).then(|| Place {
            from: place.from + start,
            to: place.from + start + length,
            depth: place.depth + 1,
        })
    }
}

impl Place {
    /// The indexes of the pointers that lead here or further on.
    pub fn indexes(self) -> std::ops::Range<usize> {
        self.from..self.to
    }
}
