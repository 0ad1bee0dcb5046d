//! Batches: many events in one body, each read by itself.

use crate::event::NewEvent;
use crate::event::error::EventError;
use crate::event::json::{array_items, without_mark};
use crate::event::{MAX_EVENT_BYTES, cloudevents, envelope};

/// Most events in a batch.
const MAX_EVENTS: usize = 1_000;

/// How a batch holds its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchForm {
    /// A JSON array of events.
    Array,
    /// One event a line.
    Lines,
    /// A JSON array of CloudEvents.
    CloudEvents,
}

/// An event of a batch, or why it was refused.
pub(crate) type Item<'a> = Result<NewEvent<'a>, EventError>;

/// Reads a batch. A wrong item does not spoil the others.
///
/// # Errors
/// When the whole cannot be read as a batch, or is too large for one.
pub(crate) fn parse(body: &[u8], form: BatchForm) -> Result<Vec<Item<'_>>, EventError> {
    let items: Vec<&[u8]> = match form {
        BatchForm::Lines => body
            .split(|&byte| byte == b'\n')
            // Concatenated files may have a byte order mark in front of any line.
            .map(|line| without_mark(line.trim_ascii()))
            .filter(|l| !l.is_empty())
            .take(MAX_EVENTS + 1)
            .collect(),
        BatchForm::Array | BatchForm::CloudEvents => raw_items(body)?,
    };
    match items.len() {
        0 => {
            return Err(EventError::invalid("body", "must hold at least one event"));
        }
        1..=MAX_EVENTS => {}
        _ => return Err(EventError::TooMany { limit: MAX_EVENTS }),
    }
    let parse_one = |item| match form {
        BatchForm::CloudEvents => cloudevents::parse_structured(item),
        BatchForm::Array | BatchForm::Lines => envelope::parse(item),
    };
    let bounded = |item: &'_ [u8]| item.len() <= MAX_EVENT_BYTES;
    let too_large = || EventError::TooLarge {
        limit: MAX_EVENT_BYTES,
    };
    Ok(items
        .into_iter()
        .map(|item| {
            if bounded(item) {
                parse_one(item)
            } else {
                Err(too_large())
            }
        })
        .collect())
}

fn raw_items(body: &[u8]) -> Result<Vec<&[u8]>, EventError> {
    let (items, read) = array_items(without_mark(body), MAX_EVENTS);
    match read {
        _ if items.len() > MAX_EVENTS => Err(EventError::TooMany { limit: MAX_EVENTS }),
        Ok(()) => Ok(items),
        Err(error) if error.is_data() => Err(EventError::invalid("body", "must be a JSON array of events")),
        Err(error) => Err(EventError::NotJson(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::ApiError;

    fn outcomes(body: &[u8], form: BatchForm) -> String {
        match parse(body, form) {
            Err(error) => format!("whole: {}", ApiError::from(error).status().as_u16()),
            Ok(items) => {
                let texts = items.into_iter().map(|item| match item {
                    Ok(event) => event.event_type.to_string(),
                    Err(error) => ApiError::from(error).status().as_u16().to_string(),
                });
                texts.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn one_bad_item_does_not_spoil_the_others() {
        let array = br#"[{"type":"a","data":1},{"type":"b"},7,{"type":"c","data":null}]"#;
        assert_eq!(outcomes(array, BatchForm::Array), "a 422 422 c");
        let lines = b"{\"type\":\"a\",\"data\":1}\r\n\n{broken\n{\"type\":\"c\",\"data\":[]}";
        assert_eq!(outcomes(lines, BatchForm::Lines), "a 400 c");
        let marked = "\u{feff}{\"type\":\"a\",\"data\":1}\n\u{feff}{\"type\":\"b\",\"data\":1}\n\u{feff}\n";
        assert_eq!(outcomes(marked.as_bytes(), BatchForm::Lines), "a b");
        let marked = "\u{feff}[{\"type\":\"a\",\"data\":1}]";
        assert_eq!(outcomes(marked.as_bytes(), BatchForm::Array), "a");
        let cloudevents =
            br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0"}]"#;
        assert_eq!(outcomes(cloudevents, BatchForm::CloudEvents), "t 422");
    }

    #[test]
    fn a_batch_that_is_none_is_refused_as_a_whole() {
        assert_eq!(outcomes(b"{}", BatchForm::Array), "whole: 422");
        assert_eq!(outcomes(b"[]", BatchForm::Array), "whole: 422");
        assert_eq!(outcomes(b"[", BatchForm::Array), "whole: 400");
        assert_eq!(outcomes(b"\n\n", BatchForm::Lines), "whole: 422");
        assert_eq!(
            outcomes("1\n".repeat(1_001).as_bytes(), BatchForm::Lines),
            "whole: 413"
        );
    }

    #[test]
    fn what_follows_the_first_event_too_many_is_not_read() {
        let unread = |events: usize, separator| format!("[{}!", vec!["1"; events].join(separator));
        assert_eq!(
            outcomes(unread(1_000, ",").as_bytes(), BatchForm::Array),
            "whole: 400"
        );
        for form in [BatchForm::Array, BatchForm::CloudEvents] {
            assert_eq!(outcomes(unread(1_001, ",").as_bytes(), form), "whole: 413");
        }
    }

    #[test]
    fn an_item_larger_than_an_event_may_be_is_refused_alone() {
        let large = format!(
            r#"[{{"type":"a","data":"{}"}},{{"type":"b","data":1}}]"#,
            "x".repeat(MAX_EVENT_BYTES)
        );
        assert_eq!(outcomes(large.as_bytes(), BatchForm::Array), "413 b");
    }
}
