//! What kept an attempt from being answered.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::sync::Arc;

use nix::errno::Errno;
use shared::domain::delivery::Outcome;
use shared::egress::Refused;
use thiserror::Error;

use super::connect::AnyError;
use super::line::Line;
use super::proxy::ProxyFailed;
use crate::send::lookups::LookupFailed;

/// A request without an answer.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The endpoint's URL is none that a request can be sent to.
    #[error("the URL cannot be used")]
    Address(#[source] hyper::http::uri::InvalidUri),
    /// There was no connection.
    #[error("cannot connect")]
    Connect(#[source] AnyError),
    /// The connection broke, or what came on it is no HTTP.
    #[error("no answer")]
    Http(#[source] hyper::Error),
    /// The receiver has sent what no receiver may.
    #[error("{0}")]
    Misbehaviour(&'static str),
    /// The connection was used up.
    #[error("the connection is gone")]
    Gone,
}

/// What this machine is short of, for a while.
const LACKS: [(Errno, &str); 5] = [
    (Errno::EMFILE, "descriptors"),
    (Errno::ENFILE, "descriptors"),
    (Errno::ENOMEM, "memory"),
    (Errno::ENOBUFS, "memory"),
    (Errno::EADDRNOTAVAIL, "ports"),
];

impl Failure {
    /// From what ended the opening of a connection.
    pub(crate) fn connect(cause: AnyError, line: &Arc<Line>) -> Self {
        match line.misbehaviour() {
            Some(reason) => Self::Misbehaviour(reason),
            None => Self::Connect(cause),
        }
    }

    /// The outcome of the attempt.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Address(_) => Outcome::Refused,
            Self::Misbehaviour(_) => Outcome::Response,
            _ if self.comes_from::<Refused>() || self.is_denied() => Outcome::Refused,
            _ if self.comes_from::<LookupFailed>() => Outcome::Dns,
            _ if self.comes_from::<rustls::Error>() => Outcome::Tls,
            Self::Connect(_) => Outcome::Connect,
            Self::Http(error) if error.is_parse() || error.is_parse_too_large() => Outcome::Response,
            Self::Http(_) | Self::Gone => Outcome::Network,
        }
    }

    /// The resource that this worker lacked: `descriptors`, `memory`, `ports`, `lookups` or `proxy`. Then no request was sent.
    pub(crate) fn lack(&self) -> Option<&'static str> {
        self.causes().find_map(|cause| {
            if let Some(LookupFailed::Own(_)) = cause.downcast_ref() {
                return Some("lookups");
            }
            if cause.downcast_ref().is_some_and(ProxyFailed::is_own) {
                return Some("proxy");
            }
            let code = cause.downcast_ref::<io::Error>()?.raw_os_error()?;
            let lack = LACKS.iter().find(|(errno, _)| *errno as i32 == code)?;
            Some(lack.1)
        })
    }

    /// With its causes, without the URL, which may hold the receiver's own secrets.
    pub(crate) fn describe(&self) -> String {
        let mut texts: Vec<_> = self.causes().map(ToString::to_string).collect();
        // An error that wraps another one often says the same.
        texts.dedup();
        texts.join(": ")
    }

    fn comes_from<Cause: Error + 'static>(&self) -> bool {
        self.causes().any(<dyn Error>::is::<Cause>)
    }

    /// Whether the proxy lets nobody go there.
    fn is_denied(&self) -> bool {
        self.causes()
            .any(|cause| matches!(cause.downcast_ref(), Some(ProxyFailed::Denied)))
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        causes(self)
    }
}

/// The receiver has said that it has not begun with the request.
pub(super) fn was_refused(error: &hyper::Error) -> bool {
    http2_cause(error).is_some_and(|cause| {
        let is_left_out = cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
        cause.is_remote() && (is_left_out || cause.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Only this request has failed; the others on its connection go on.
pub(super) fn is_of_stream(error: &hyper::Error) -> bool {
    http2_cause(error).is_some_and(h2::Error::is_reset)
}

fn http2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error and what it comes from, the nearest first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&cause| {
        // The source of an I/O error that wraps another error is that one's source, not itself.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_failure_of_the_receiver() {
        for (errno, lack) in LACKS {
            let failure = Failure::Connect(io::Error::from_raw_os_error(errno as i32).into());
            assert_eq!(failure.lack(), Some(lack), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ETIMEDOUT] {
            let failure = Failure::Connect(io::Error::from_raw_os_error(errno as i32).into());
            assert_eq!(
                (failure.lack(), failure.outcome()),
                (None, Outcome::Connect),
                "{errno}"
            );
        }
    }
}
