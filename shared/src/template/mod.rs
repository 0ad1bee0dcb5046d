//! Templates: what an endpoint's owner writes to have the body of webhooks in a form of its own.
//!
//! A template sees plain data only: no file, no network, no clock. MiniJinja charges every instruction, every byte that is made
//! and every item that is visited against [`FUEL`], so a template that never ends, or wants a string of a gigabyte, ends after
//! some milliseconds and with some megabytes. Whoever renders does so beside the threads that send. What fuel does not bound
//! is how deep a text, or what it makes, is nested: so both are read and dropped on a [stack](STACK_BYTES) of their own.
//!
//! Imports `domain` and `shares`.

mod facts;
mod json;
mod preset;
mod turns;

use std::fmt;

use minijinja::{AutoEscape, Environment};
use thiserror::Error;

pub use self::preset::Preset;
pub use self::turns::Turns;
use crate::domain::event::Event;

/// Longest template.
pub const MAX_SOURCE_BYTES: usize = 16 * 1_024;

/// Longest body.
pub const MAX_OUTPUT_BYTES: usize = 256 * 1_024;

/// Longest media type of a body.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// What rendering may take: as many instructions, or 64 times as many bytes of all that is made on the way.
const FUEL: u64 = 200_000;

/// Deepest nesting of loops that call themselves.
const MAX_RECURSION: usize = 50;

/// Stack for a template. Its text may be 16 000 signs of one expression, and its fuel lets a list be put into a list some
/// ten thousand times; each level takes some hundred bytes, and some thousand without optimisation. Memory that is not used
/// is not touched.
const STACK_BYTES: usize = 128 * 1_024 * 1_024;

/// Longest text of an error, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// The template's name among those of its environment, which has no other.
const NAME: &str = "body";

/// A template that was read and can be rendered.
pub struct Template {
    environment: Environment<'static>,
    form: Form,
}

/// What a body is, as far as texts in it must be escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Markup,
    Text,
}

/// What is wrong with a template, or with what it makes of an event.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// Empty or too long.
    #[error("must have 1 to {MAX_SOURCE_BYTES} bytes")]
    Size,
    /// The media type is none.
    #[error("is not a media type, such as `application/json`")]
    ContentType,
    /// It cannot be read, or rendering failed.
    #[error("line {line}: {cause}")]
    At {
        /// From 1.
        line: usize,
        /// What is wrong there.
        cause: String,
    },
    /// Rendering took more than [`FUEL`].
    #[error("takes too many steps or too much memory")]
    Fuel,
    /// The body is too long.
    #[error("the body has more than {MAX_OUTPUT_BYTES} bytes")]
    Output,
    /// The body should be JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
}

impl Template {
    /// Reads a template for bodies of a media type. In JSON, texts are escaped as what stands in a string, and in HTML and XML
    /// as text.
    ///
    /// # Errors
    /// [`TemplateError`], with the line.
    pub fn parse(source: &str, content_type: &str) -> Result<Self, TemplateError> {
        if source.is_empty() || source.len() > MAX_SOURCE_BYTES {
            return Err(TemplateError::Size);
        }
        let form = Form::of(content_type).ok_or(TemplateError::ContentType)?;
        let environment = stacker::grow(STACK_BYTES, || environment(source, form));
        Ok(Self {
            environment: environment?,
            form,
        })
    }

    /// The body for an event. Takes some milliseconds at most, during which the thread does nothing else.
    ///
    /// # Errors
    /// [`TemplateError`], with the line.
    pub fn render(&self, event: &Event<'_>) -> Result<String, TemplateError> {
        let body = stacker::grow(STACK_BYTES, || {
            let template = self.environment.get_template(NAME);
            let rendered = template.and_then(|template| template.render(facts::of(event)));
            rendered.map_err(|error| TemplateError::from(&error))
        })?;
        if body.len() > MAX_OUTPUT_BYTES {
            return Err(TemplateError::Output);
        }
        if self.form == Form::Json {
            let read: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&body);
            read.map_err(|error| TemplateError::NotJson(shortened(&error.to_string())))?;
        }
        Ok(body)
    }
}

/// What renders a text.
fn environment(source: &str, form: Form) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_auto_escape_callback(move |_| match form {
        Form::Markup => AutoEscape::Html,
        Form::Json | Form::Text => AutoEscape::None,
    });
    if form == Form::Json {
        environment.set_formatter(json::write);
    }
    let added = environment.add_template_owned(NAME, source.to_owned());
    added.map_err(|error| TemplateError::from(&error))?;
    Ok(environment)
}

// Without the template: it may hold keys of its owner.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

impl Form {
    /// That of a media type; `None` when it is none.
    fn of(content_type: &str) -> Option<Self> {
        let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if content_type.len() > MAX_CONTENT_TYPE_BYTES || !content_type.bytes().all(is_visible) {
            return None;
        }
        let essence = content_type.split(';').next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        let is_token = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let suffix = subtype.rsplit('+').next();
        Some(match suffix {
            Some("json") => Self::Json,
            Some("html" | "xml") => Self::Markup,
            _ => Self::Text,
        })
    }
}

impl From<&minijinja::Error> for TemplateError {
    fn from(error: &minijinja::Error) -> Self {
        if error.kind() == minijinja::ErrorKind::OutOfFuel {
            return Self::Fuel;
        }
        let kind = error.kind().to_string();
        let cause = match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind,
        };
        Self::At {
            line: error.line().unwrap_or(1),
            cause: shortened(&cause),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests;
