//! Templates of what is signed, and of what stands before a signature.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest template, in bytes.
pub const MAX_BYTES: usize = 256;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Text(String),
    /// `{body}`: the bytes of the webhook's body.
    Body,
    /// `{timestamp}`: the attempt's time, in Unix seconds.
    Timestamp,
    /// `{id}`: the event's id.
    Id,
}

/// Text in which `{body}`, `{timestamp}` and `{id}` stand for what a webhook has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// What is wrong with a template.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// Too long.
    #[error("must not be longer than {MAX_BYTES} bytes")]
    TooLong,
    /// A brace that is not part of a placeholder.
    #[error("has a brace that begins or ends no placeholder")]
    Brace,
    /// A placeholder that there is not.
    #[error("`{{{0}}}` is no placeholder: there are `{{body}}`, `{{timestamp}}` and `{{id}}`")]
    Unknown(String),
}

impl Template {
    /// What it consists of.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// As its owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_BYTES {
            return Err(TemplateError::TooLong);
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(start) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(start);
            push_text(&mut parts, before);
            let inner = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, after) = inner.ok_or(TemplateError::Brace)?;
            parts.push(match name {
                "body" => Part::Body,
                "timestamp" => Part::Timestamp,
                "id" => Part::Id,
                _ => return Err(TemplateError::Unknown(name.to_owned())),
            });
            rest = after;
        }
        push_text(&mut parts, rest);
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
        text.parse::<Template>().map(|template| template.parts)
    }

    #[test]
    fn a_template_is_text_and_placeholders() {
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            parts("v0:{timestamp}:{body}"),
            Ok(vec![text("v0:"), Part::Timestamp, text(":"), Part::Body])
        );
        assert_eq!(parts("{id}{body}ü"), Ok(vec![Part::Id, Part::Body, text("ü")]));
        assert_eq!(parts(""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_placeholder_is_told() {
        for (text, error) in [
            ("{", TemplateError::Brace),
            ("{body", TemplateError::Brace),
            ("body}", TemplateError::Brace),
            ("}{", TemplateError::Brace),
            ("{data}", TemplateError::Unknown("data".to_owned())),
            ("{ body }", TemplateError::Unknown(" body ".to_owned())),
            ("{{body}}", TemplateError::Unknown("{body".to_owned())),
            (&"x".repeat(257), TemplateError::TooLong),
        ] {
            assert_eq!(parts(text), Err(error), "{text}");
        }
        assert_eq!(
            parts("{data}").unwrap_err().to_string(),
            "`{data}` is no placeholder: there are `{body}`, `{timestamp}` and `{id}`"
        );
    }

    proptest! {
        #[test]
        fn a_template_is_shown_as_it_was_written(text in "[{}a-z]{0,12}|(\\{(body|id|timestamp)\\}|[ -z]){0,6}") {
            if let Ok(template) = text.parse::<Template>() {
                prop_assert_eq!(template.as_str(), text);
            }
        }
    }
}
