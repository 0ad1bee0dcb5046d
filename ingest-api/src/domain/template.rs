//! An endpoint's template, as its owner made it.

use std::fmt;

/// What renders the body of an endpoint's webhooks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TemplateSettings {
    pub source: String,
    /// Media type of the body.
    pub content_type: String,
}

// Without the template: it may hold keys of its owner.
impl fmt::Debug for TemplateSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateSettings").finish_non_exhaustive()
    }
}
