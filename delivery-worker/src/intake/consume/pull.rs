//! Asking NATS for the frames of one stream, and receiving them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{self, Message};
use async_nats::{StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use shared::process::nats::Nats;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use crate::intake::consume::batch::MAX_BATCH_FRAMES;
use crate::intake::consume::requests::{EXPIRES, Request, Requests};
use crate::intake::consume::turns::Turn;

/// The most bytes that the server sends for one request of [`MAX_BATCH_FRAMES`]; for a request of half as many, half of it, which
/// is still more than the largest frame.
const PREFETCH_BYTES: usize = 5 << 19;

/// The longest wait before looking again whether a request is due.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The header of a request's end that says how many of its frames have not come.
const PENDING_HEADER: &str = "Nats-Pending-Messages";

/// Why NATS ends a request when it would end the next one too.
const CONSUMER_DELETED: &str = "Consumer Deleted";
const CONSUMER_PUSHES: &str = "Consumer is push based";
const LIMIT_EXCEEDED: &str = "Exceeded MaxRequest";

/// The frames of a stream as they come.
pub(super) struct Frames {
    jetstream: jetstream::Context,
    consumer: Arc<Consumer<pull::Config>>,
    inbox: Subject,
    subscriber: Subscriber,
    /// What has come and was not taken when [`Self::waiting`] was asked.
    seen: VecDeque<async_nats::Message>,
    requests: Requests,
    turn: Turn,
}

impl Frames {
    /// Subscribes to an inbox for frames. Asks for none yet.
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
            seen: VecDeque::new(),
            requests: Requests::new(Instant::now()),
            turn,
        })
    }

    /// The request that is due now, if one is and the worker `has_room` for its frames.
    pub(super) fn due(&self, has_room: bool) -> Option<Request> {
        let now = Instant::now();
        let next = self.requests.next(self.turn.listens(now), now);
        next.filter(|_| has_room)
    }

    /// Sends a request. May be dropped while it waits.
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

    /// When to call [`Self::due`] and [`Self::check`] again if no frame comes before.
    pub(super) fn wake_at(&self, has_room: bool) -> Instant {
        let now = Instant::now();
        let due_at = self.requests.due_at(self.turn.listens(now));
        let due_at = due_at.filter(|_| has_room);
        let earliest = due_at.into_iter().chain(self.requests.over_at()).min();
        earliest.unwrap_or(now + LONGEST_WAIT)
    }

    /// Gives up requests that NATS should have answered or ended by now. After a look without an answer the worker listens.
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

    /// The frames that have come and were not taken yet. They can be taken afterwards.
    pub(super) fn waiting(&mut self) -> Vec<Message> {
        while let Some(Some(message)) = unconstrained(self.subscriber.next()).now_or_never() {
            self.seen.push_back(owned(message));
        }
        let frames = self.seen.iter().filter(|message| end_status(message).is_none());
        frames.map(|message| self.frame(message.clone())).collect()
    }

    /// Ends the subscription. All that comes until then can be taken afterwards. May be dropped while it waits.
    pub(super) async fn end(&mut self) {
        end(&mut self.subscriber, &mut self.seen).await;
    }

    fn frame(&self, message: async_nats::Message) -> Message {
        let context = self.jetstream.clone();
        Message { message, context }
    }

    /// Notes the end of a request.
    ///
    /// # Errors
    /// When NATS would refuse the next one too: the consumer is gone or was changed.
    fn ended(&mut self, status: StatusCode, message: &async_nats::Message) -> anyhow::Result<()> {
        let now = Instant::now();
        let why = message.description.as_deref().unwrap_or_default();
        let headers = message.headers.as_ref();
        let left = headers.and_then(|headers| headers.get(PENDING_HEADER)?.as_str().parse().ok());
        match status {
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => {}
            StatusCode::REQUEST_TERMINATED if !is_lasting(why) => {
                // A refusal has no such header.
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
    /// `None` is the end of a request.
    type Item = anyhow::Result<Option<Message>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.seen.pop_front() {
            Some(message) => Some(message),
            None => ready!(self.subscriber.poll_next_unpin(context)).map(owned),
        };
        let Some(message) = next else {
            return Poll::Ready(None);
        };
        self.requests.heard();
        let next = match end_status(&message) {
            None => {
                self.requests.came();
                if self.requests.is_look() {
                    self.turn.note_found();
                }
                Ok(Some(self.frame(message)))
            }
            Some(status) => self.ended(status, &message).map(|()| None),
        };
        Poll::Ready(Some(next))
    }
}

/// A message with bytes of its own. As it came, they are a part of the connection's buffer and keep all of that: about twice as
/// much.
fn owned(mut message: async_nats::Message) -> async_nats::Message {
    message.payload = Bytes::copy_from_slice(&message.payload);
    message
}

/// Ends a subscription, and adds to `rest` what comes until then. The client forgets a subscription when it reads from the server for
/// the first time after it has told it. So what is on its way at that time may be lost; a frame comes again when the time for its
/// acknowledgement is over.
async fn end(subscriber: &mut Subscriber, rest: &mut VecDeque<async_nats::Message>) {
    // An error says that the client is gone, and then nothing more comes.
    let _ = subscriber.drain().await;
    while let Some(message) = subscriber.next().await {
        rest.push_back(message);
    }
}

/// The status with which NATS ends a request. A frame has none.
fn end_status(message: &async_nats::Message) -> Option<StatusCode> {
    message.status.filter(|status| *status != StatusCode::OK)
}

/// Whether NATS would end the next request for this reason too.
fn is_lasting(why: &str) -> bool {
    [CONSUMER_DELETED, CONSUMER_PUSHES].contains(&why) || why.starts_with(LIMIT_EXCEEDED)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    /// A NATS server for one connection. It sends a message to each new subscription, and one more is on its way when it is ended.
    async fn serve(listener: TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.split();
        writer.write_all(b"INFO {\"max_payload\":1}\r\n").await.unwrap();
        let (mut lines, mut answer) = (BufReader::new(reader).lines(), String::new());
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(sid) = line.strip_prefix("SUB inbox ") {
                let message = format!("MSG inbox {} 1\r\nx\r\n", sid.trim());
                writer.write_all(message.as_bytes()).await.unwrap();
            } else if let Some(sid) = line.strip_prefix("UNSUB ") {
                answer.extend(["MSG inbox ", sid, " 1\r\nx\r\n"]);
            } else if line == "PING" {
                answer += "PONG\r\n";
                writer.write_all(answer.as_bytes()).await.unwrap();
                answer.clear();
            }
        }
    }

    #[tokio::test]
    async fn what_is_on_its_way_while_a_subscription_ends_is_received() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut rest = VecDeque::new();
        let receiving = async {
            let client = async_nats::connect(address.to_string()).await.unwrap();
            let mut subscriber = client.subscribe("inbox").await.unwrap();
            // With it comes the answer to the client's first ping, which would be what it reads first while the subscription ends.
            subscriber.next().await.unwrap();
            end(&mut subscriber, &mut rest).await;
        };
        tokio::select! {
            () = serve(listener) => panic!("the client has gone"),
            ended = timeout(EXPIRES, receiving) => ended.unwrap(),
        }
        assert_eq!(rest.len(), 1);
    }
}
