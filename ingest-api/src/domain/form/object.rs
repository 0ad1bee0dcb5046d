//! Objects within forms. serde also reads the fields of a struct from an array, by their places; a form names them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::domain::form::field::Field;

/// Reads a field that holds an object: `#[serde(deserialize_with = "object::read")]`.
///
/// # Errors
/// When it is something else, or no `T`.
pub(crate) fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// The same for a field of a change.
///
/// # Errors
/// When it is something else, or no `T`.
pub(crate) fn field<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Field<T>, D::Error> {
    let field: Field<Object<T>> = Field::deserialize(deserializer)?;
    Ok(field.map(|Object(value)| value))
}

/// The same for a list of objects.
///
/// # Errors
/// When it is something else, or one is no `T`.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Field<Vec<T>>, D::Error> {
    let field: Field<Vec<Object<T>>> = Field::deserialize(deserializer)?;
    Ok(field.map(|list| list.into_iter().map(|Object(value)| value).collect()))
}

/// What was read from an object.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Part {
        a: u8,
        b: Option<u8>,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Form {
        #[serde(deserialize_with = "read")]
        needed: Part,
        #[serde(default, deserialize_with = "field")]
        one: Field<Part>,
        #[serde(default, deserialize_with = "list")]
        many: Field<Vec<Part>>,
    }

    fn form(json: &str) -> Result<Form, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_read_by_the_names_of_their_fields() {
        let part = |a| Part { a, b: None };
        let read = form(r#"{"needed":{"a":1},"one":{"a":2},"many":[{"a":3},{}]}"#);
        let expected = Form {
            needed: part(1),
            one: Field::Value(part(2)),
            many: Field::Value(vec![part(3), part(0)]),
        };
        assert_eq!(read, Ok(expected));
        let read = form(r#"{"needed":{},"one":null}"#);
        let expected = Form {
            needed: part(0),
            one: Field::Null,
            many: Field::Absent,
        };
        assert_eq!(read, Ok(expected));
        for (json, expected) in [
            (r#"{"needed":{"c":1}}"#, "unknown field `c`"),
            ("{}", "missing field `needed`"),
        ] {
            let error = form(json).unwrap_err();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }

    #[test]
    fn no_array_stands_for_an_object() {
        for json in [
            r#"{"needed":[1]}"#,
            r#"{"needed":[]}"#,
            r#"{"needed":{},"one":[1,2]}"#,
            r#"{"needed":{},"many":[{},[1]]}"#,
        ] {
            let error = form(json).unwrap_err();
            let expected = "invalid type: sequence, expected a JSON object at line 1";
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }
}
