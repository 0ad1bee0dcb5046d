//! The demo's webhook receiver: checks each signature as any receiver would and prints what came.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use shared::domain::clock::UnixMicros;
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use tokio::net::TcpListener;

use crate::children::ports::Port;
use crate::say::say;
use crate::state::Demo;

/// How much of a body is printed, in characters.
const BODY_SHOWN: usize = 400;

/// A receiver that is bound, so that its port can be told, and not yet serving.
#[derive(Debug)]
pub(crate) struct Receiver {
    port: Port,
    listener: TcpListener,
}

impl Receiver {
    pub(crate) async fn bind(port: Port) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(port.address())
            .await
            .context("cannot listen for webhooks")?;
        Ok(Self { port, listener })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Prints webhooks until the task is dropped: those of the organisation at `/`, those of a tenant at its name.
    pub(crate) async fn serve(self, demo: &Demo) -> anyhow::Result<()> {
        let route = |path: &str, secret: &str, whose: &str| {
            let verifier = Webhook::new(secret).context("the endpoint has a secret that is none")?;
            let known = Known {
                verifier,
                whose: whose.to_owned(),
            };
            let route = Router::new().route(path, post(receive));
            anyhow::Ok(route.with_state(Arc::new(known)))
        };
        let mut routes = route("/", &demo.secret, "")?;
        for tenant in &demo.tenants {
            let whose = format!("{}  ", tenant.uid);
            routes = routes.merge(route(&format!("/{}", tenant.uid), &tenant.secret, &whose)?);
        }
        axum::serve(self.listener, routes)
            .await
            .context("the demo receiver failed")
    }
}

/// An endpoint whose webhooks come here.
struct Known {
    verifier: Webhook,
    /// What is printed before its webhooks.
    whose: String,
}

/// The fields of a webhook's body that are printed.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
}

async fn receive(State(known): State<Arc<Known>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let now = UnixMicros::now().to_date_time();
    let genuine = known.verifier.verify(&body, &headers).is_ok();
    let id = headers
        .get(HEADER_WEBHOOK_ID)
        .and_then(|id| id.to_str().ok())
        .unwrap_or("(no webhook-id)");
    let event: Option<Event> = serde_json::from_slice(&body).ok();
    let (kind, age) = event.map_or_else(
        || ("(no event)".to_owned(), String::new()),
        |event| (event.kind, age_in_ms(&event.timestamp, now)),
    );
    let judgement = if genuine {
        "signature ok   "
    } else {
        "SIGNATURE WRONG"
    };
    let time = now.format(format_description!(
        "[hour]:[minute]:[second].[subsecond digits:3]"
    ));
    let time = time.unwrap_or_default();
    say(&format!(
        "{time}  {judgement}  {}{id}  {}  {age}  {}",
        known.whose,
        printable(kind.as_bytes()),
        printable(&body)
    ));
    if genuine {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::BAD_REQUEST
    }
}

/// How long ago the event was accepted; both clocks are this machine's.
fn age_in_ms(timestamp: &str, now: OffsetDateTime) -> String {
    OffsetDateTime::parse(timestamp, &Rfc3339).map_or_else(
        |_| "(no time)".to_owned(),
        |accepted| format!("{} ms", (now - accepted).whole_milliseconds()),
    )
}

/// One line that does nothing to a terminal, whatever a producer put into it.
fn printable(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut line: String = text
        .chars()
        .take(BODY_SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(BODY_SHOWN).is_some() {
        line.push('…');
    }
    line
}
