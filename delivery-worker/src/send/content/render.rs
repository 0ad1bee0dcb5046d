//! Bodies that endpoints' templates make.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use hyper::header::HeaderValue;
use shared::domain::headers::without_blanks;
use shared::domain::name::Tenant;
use shared::template::{Template, TemplateError, Turns};

use crate::send::content::body::Outgoing;

/// An endpoint's template. It is read when it is first used.
pub(crate) struct EndpointTemplate {
    source: Arc<str>,
    media_type: Arc<str>,
    content_type: HeaderValue,
    template: OnceLock<Result<Arc<Template>, TemplateError>>,
}

impl EndpointTemplate {
    /// Of a text and a media type.
    ///
    /// # Errors
    /// When the media type is no header's value.
    pub(crate) fn new(source: &str, content_type: &str) -> anyhow::Result<Self> {
        Ok(Self {
            source: source.into(),
            media_type: content_type.into(),
            content_type: HeaderValue::try_from(without_blanks(content_type))?,
            template: OnceLock::new(),
        })
    }

    /// Whether the other one makes the same bodies.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (&self.source, &self.media_type) == (&other.source, &other.media_type)
    }

    /// The media type of what it makes.
    pub(crate) fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }
}

// Both without the templates: they may hold keys of their owners.
impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl fmt::Debug for EndpointTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTemplate").finish_non_exhaustive()
    }
}

/// Renders bodies, beside the threads that send and store.
#[derive(Debug, Default)]
pub(crate) struct Renderer {
    turns: Turns,
    known: Arc<Known>,
}

/// Templates that endpoints use, each read once.
#[derive(Default)]
struct Known(Mutex<HashMap<Key, Weak<Template>>>);

/// A media type and a text.
type Key = (Arc<str>, Arc<str>);

impl Renderer {
    /// The body for an event. The template is one of a tenant of its organisation, or the organisation's own.
    ///
    /// # Errors
    /// What is wrong with the template, for this event.
    pub(crate) async fn render(
        &self,
        event: &Arc<Outgoing>,
        tenant: Option<&Tenant>,
        template: &Arc<EndpointTemplate>,
    ) -> Result<Bytes, TemplateError> {
        let org_id = event.org_id;
        let (event, template, known) = (event.clone(), template.clone(), self.known.clone());
        self.turns
            .take(org_id, tenant, move || {
                let read = template.template.get_or_init(|| known.read(&template));
                let template = read.as_ref().map_err(Clone::clone)?;
                Ok(Bytes::from(template.render(&event.as_event())?))
            })
            .await
    }
}

impl Known {
    /// The template, from another endpoint that uses it too, or read anew. Nobody waits for another's to be read.
    fn read(&self, template: &EndpointTemplate) -> Result<Arc<Template>, TemplateError> {
        let key = (template.media_type.clone(), template.source.clone());
        if let Some(read) = self.templates().get(&key).and_then(Weak::upgrade) {
            return Ok(read);
        }
        let read = Arc::new(Template::parse(&template.source, &template.media_type)?);
        let mut known = self.templates();
        if known.len() == known.capacity() {
            known.retain(|_, read| read.strong_count() > 0);
        }
        known.insert(key, Arc::downgrade(&read));
        Ok(read)
    }

    fn templates(&self) -> MutexGuard<'_, HashMap<Key, Weak<Template>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::event::Event;

    use super::*;

    #[tokio::test]
    async fn endpoints_with_the_same_template_share_it_while_one_is_left() {
        let renderer = Renderer::default();
        let event = Arc::new(Outgoing::from(&Event::sample()));
        let template = || Arc::new(EndpointTemplate::new("\"{{ type }}\"", "application/json").unwrap());
        let (one, other) = (template(), template());
        for template in [&one, &other] {
            let body = renderer.render(&event, None, template).await.unwrap();
            assert_eq!(body, format!("\"{}\"", event.event_type).as_bytes());
        }
        let read = |template: &EndpointTemplate| template.template.get().unwrap().clone().unwrap();
        assert!(Arc::ptr_eq(&read(&one), &read(&other)));
        let weak = Arc::downgrade(&read(&one));
        drop((one, other));
        assert!(weak.upgrade().is_none(), "nobody uses it any more");
    }

    #[test]
    fn what_it_prints_of_itself_holds_no_template() {
        let template = EndpointTemplate::new("canary-78", "application/json").unwrap();
        assert!(!format!("{template:?}").contains("canary"));
    }
}
