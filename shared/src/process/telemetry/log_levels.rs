//! What is logged, changed while the process runs: over HTTP on the metrics socket, and by signals.

use std::str::FromStr as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// The levels from least to most.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Longest filter, in bytes.
const MAX_BYTES: usize = 4_096;

/// Those of this process. A process has one subscriber, which is a global too.
static LOG_LEVELS: OnceLock<LogLevels> = OnceLock::new();

type Apply = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

/// The filter of what is logged.
struct LogLevels {
    state: Mutex<State>,
    apply: Apply,
}

/// A filter, and by how many levels its directives say more, or less, than they were written to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    filter: String,
    steps: i8,
}

/// Reads a filter: a level, or levels by module that commas separate.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(text)
}

/// Remembers how to change the filter of this process, which is `filter` now.
pub(super) fn keep(filter: String, apply: impl Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync + 'static) {
    let levels = LogLevels {
        state: Mutex::new(State { filter, steps: 0 }),
        apply: Box::new(apply),
    };
    // A second subscriber is none: the first one stays, and so does its filter.
    let _ = LOG_LEVELS.set(levels);
}

impl State {
    /// The filter that holds.
    fn effective(&self) -> String {
        let directives = self
            .filter
            .split(',')
            .map(|directive| shifted(directive, self.steps));
        directives.collect::<Vec<_>>().join(",")
    }

    /// A step further, unless every directive is at the end already.
    fn stepped(&self, by: i8) -> Self {
        let next = Self {
            filter: self.filter.clone(),
            steps: self.steps.saturating_add(by),
        };
        if next.effective() == self.effective() {
            self.clone()
        } else {
            next
        }
    }
}

/// A directive with another level. One that names no level is of the most.
fn shifted(directive: &str, steps: i8) -> String {
    let directive = directive.trim();
    if steps == 0 || directive.is_empty() {
        return directive.to_owned();
    }
    let (target, level) = match directive.rsplit_once('=') {
        Some((target, level)) if !level.contains(']') => (Some(target), level),
        _ if LevelFilter::from_str(directive).is_ok() => (None, directive),
        _ => (Some(directive), "trace"),
    };
    let level = LevelFilter::from_str(level).unwrap_or(LevelFilter::TRACE);
    let place = LEVELS
        .iter()
        .position(|known| *known == level)
        .unwrap_or_default();
    let place = place.saturating_add_signed(steps.into()).min(LEVELS.len() - 1);
    match target {
        Some(target) => format!("{target}={}", LEVELS[place]),
        None => LEVELS[place].to_string(),
    }
}

impl LogLevels {
    fn effective(&self) -> String {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .effective()
    }

    /// Puts another state in force.
    fn change(&self, next: impl FnOnce(&State) -> State) -> anyhow::Result<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next(&state);
        let text = next.effective();
        (self.apply)(parse(&text)?)?;
        *state = next;
        drop(state);
        tracing::info!(filter = text, "what is logged has changed");
        Ok(text)
    }
}

/// `/loglevel`: `GET` shows the filter, `PUT` with a filter as its body changes it.
pub fn route() -> Router {
    Router::new()
        .route("/loglevel", get(show).put(change))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
}

async fn show() -> Response {
    match LOG_LEVELS.get() {
        Some(levels) => (levels.effective() + "\n").into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn change(body: Bytes) -> Response {
    let Some(levels) = LOG_LEVELS.get() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let filter = match std::str::from_utf8(&body).map(str::trim) {
        Ok("") => Err("it is empty".to_owned()),
        Ok(text) => parse(text)
            .map(|_| text.to_owned())
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match filter {
        Ok(filter) => match levels.change(|_| State { filter, steps: 0 }) {
            Ok(text) => (text + "\n").into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
        },
        Err(error) => {
            let text = format!("not a filter such as `info,delivery_worker=debug`: {error}\n");
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

/// Says more at each SIGUSR1 and less at each SIGUSR2, one level of every directive, for as long as the process runs.
///
/// # Errors
/// When the signals cannot be listened for.
pub(in crate::process) fn step_on_signals() -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut more = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
    let mut less = signal(SignalKind::user_defined2()).context("cannot listen for SIGUSR2")?;
    Ok(async move {
        loop {
            let by = tokio::select! {
                _ = more.recv() => 1,
                _ = less.recv() => -1,
            };
            let changed = LOG_LEVELS
                .get()
                .map(|levels| levels.change(|state| state.stepped(by)));
            if let Some(Err(error)) = changed {
                tracing::error!(error = format!("{error:#}"), "cannot change what is logged");
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(filter: &str) -> State {
        State {
            filter: filter.to_owned(),
            steps: 0,
        }
    }

    #[test]
    fn steps_change_every_directive_and_lead_back() {
        let written = state("info,async_nats=warn,h2=error,a[span{field=1}]=debug,b");
        let more = written.stepped(1);
        let expected = "debug,async_nats=info,h2=warn,a[span{field=1}]=trace,b=trace";
        assert_eq!(more.effective(), expected);
        let less = written.stepped(-1).stepped(-1);
        let expected = "error,async_nats=off,h2=off,a[span{field=1}]=warn,b=info";
        assert_eq!(less.effective(), expected);
        assert_eq!(less.stepped(1).stepped(1), written);
        for state in [&more, &less, &written] {
            assert!(parse(&state.effective()).is_ok());
        }
    }

    #[test]
    fn at_the_end_further_steps_do_not_count() {
        let mut state = state("info");
        for _ in 0..300 {
            state = state.stepped(1);
        }
        assert_eq!(state.effective(), "trace");
        assert_eq!(state.stepped(-1).effective(), "debug");
        for _ in 0..300 {
            state = state.stepped(-1);
        }
        assert_eq!(state.effective(), "off");
        assert_eq!(state.stepped(1).effective(), "error");
    }
}
