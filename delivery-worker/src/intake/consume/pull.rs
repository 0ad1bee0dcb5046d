//! Asking NATS for the frames of one stream, and what comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{self, Message};
use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::{Stream, StreamExt as _};
use shared::process::nats::Nats;
use tokio::time::Instant;

use crate::intake::consume::batch::MAX_BATCH_FRAMES;
use crate::intake::consume::requests::{EXPIRES, Request, Requests};
use crate::intake::consume::turns::Turn;

/// Bytes of frames that the server sends ahead for one request of [`MAX_BATCH_FRAMES`], and for one of fewer in proportion.
const PREFETCH_BYTES: usize = 4 << 20;

/// How long to wait at the most before it is looked again whether a request is due.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The header that says how many more frames a request would have brought.
const PENDING_HEADER: &str = "Nats-Pending-Messages";

/// Why NATS ends a request when another one would be ended as well.
const CONSUMER_DELETED: &str = "Consumer Deleted";
const CONSUMER_PUSHES: &str = "Consumer is push based";
const LIMIT_EXCEEDED: &str = "Exceeded MaxRequest";

/// The frames of a stream as they come.
pub(super) struct Frames {
    jetstream: jetstream::Context,
    consumer: Arc<Consumer<pull::Config>>,
    inbox: Subject,
    subscriber: Subscriber,
    requests: Requests,
    turn: Turn,
}

impl Frames {
    /// Nothing is asked for yet.
    ///
    /// # Errors
    /// When the connection is gone for good.
    pub(super) async fn open(
        nats: &Nats,
        consumer: Arc<Consumer<pull::Config>>,
        turn: Turn,
    ) -> anyhow::Result<Self> {
        let inbox = Subject::from(nats.client.new_inbox());
        let subscriber = nats.client.subscribe(inbox.clone()).await;
        Ok(Self {
            jetstream: nats.jetstream(),
            consumer,
            inbox,
            subscriber: subscriber.context("cannot subscribe to frames")?,
            requests: Requests::new(Instant::now()),
            turn,
        })
    }

    /// The request that is due now, if one is and the worker `has_room` for what it brings.
    pub(super) fn due(&self, has_room: bool) -> Option<Request> {
        let now = Instant::now();
        let next = self.requests.next(self.turn.listens(now), now);
        next.filter(|_| has_room)
    }

    /// Sends it. May be dropped while it waits.
    ///
    /// # Errors
    /// When the connection is gone for good.
    pub(super) async fn ask(&mut self, request: Request) -> anyhow::Result<()> {
        let config = pull::BatchConfig {
            batch: request.frames,
            max_bytes: PREFETCH_BYTES / MAX_BATCH_FRAMES * request.frames,
            expires: (!request.is_look).then_some(EXPIRES),
            no_wait: request.is_look,
            ..pull::BatchConfig::default()
        };
        let sent = self.consumer.request_batch(config, self.inbox.clone()).await;
        sent.context("cannot ask for frames")?;
        self.requests.sent(request, Instant::now());
        Ok(())
    }

    /// When [`Self::due`] and [`Self::check`] may have something to do, if nothing comes before.
    pub(super) fn wake_at(&self, has_room: bool) -> Instant {
        let now = Instant::now();
        let due_at = self.requests.due_at(self.turn.listens(now));
        let due_at = due_at.filter(|_| has_room);
        let earliest = due_at.into_iter().chain(self.requests.over_at()).min();
        earliest.unwrap_or(now + LONGEST_WAIT)
    }

    /// Gives up requests to which no answer has come. A look that is not answered is left open, and the worker listens.
    ///
    /// # Errors
    /// When NATS has not answered for long.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.requests.over_at().is_none_or(|at| at > now) {
            return Ok(());
        }
        let silence = self.requests.give_up(now);
        ensure!(silence < EXPIRES, "NATS does not answer requests for frames");
        if self.requests.is_look() {
            self.turn.note_unanswered(now);
        }
        Ok(())
    }

    /// Notes the end of a request.
    ///
    /// # Errors
    /// When NATS would refuse the next one too: the consumer is gone, or has become another one.
    fn ended(&mut self, status: StatusCode, message: &async_nats::Message) -> anyhow::Result<()> {
        let now = Instant::now();
        let why = message.description.as_deref().unwrap_or_default();
        let headers = message.headers.as_ref();
        let left = headers.and_then(|headers| headers.get(PENDING_HEADER)?.as_str().parse().ok());
        match status {
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => {}
            StatusCode::REQUEST_TERMINATED if !is_lasting(why) => {
                if left.is_none() {
                    self.requests.refused(now);
                }
            }
            _ => bail!("NATS refuses requests for frames: {status} {why}"),
        }
        let look_at = now + self.turn.look_pause(rand::random());
        self.requests.ended(left, look_at);
        Ok(())
    }
}

impl Stream for Frames {
    /// `None` tells of the end of a request.
    type Item = anyhow::Result<Option<Message>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(message) = ready!(self.subscriber.poll_next_unpin(context)) else {
            return Poll::Ready(None);
        };
        self.requests.heard();
        let next = match message.status {
            None | Some(StatusCode::OK) => {
                self.requests.came();
                if self.requests.is_look() {
                    self.turn.note_found();
                }
                let context = self.jetstream.clone();
                Ok(Some(Message { message, context }))
            }
            Some(status) => self.ended(status, &message).map(|()| None),
        };
        Poll::Ready(Some(next))
    }
}

fn is_lasting(why: &str) -> bool {
    [CONSUMER_DELETED, CONSUMER_PUSHES].contains(&why) || why.starts_with(LIMIT_EXCEEDED)
}
