//! Which event types an endpoint wants: exact ones, and prefixes.

use shared::domain::event::OPERATIONAL_TYPES;
use shared::domain::event_type::EventTypePattern;

/// The event types that an endpoint wants.
#[derive(Debug, Default)]
pub(crate) struct EventTypes {
    /// Every type that producers send. Notices go only to endpoints that name them.
    takes_all: bool,
    /// The other patterns, sorted, without those that another one covers. So only the last pattern that is not greater than
    /// a type can match it.
    patterns: Box<[Pattern]>,
}

/// Exact names stand after prefixes of the same text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    text: Box<str>,
    is_exact: bool,
}

impl Pattern {
    fn new(pattern: &EventTypePattern) -> Self {
        let prefix = pattern.prefix();
        Self {
            text: prefix.unwrap_or(pattern.as_str()).into(),
            is_exact: prefix.is_none(),
        }
    }

    fn matches(&self, event_type: &str) -> bool {
        if self.is_exact {
            *self.text == *event_type
        } else {
            event_type.starts_with(&*self.text)
        }
    }
}

impl EventTypes {
    /// Those that match one of the patterns; without patterns, every type.
    pub(crate) fn new(patterns: &[EventTypePattern]) -> Self {
        let others = patterns.iter().filter(|pattern| pattern.as_str() != "*");
        let mut others: Vec<_> = others.map(Pattern::new).collect();
        others.sort_unstable();
        others.dedup_by(|pattern, before| before.matches(&pattern.text));
        Self {
            takes_all: patterns.is_empty() || patterns.iter().any(|pattern| pattern.as_str() == "*"),
            patterns: others.into(),
        }
    }

    /// Whether a type is one of them.
    pub(crate) fn contain(&self, event_type: &str) -> bool {
        if self.takes_all && !OPERATIONAL_TYPES.contains(&event_type) {
            return true;
        }
        let after = self
            .patterns
            .partition_point(|pattern| *pattern.text <= *event_type);
        let last = after.checked_sub(1).map(|index| &self.patterns[index]);
        last.is_some_and(|pattern| pattern.matches(event_type))
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::event_type;

    use super::*;

    fn wants(patterns: &[&str], event_type: &str) -> bool {
        let patterns: Vec<_> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = EventTypes::new(&patterns).contain(event_type);
        // The same without an index.
        assert_eq!(event_type::wants(&patterns, event_type), wanted);
        wanted
    }

    #[test]
    fn patterns_match_exactly_or_by_prefix() {
        assert!(wants(&["order.created"], "order.created"));
        assert!(!wants(&["order.created"], "order.created.v2"));
        assert!(wants(&["order.*"], "order.created"));
        assert!(!wants(&["order.*"], "orders.created"));
        assert!(wants(&["*"], "anything"));
        assert!(wants(&[], "anything"));
    }

    #[test]
    fn among_many_patterns_each_is_found() {
        let patterns = [
            "b*", "a", "a.b", "b.c", "b", "c.d.*", "c.d.e.f", "c*", "d.*", "d", "ab",
        ];
        let naive = |event_type: &str| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => event_type.starts_with(prefix),
                None => event_type == *pattern,
            })
        };
        for event_type in [
            "a", "a.b", "a.b.c", "a.", "ab", "abc", "b", "b.c", "b.d", "bb", "c", "c.d.e", "c.e", "d", "d.",
            "d.x", "da", "e", "A",
        ] {
            assert_eq!(wants(&patterns, event_type), naive(event_type), "{event_type}");
        }
    }

    #[test]
    fn operational_events_go_only_to_endpoints_that_name_them() {
        for event_type in OPERATIONAL_TYPES {
            assert!(
                !wants(&[], event_type) && !wants(&["*"], event_type),
                "{event_type}"
            );
            assert!(!wants(&["order.*", "*"], event_type), "{event_type}");
            let (family, _) = event_type.split_once('.').unwrap();
            assert!(wants(&["*", event_type], event_type), "{event_type}");
            assert!(wants(&[&format!("{family}.*")], event_type), "{event_type}");
        }
        assert!(wants(&[], "endpoint.created"));
    }
}
