//! A template in a form.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::domain::event::JSON;
use shared::template::{MAX_SOURCE_BYTES, Preset, Template, TemplateError};
use utoipa::ToSchema;

use crate::domain::form::field_errors::FieldErrors;

/// What renders the body of webhooks: a template of one's own, or one that comes with Penstock, which is copied.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateForm {
    /// A template that comes with Penstock, in place of `body`.
    preset: Option<Preset>,
    /// A MiniJinja template of `id`, `type`, `time`, `tenant`, `ordering_key`, `content_type`, `data` and `data_text`.
    #[schema(min_length = 1, max_length = 16_384)]
    body: Option<String>,
    /// Media type of the body; `application/json` unless given.
    #[schema(max_length = 255)]
    content_type: Option<String>,
}

/// An endpoint's template.
#[derive(Serialize, ToSchema)]
pub(crate) struct TemplateView {
    /// The template.
    pub body: String,
    /// Media type of the body.
    pub content_type: String,
}

impl TemplateForm {
    /// Reads the template. Each wrong field is told to `errors`, below the field `template`.
    pub(crate) fn read(&self, errors: &mut FieldErrors) -> Option<(Template, TemplateView)> {
        let content_type = self.content_type.as_deref().unwrap_or(JSON);
        let source = match (self.preset, &self.body) {
            (Some(preset), None) => preset.source(),
            (None, Some(body)) => body,
            (Some(_), Some(_)) => {
                errors.push("template.body", "must not stand beside `preset`");
                return None;
            }
            (None, None) => {
                errors.push("template.body", "is missing");
                return None;
            }
        };
        if source.contains('\0') {
            errors.push("template.body", "must not contain NUL");
            return None;
        }
        match Template::parse(source, content_type) {
            Ok(template) => {
                let given = TemplateView {
                    body: source.to_owned(),
                    content_type: content_type.to_owned(),
                };
                Some((template, given))
            }
            Err(error) => {
                let field = match error {
                    TemplateError::ContentType => "template.content_type",
                    _ => "template.body",
                };
                errors.push(field, error.to_string());
                None
            }
        }
    }
}

// Both without the template: it may hold keys of its owner.
impl fmt::Debug for TemplateForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateForm")
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TemplateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateView").finish_non_exhaustive()
    }
}

const _: () = assert!(MAX_SOURCE_BYTES == 16_384, "the schema says so");
