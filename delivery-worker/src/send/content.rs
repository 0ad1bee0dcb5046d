//! What a webhook consists of beside its headers.

pub(crate) mod body;
pub(crate) mod render;
pub(super) mod headers;
pub(crate) mod carried;

use bytes::Bytes;
use hyper::header::HeaderValue;
use shared::domain::clock::UnixMicros;
use shared::domain::delivery::Outcome;
use shared::template::TemplateError;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::error::Elapsed;

use self::body::Outgoing;
use self::render::EndpointTemplate;
use crate::endpoints::endpoint::Endpoint;

/// A body and its media type.
#[derive(Debug)]
pub(crate) struct Content {
    pub body: Bytes,
    pub media_type: HeaderValue,
    /// When a template had made it, which may have had to wait for its turn.
    pub rendered_at: Option<OffsetDateTime>,
}

/// Why there is nothing to send.
#[derive(Debug, Error)]
pub(crate) enum NoContent {
    /// The guard of addresses refuses the URL.
    #[error("{0}")]
    Refused(String),
    /// The producer's media type of a payload that is sent as it is.
    #[error("the payload's media type cannot stand in a header")]
    MediaType,
    #[error("{0}")]
    Template(TemplateError),
    /// Others are rendered.
    #[error("its turn to be rendered did not come in time")]
    NoTurn,
}

impl Content {
    /// An event in the endpoint's format.
    ///
    /// # Errors
    /// [`NoContent::MediaType`].
    pub(crate) fn of(event: &Outgoing, endpoint: &Endpoint) -> Result<Self, NoContent> {
        let media_type = event.media_type(endpoint.format);
        Ok(Self {
            body: event.body(endpoint.format, endpoint.names_tenant).clone(),
            media_type: media_type.map_err(|_| NoContent::MediaType)?,
            rendered_at: None,
        })
    }

    /// What a template made of an event in time.
    ///
    /// # Errors
    /// When it made nothing.
    pub(crate) fn rendered(
        rendered: Result<Result<Bytes, TemplateError>, Elapsed>,
        template: &EndpointTemplate,
    ) -> Result<Self, NoContent> {
        let rendered = rendered.map_err(|_| NoContent::NoTurn)?;
        Ok(Self {
            body: rendered.map_err(NoContent::Template)?,
            media_type: template.content_type().clone(),
            rendered_at: Some(UnixMicros::now().to_date_time()),
        })
    }
}

impl NoContent {
    /// How an attempt ends that has nothing to send.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) | Self::MediaType => Outcome::Refused,
            Self::Template(_) | Self::NoTurn => Outcome::Template,
        }
    }

    /// What this worker lacked.
    pub(crate) fn lack(&self) -> Option<&'static str> {
        matches!(self, Self::NoTurn).then_some("renders")
    }
}
