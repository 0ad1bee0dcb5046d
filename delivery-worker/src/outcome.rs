//! What kept an attempt from being answered.

use std::error::Error;
use std::io;
use std::iter::successors;

use shared::egress::Refused;

use crate::egress::LookupFailed;

/// The class of a failure that came before the head of an answer.
pub fn classify(error: &reqwest::Error) -> &'static str {
    if comes_from::<Refused>(error) {
        "refused"
    } else if comes_from::<LookupFailed>(error) {
        "dns"
    } else if comes_from::<rustls::Error>(error) {
        "tls"
    } else if causes(error).any(is_malformed) {
        "response"
    } else if error.is_connect() {
        "connect"
    } else if error.is_timeout() {
        "timeout"
    } else {
        "network"
    }
}

fn comes_from<Cause: Error + 'static>(error: &reqwest::Error) -> bool {
    causes(error).any(<dyn Error>::is::<Cause>)
}

/// The chain of causes, without the URL, which may hold the receiver's own secrets.
pub fn describe(error: &reqwest::Error) -> String {
    let mut texts: Vec<_> = causes(error).map(ToString::to_string).collect();
    // An error that wraps another one often says the same.
    texts.dedup();
    texts.join(": ")
}

/// What comes is no answer in HTTP, or its head is too large.
fn is_malformed(cause: &(dyn Error + 'static)) -> bool {
    let error = cause.downcast_ref::<hyper::Error>();
    error.is_some_and(|error| error.is_parse() || error.is_parse_too_large())
}

/// What an error comes from, the nearest first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    successors(error.source(), |&cause| {
        // The source of an I/O error that wraps another error is that one's source, not itself.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        }
    })
}
