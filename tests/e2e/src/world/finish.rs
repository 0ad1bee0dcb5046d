//! What must hold at the end of every test.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::TryStreamExt as _;
use shared::wire::stream::{CONSUMER, NAME_PREFIX};
use time::OffsetDateTime;

use super::World;
use crate::wait::{DEADLINE, until, until_none_left};

/// What async-nats logs as an error when a server ends while a client connects. The services try again.
const SERVER_ENDS: [&str; 2] = [
    "async_nats::connector: expected INFO, got nothing",
    "async_nats::connector: connection closed unexpectedly",
];

impl World {
    /// Ends a test: everything that was accepted has left the streams, no delivery is stranded, nothing was set
    /// aside, every webhook was signed; then all processes stop with status 0 and none has logged an error.
    ///
    /// # Panics
    /// When one of these does not hold.
    pub async fn finish(mut self) {
        self.streams_are_drained().await;
        self.nothing_is_stranded().await;
        self.nothing_is_in_quarantine().await;
        for receiver in &self.receivers {
            receiver.check_signatures();
        }
        self.terminate_services().await;
        self.logs_are_clean();
        self.database.close().await;
        if let Some(stack) = self.take_stack() {
            let stopped = stack.stop().await;
            stopped.expect("nats-server and Postgres stop");
        }
    }

    /// Waits until no event stream holds a frame.
    pub async fn streams_are_drained(&self) {
        self.streams_are_drained_with(DEADLINE).await;
    }

    /// The same; workers may take no frame for so long.
    pub(crate) async fn streams_are_drained_with(&self, patience: Duration) {
        let jetstream = self.jetstream().await;
        until_none_left(patience, "empty event streams", async || {
            let streams = jetstream.streams().try_collect::<Vec<_>>().await;
            let streams = streams.map_err(|error| error.to_string())?;
            let (mut frames, mut standing) = (0, Vec::new());
            for stream in streams {
                let name = &stream.config.name;
                if name.starts_with(NAME_PREFIX) && stream.state.messages > 0 {
                    frames += stream.state.messages;
                    standing.push(format!(
                        "{:?}, {}",
                        stream.state,
                        consumer(&jetstream, name).await
                    ));
                }
            }
            Ok((frames, standing.join("; ")))
        })
        .await;
    }

    /// A pending delivery is due at some time, or leased until then, and then a worker takes it. One that is due
    /// and stays so belongs to no worker and is found by none. Those to be pulled wait for their owner.
    async fn nothing_is_stranded(&self) {
        let now = sqlx::query_scalar("select now()").fetch_one(&self.database).await;
        let now: OffsetDateTime = now.expect("Postgres runs at the end of a test");
        until("workers to take every delivery that is due", async || {
            let query = sqlx::query_scalar::<_, String>(
                "select d.event_id::text from deliveries d join endpoints e on e.id = d.endpoint_id
                 where d.status = 'pending' and not d.pull and e.status = 'enabled' and e.deleted_at is null
                   and (d.next_attempt_at is null or d.next_attempt_at < $1)",
            );
            let due = query.bind(now).fetch_all(&self.database).await;
            match due.map_err(|error| error.to_string())?.as_slice() {
                [] => Ok(()),
                due => Err(format!("{} that stay due, such as {}", due.len(), due[0])),
            }
        })
        .await;
    }

    async fn nothing_is_in_quarantine(&self) {
        let query = sqlx::query_scalar::<_, String>("select reason from quarantine");
        let reasons = query.fetch_all(&self.database).await;
        assert_eq!(reasons.expect("Postgres runs at the end of a test"), [""; 0]);
    }

    fn logs_are_clean(&self) {
        let is_tolerated = |line: &str| {
            let tolerated = self.tolerated.iter().chain(&SERVER_ENDS);
            tolerated.into_iter().any(|text| line.contains(text))
        };
        let is_bad =
            |line: &str| (line.contains(" ERROR ") || line.contains("panicked")) && !is_tolerated(line);
        let logs = self
            .stack()
            .services()
            .map(|service| (service.name().to_owned(), service.log()));
        let bad: Vec<_> = logs
            .flat_map(|(name, log)| {
                let lines = log.lines().filter(|line| is_bad(line));
                lines.map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
            })
            .collect();
        assert!(bad.is_empty(), "errors in the logs:\n{}", bad.join("\n"));
    }
}

/// How the workers' consumer of a stream stands.
async fn consumer(jetstream: &jetstream::Context, stream: &str) -> String {
    match jetstream.get_stream_no_info(stream).await {
        Ok(stream) => format!("{:?}", stream.consumer_info(CONSUMER).await),
        Err(error) => error.to_string(),
    }
}
