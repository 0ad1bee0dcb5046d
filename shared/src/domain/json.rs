//! What forms in JSON must not do: name the same thing twice.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde_bytes::ByteBuf;

/// A name that stands more than once in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedName {
    /// Where the object stands, such as `rules[2].filter`; empty for the outermost one.
    pub parent: String,
    /// The name. What is no text in it is replaced.
    pub name: String,
}

/// The whole path, for example `rules[2].filter./total`.
impl fmt::Display for RepeatedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.parent.is_empty() {
            write!(f, "{}.", self.parent)?;
        }
        f.write_str(&self.name)
    }
}

/// The first name that an object in this JSON text has twice, at any depth. Readers that fill maps keep one of the two
/// values in silence.
///
/// The text must be valid JSON: of another one the answer says nothing. Time and memory grow with its length alone,
/// however deep it is.
pub fn repeated_name(json: &str) -> Option<RepeatedName> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut rest = json.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' => open.push(Open::Object(Names::default())),
            b'[' => open.push(Open::Array(0)),
            b'}' | b']' => _ = open.pop(),
            b',' => open.last_mut()?.next(),
            b'"' => {
                let (text, after) = split_string(after)?;
                rest = after;
                if let Some(Open::Object(names)) = open.last_mut()
                    && names.current.is_none()
                    && !names.add(decode(text))
                {
                    return Some(name_of(&open));
                }
            }
            _ => {}
        }
    }
    None
}

/// An object or an array whose end has not come.
enum Open<'a> {
    Object(Names<'a>),
    /// How many elements came before this one.
    Array(usize),
}

impl Open<'_> {
    fn next(&mut self) {
        match self {
            Self::Object(names) => names.current = None,
            Self::Array(index) => *index += 1,
        }
    }
}

#[derive(Default)]
struct Names<'a> {
    known: BTreeSet<Cow<'a, [u8]>>,
    /// Whose value is being read.
    current: Option<Cow<'a, [u8]>>,
}

impl<'a> Names<'a> {
    /// False when it was there.
    fn add(&mut self, name: Cow<'a, [u8]>) -> bool {
        self.current = Some(name.clone());
        self.known.insert(name)
    }
}

/// What stands before the quote that ends a string, and what follows it.
fn split_string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0;
    loop {
        match json.get(end)? {
            b'"' => return Some((&json[..end], &json[end + 1..])),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}

/// The bytes of a string, in which half of a surrogate pair is as good as any character.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return text.into();
    }
    let quoted = [b"\"", text, b"\""].concat();
    match serde_json::from_slice::<ByteBuf>(&quoted) {
        Ok(bytes) => bytes.into_vec().into(),
        Err(_) => text.into(),
    }
}

fn name_of(open: &[Open<'_>]) -> RepeatedName {
    let (mut parent, mut name) = (String::new(), String::new());
    for level in open {
        if !name.is_empty() {
            let dot = if parent.is_empty() { "" } else { "." };
            _ = write!(parent, "{dot}{name}");
            name.clear();
        }
        match level {
            Open::Array(index) => _ = write!(parent, "[{index}]"),
            Open::Object(names) => {
                let current = names.current.as_deref().unwrap_or_default();
                name.push_str(&String::from_utf8_lossy(current));
            }
        }
    }
    RepeatedName { parent, name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn repeated(json: &str) -> Option<String> {
        repeated_name(json).map(|name| name.to_string())
    }

    #[test]
    fn a_repeated_name_is_found_at_any_depth_and_in_any_spelling() {
        for (json, path) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{"a":1,"\u0061":1}"#, "a"),
            (r#"{"headers":{"X":"1","x":"2","X":null}}"#, "headers.X"),
            (r#"[{},{"b":[0,{"c":{"d":"}","e":{},"d":[]}}]}]"#, "[1].b[1].c.d"),
            (r#"{"\ud800":1,"\ud800":2}"#, "\u{fffd}\u{fffd}\u{fffd}"),
            (r#"{"":{"a\"b":1,"a\"b":2}}"#, r#"a"b"#),
        ] {
            assert_eq!(repeated(json).as_deref(), Some(path), "{json}");
        }
    }

    #[test]
    fn names_that_differ_or_stand_apart_are_not_repeated() {
        for json in [
            r#"{"a":{"a":{"a":"a"}},"A":["a","a"],"b":"a"}"#,
            r#"[{"a":1},{"a":1}]"#,
            r#"{"\ud800":1,"\ud801":1}"#,
            r#"{"a":"{\"b\":1,\"b\":2}","b":1e999}"#,
            "\"a\"",
            "7",
            "",
        ] {
            assert_eq!(repeated(json), None, "{json}");
        }
    }

    #[test]
    fn the_deepest_text_is_walked_without_recursion() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(100_000), r#"{"b":1,"b":2}"#);
        assert!(repeated_name(&deep).is_some_and(|found| found.name == "b"));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i64>().prop_map(Value::from), ".{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 4, |inner| {
            let array = proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
            let members = proptest::collection::btree_map(".{0,4}", inner, 0..4);
            let object = members.prop_map(|members| Value::Object(members.into_iter().collect()));
            prop_oneof![array, object]
        })
    }

    proptest! {
        #[test]
        fn nothing_is_repeated_in_what_was_written_from_maps(document in documents()) {
            prop_assert_eq!(repeated_name(&document.to_string()), None);
        }

        #[test]
        fn no_text_makes_the_search_panic(text in r#"[\[\]{}",:\\a0]{0,60}"#) {
            let _ = repeated_name(&text);
        }
    }
}
