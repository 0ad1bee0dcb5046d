//! The API's answers to errors of the store, the keys and the publisher.

use std::sync::Arc;

use crate::domain::form::field_errors::WrongFields;
use crate::event::error::EventError;
use crate::http::error::ApiError;
use crate::keys::error::KeyError;
use crate::publish::error::PublishError;
use crate::store;

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Arc::new(error).into()
    }
}

impl From<Arc<sqlx::Error>> for ApiError {
    fn from(error: Arc<sqlx::Error>) -> Self {
        match store::unavailable(&error) {
            Some(reason) => Self::Unavailable {
                reason,
                retry_after: store::RETRY_AFTER,
            },
            None => Self::Internal(error.into()),
        }
    }
}

impl From<WrongFields> for ApiError {
    fn from(wrong: WrongFields) -> Self {
        Self::Invalid(wrong.0)
    }
}

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::NotJson(error) => Self::not_json(&error),
            EventError::Invalid(fields) => Self::Invalid(fields),
            EventError::TooLarge { limit } => Self::TooLarge { limit },
            EventError::TooMany { limit } => Self::TooManyEvents { limit },
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Invalid => Self::Unauthorized("the API key is not valid"),
            KeyError::Expired => Self::Unauthorized("the API key has expired"),
            KeyError::Unavailable { reason, retry_after } => Self::Unavailable { reason, retry_after },
            KeyError::Internal(error) => Self::Internal(error),
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let (reason, retry_after) = match error {
            PublishError::TimedOut => ("the event stream does not answer", 2),
            PublishError::Full => ("the event stream is full; deliveries are behind", 5),
            PublishError::QueueFull => ("too many events are waiting to be stored", 1),
            PublishError::Stopping => ("this replica is stopping", 1),
        };
        Self::Unavailable { reason, retry_after }
    }
}
