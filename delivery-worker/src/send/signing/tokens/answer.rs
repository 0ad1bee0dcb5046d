//! Answers of token servers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use shared::credentials::bearer;
use tokio::time::Instant;

use super::{Token, TokenFailed};
use crate::send::client::Answer;

/// Largest answer of a token server.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long a token is kept whose life nobody tells, and how long one is kept at the most.
const UNTOLD_LIFE: Duration = Duration::from_mins(5);
const MAX_LIFE: Duration = Duration::from_hours(24 * 30);

/// The errors that RFC 6749 knows. Others may hold anything, a secret too, and are not repeated.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Reads an answer to its end.
pub(super) async fn read(mut answer: Answer) -> Result<Bytes, TokenFailed> {
    let mut read = Vec::new();
    while let Some(body) = &mut answer.body {
        match body.frame().await {
            None => {
                answer.complete();
                break;
            }
            Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(_)) => return Err(TokenFailed::Malformed("breaks off")),
        }
        if read.len() > MAX_ANSWER_BYTES {
            return Err(TokenFailed::Malformed("is too large"));
        }
    }
    Ok(read.into())
}

/// What a token server answers. Other members do not matter.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    /// Seconds; some servers write them as a string.
    expires_in: Option<serde_json::Value>,
}

/// Reads the token of an answer.
pub(super) fn token(body: &[u8], now: Instant) -> Result<Token, TokenFailed> {
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| TokenFailed::Malformed("is no JSON object with an `access_token`"))?;
    let is_bearer = |name: &String| name.eq_ignore_ascii_case("bearer");
    if !granted.token_type.as_ref().is_none_or(is_bearer) {
        return Err(TokenFailed::Malformed("has a `token_type` other than `Bearer`"));
    }
    let header = bearer(&granted.access_token)
        .map_err(|_| TokenFailed::Malformed("has an `access_token` that cannot stand in a header"))?;
    let life = granted.expires_in.as_ref().map_or(Some(UNTOLD_LIFE), life);
    let life = life.ok_or(TokenFailed::Malformed("has an `expires_in` that is no number"))?;
    Ok(Token {
        header,
        fresh_until: now + life.mul_f64(0.9),
    })
}

fn life(told: &serde_json::Value) -> Option<Duration> {
    let seconds = match told {
        serde_json::Value::Null => return Some(UNTOLD_LIFE),
        serde_json::Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    let most = MAX_LIFE.as_secs_f64();
    // A number that is below zero, or none, is no life at all.
    Duration::try_from_secs_f64(f64::clamp(seconds, 0.0, most)).ok()
}

/// What a refusal says.
pub(super) fn error(body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    ERRORS.into_iter().find(|known| *known == refusal.error)
}
