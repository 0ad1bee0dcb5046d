//! Reading JSON without building it: what the bodies' readers share.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use memchr::memchr2_iter;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_bytes::ByteBuf;
use serde_json::value::RawValue;

use crate::event::error::EventError;

/// Deepest nesting of arrays and objects in an event's data.
pub(crate) const MAX_DEPTH: usize = 64;

/// What an editor or a log shipper may write in front of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A JSON text without the byte order mark in front of it, which a reader may ignore (RFC 8259, 8.1).
pub(crate) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json)
}

/// Checks the nesting of a valid JSON text.
///
/// # Errors
/// With what is wrong.
pub(crate) fn check_depth(json: &str) -> Result<(), String> {
    let json = json.as_bytes();
    if has_many_brackets(json) && nesting(json) > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    Ok(())
}

/// Whether a text has enough opening brackets to be nested too deep, wherever they stand. Hardly any has, and searching for two
/// bytes takes much less time than reading the text.
fn has_many_brackets(json: &[u8]) -> bool {
    memchr2_iter(b'[', b'{', json).nth(MAX_DEPTH).is_some()
}

/// The deepest level of arrays and objects in a valid JSON text.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => return,
            _ => {}
        }
    }
}

/// Whether a raw value is a string.
pub(crate) fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// An object's fields, unread.
#[derive(Debug)]
pub(crate) struct RawFields<'a>(pub BTreeMap<Cow<'a, str>, RawField<'a>>);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawField<'a> {
    /// Its first value.
    pub value: &'a RawValue,
    /// Whether its name stands more than once.
    pub repeated: bool,
}

impl<'a> RawFields<'a> {
    /// The fields of a body, which must be `expected`, an object of some kind.
    ///
    /// # Errors
    /// When it is not JSON, or not an object.
    pub(crate) fn read(body: &'a [u8], expected: &str) -> Result<Self, EventError> {
        let body = without_mark(body);
        serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                EventError::invalid("body", format!("must be {expected}"))
            } else {
                EventError::NotJson(error)
            }
        })
    }

    /// The value of a field, if it is there.
    ///
    /// # Errors
    /// When it has more than one.
    pub(crate) fn value(&self, name: &str) -> Result<Option<&'a RawValue>, &'static str> {
        match self.0.get(name) {
            None => Ok(None),
            Some(field) if field.repeated => Err("stands more than once"),
            Some(field) => Ok(Some(field.value)),
        }
    }

    /// The value of a field, which must be a string if it is there.
    ///
    /// # Errors
    /// When it is something else, or has more than one value.
    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a RawValue>, &'static str> {
        match self.value(name)? {
            Some(value) if !is_string(value) => Err("must be a string"),
            value => Ok(value),
        }
    }

    /// The same for a field that may be null, which means absent.
    ///
    /// # Errors
    /// As [`RawFields::string`].
    pub(crate) fn nullable_string(&self, name: &str) -> Result<Option<&'a RawValue>, &'static str> {
        match self.value(name)? {
            Some(value) if value.get() == "null" => Ok(None),
            _ => self.string(name),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawFields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = BTreeMap::<_, RawField<'de>>::new();
                // As bytes: a name with half of a surrogate pair is then one wrong name, not the end of the reading.
                while let Some((name, value)) = map.next_entry::<ByteBuf, &'de RawValue>()? {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let first = RawField {
                        value,
                        repeated: false,
                    };
                    let known = fields.entry(Cow::Owned(name));
                    known.and_modify(|field| field.repeated = true).or_insert(first);
                }
                Ok(RawFields(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The items of a JSON array, unread, and the result of reading the array. Reading stops one item past `limit`, since four
/// megabytes may hold two million items.
pub(crate) fn array_items(json: &[u8], limit: usize) -> (Vec<&[u8]>, serde_json::Result<()>) {
    let mut items = Items {
        found: Vec::new(),
        limit,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = deserializer.deserialize_seq(&mut items);
    let read = read.and_then(|()| deserializer.end());
    (items.found, read)
}

struct Items<'de> {
    found: Vec<&'de [u8]>,
    limit: usize,
}

impl<'de> Visitor<'de> for &mut Items<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {} items", self.limit)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            self.found.push(item.get().as_bytes());
            if self.found.len() > self.limit {
                return Err(de::Error::invalid_length(self.found.len(), &self));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nesting_is_what_was_nested(depth in 0usize..60, text in ".{0,20}") {
            let text = serde_json::to_string(&text).unwrap();
            let json = format!("{}{text}{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert_eq!(nesting(json.as_bytes()), depth);
        }
    }

    #[test]
    fn the_deepest_allowed_nesting_passes_and_the_next_does_not() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_depth(&nested(MAX_DEPTH)).is_ok());
        assert!(check_depth(&nested(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn brackets_that_stand_beside_each_other_or_in_a_string_are_no_nesting() {
        let many = MAX_DEPTH * 2;
        let beside = format!("[{}[]]", "[],".repeat(many));
        let in_a_string = format!("[\"{}\"]", "[{".repeat(many));
        for json in [beside, in_a_string] {
            assert_eq!(check_depth(&json), Ok(()), "{json}");
        }
    }
}
