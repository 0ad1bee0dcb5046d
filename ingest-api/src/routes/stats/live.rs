//! The same figures again and again, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::Instant;

use super::{Period, read};
use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::http::answers::live::{Going, message};
use crate::tailing::Seat;

/// How often the figures are told.
const EVERY: Duration = Duration::from_secs(5);

/// How often what went on lately is told with them.
const HISTORY_EVERY: Duration = Duration::from_secs(60);

/// One who is told the figures.
pub(super) struct Watching {
    app: Arc<App>,
    realm: Realm,
    period: Option<Period>,
    going: Going,
    due: Instant,
    history_due: Instant,
    _seat: Seat,
}

impl Watching {
    /// Tells them from now on.
    pub(super) fn new(app: Arc<App>, realm: Realm, period: Option<Period>, going: Going, seat: Seat) -> Self {
        let now = Instant::now();
        Self {
            app,
            realm,
            period,
            going,
            due: now,
            history_due: now,
            _seat: seat,
        }
    }

    /// The pieces of the answer.
    pub(super) fn pieces(self) -> impl Stream<Item = String> + Send + 'static {
        unfold(self, |mut watching| async move {
            let piece = watching.piece().await?;
            Some((piece, watching))
        })
    }

    /// The next piece; None at the end.
    async fn piece(&mut self) -> Option<String> {
        while self.going.goes_on().await {
            let now = Instant::now();
            if now < self.due {
                self.going.pause().await;
                continue;
            }
            self.due = now + EVERY;
            let period = self.period.filter(|_| now >= self.history_due);
            let Ok(stats) = read(&self.app, &self.realm, period).await else {
                // The client goes on to listen.
                return Some(message(None, "unavailable", "{}"));
            };
            if period.is_some() {
                self.history_due = now + HISTORY_EVERY;
            }
            let data = serde_json::to_string(&stats).expect("plain fields can be written as JSON");
            return Some(message(None, "stats", &data));
        }
        None
    }
}
