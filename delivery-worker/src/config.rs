//! What a delivery worker is told by its environment.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use humantime::parse_duration;
use shared::db::address::PostgresConfig;
use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;
use shared::egress::EgressConfig;
use shared::process::config::{duration_within, integer_from, integer_within, nonzero_duration};
use shared::process::nats::NatsConfig;
use shared::process::shutdown::RuntimeConfig;
use shared::process::telemetry::TelemetryConfig;
use shared::secret::SecretsConfig;
use shared::traces::config::TracesConfig;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::chores::retention::RetentionConfig;
use crate::endpoints::breaker::Breaker;
use crate::endpoints::retry::RetryPolicy;
use crate::send::client::EgressProxy;

/// Worker daemon: consumes events from NATS JetStream, writes them to Postgres and delivers signed webhooks.
#[derive(Clone, Debug, Parser)]
#[command(name = "delivery-worker", version, subcommand_negates_reqs = true)]
pub struct Config {
    /// What to do instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address of /metrics, /healthz, /readyz and /loglevel.
    #[arg(long, env, value_name = "METRICS_ADDR", default_value = "0.0.0.0:9465")]
    pub metrics_addr: SocketAddr,

    /// The keys at rest. Most commands need none.
    #[command(flatten)]
    pub secrets: SecretsConfig,

    /// Where Postgres is.
    #[command(flatten)]
    pub database: PostgresConfig,

    /// Most connections to Postgres, at least 3.
    #[arg(long, env, value_name = "DATABASE_CONNECTIONS", default_value_t = 10,
          value_parser = integer_from::<u32>(3))]
    pub database_connections: u32,

    /// How long Postgres may take for what intake, claims and results need, at least 1ms, before their connection is closed and
    /// they try again on another one. It may be gone without a word.
    #[arg(long, env, value_name = "STATEMENT_TIMEOUT", default_value = "20s", value_parser = nonzero_duration)]
    pub statement_timeout: Duration,

    /// How long deliveries in progress may take after SIGTERM. Those that take longer are sent again by another
    /// worker.
    #[arg(long, env, value_name = "DRAIN_TIMEOUT", default_value = "25s", value_parser = parse_duration)]
    pub drain_timeout: Duration,

    /// Intake.
    #[command(flatten)]
    pub intake: IntakeConfig,

    /// Dispatch.
    #[command(flatten)]
    pub dispatch: DispatchConfig,

    /// Retries.
    #[command(flatten)]
    pub retry: RetryPolicy,

    /// Endpoints that keep failing.
    #[command(flatten)]
    pub breaker: Breaker,

    /// What is kept.
    #[command(flatten)]
    pub retention: RetentionConfig,

    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,

    /// Where webhooks may go.
    #[command(flatten)]
    pub egress: EgressConfig,

    /// Proxy that webhooks go through: `http://` (CONNECT) or `socks5://`, with user and password in the URL if it needs them.
    /// It is told checked addresses, never names.
    #[arg(long, env, hide_env_values = true, value_name = "EGRESS_PROXY")]
    pub egress_proxy: Option<EgressProxy>,

    /// Threads.
    #[command(flatten)]
    pub runtime: RuntimeConfig,

    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    /// Traces.
    #[command(flatten)]
    pub traces: TracesConfig,
}

/// What the program can do besides working.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Brings the database to this build's schema and exits. Needs `DATABASE_URL` and nothing else.
    Migrate,
    /// Reconciles the streams with the database: says what is not finished, and why. Ends with status 1 when something
    /// is stuck. Changes nothing. Needs the same settings as the worker, but for `SECRETS_KEY`.
    Audit(AuditOptions),
    /// Puts what is in quarantine and can be read by this build back into the event streams. Ends with status 1 when
    /// something stays. Needs the same settings as the worker, but for `SECRETS_KEY`.
    Requeue(RequeueOptions),
    /// Tells the story of one event in words: when it came, which endpoints it goes to and why not to the others, each
    /// attempt, and what it waits for now. Needs `DATABASE_URL` and nothing else.
    Explain(ExplainOptions),
    /// Encrypts every stored secret anew that is not under the first of `SECRETS_KEYS`, while everything runs, and ends.
    /// Changes nothing else. May be stopped and run again at any time. Needs `DATABASE_URL` and `SECRETS_KEYS`.
    Reseal,
    /// Prints the id of each of `SECRETS_KEYS`, as `audit` counts them, and its check of API keys, for `API_KEY_CHECKS`.
    /// Needs no database.
    SecretsKeys,
}

/// What an audit looks at.
#[derive(Args, Clone, Debug)]
pub struct AuditOptions {
    /// Counts events accepted since then: a time (RFC 3339), or how long ago (`36h`). What is overdue or in quarantine is
    /// counted whatever its age.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_since)]
    pub since: OffsetDateTime,

    /// Prints JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// What of the quarantine is put back: all of it unless one of these is given.
#[derive(Args, Clone, Debug)]
pub struct RequeueOptions {
    /// Only what came from this stream.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,

    /// Only what came from the message of this sequence number in the stream.
    #[arg(long, value_name = "NUMBER", requires = "stream")]
    pub sequence: Option<i64>,
}

/// What is explained.
#[derive(Args, Clone, Debug)]
pub struct ExplainOptions {
    /// The event's id.
    #[arg(value_name = "EVENT_ID")]
    pub event_id: EventId,

    /// Prints JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

fn parse_since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let ago =
        parse_duration(text).map_err(|error| format!("neither an RFC 3339 time nor a duration: {error}"))?;
    let now = UnixMicros::now().to_date_time();
    let since = time::Duration::try_from(ago)
        .ok()
        .and_then(|ago| now.checked_sub(ago));
    since.ok_or_else(|| "longer ago than there are dates".to_owned())
}

/// How events come in.
#[derive(Args, Clone, Debug)]
pub struct IntakeConfig {
    /// How long a worker may hold a frame before the stream gives it to another one, 100ms to 1day.
    #[arg(long, env, value_name = "INTAKE_ACK_WAIT", default_value = "10s", value_parser = ack_wait)]
    pub intake_ack_wait: Duration,

    /// The most that the payload filters of one event may take: a step is a condition, or 16 bytes of a filter. Deliveries
    /// to endpoints whose filter is not reached are dead, with the outcome `filter`.
    #[arg(long, env, value_name = "FILTER_STEPS", default_value_t = 1_000_000)]
    pub filter_steps: u32,
}

/// A worker speaks of the frames that it holds three times in this time.
fn ack_wait(text: &str) -> Result<Duration, String> {
    duration_within(text, &(Duration::from_millis(100)..=Duration::from_hours(24)))
}

/// How deliveries go out.
#[derive(Args, Clone, Debug)]
pub struct DispatchConfig {
    /// Deliveries that this worker sends at once, to all endpoints together, 1 to 100000. No endpoint gets more of them than it
    /// leaves free.
    #[arg(long, env, value_name = "MAX_IN_FLIGHT", default_value_t = 1_024,
          value_parser = integer_within::<u32>(1..=100_000))]
    pub max_in_flight: u32,

    /// How much longer a lease lasts than the endpoint's timeout. A worker that dies holds its deliveries back
    /// for that long.
    #[arg(long, env, value_name = "LEASE_MARGIN", default_value = "10s", value_parser = parse_duration)]
    pub lease_margin: Duration,

    /// How often due deliveries are looked for in the table, at least 1ms.
    #[arg(long, env, value_name = "CLAIM_INTERVAL", default_value = "250ms", value_parser = nonzero_duration)]
    pub claim_interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_too_short_or_too_long_are_refused() {
        for (name, variable, time) in [
            ("claim-interval", "CLAIM_INTERVAL", "1us"),
            ("statement-timeout", "STATEMENT_TIMEOUT", "0s"),
            ("intake-ack-wait", "INTAKE_ACK_WAIT", "2ns"),
            ("intake-ack-wait", "INTAKE_ACK_WAIT", "2days"),
            ("retention", "RETENTION", "47h"),
            ("usage-retention", "USAGE_RETENTION", "12000years"),
        ] {
            let refused = Config::try_parse_from(["delivery-worker".to_owned(), format!("--{name}={time}")]);
            let refused = refused.expect_err("it is refused").to_string();
            let words = format!("invalid value '{time}' for '--{name} <{variable}>'");
            assert!(refused.contains(&words), "{refused}");
        }
    }

    #[test]
    fn a_command_needs_the_settings_that_it_uses_and_a_worker_its_key_too() {
        let parse = |arguments: &[&str]| Config::try_parse_from([&["delivery-worker"], arguments].concat());
        for command in ["migrate", "audit", "requeue"] {
            let parsed = parse(&["--database-url=postgres://db", command]);
            assert!(parsed.is_ok_and(|config| config.command.is_some()), "{command}");
            assert!(parse(&[command]).is_err(), "{command} needs the database");
        }
        let refused = parse(&["--database-url=postgres://db"]).expect_err("a worker needs its key");
        assert!(
            refused.to_string().contains("--secrets-key <SECRETS_KEY>"),
            "{refused}"
        );
    }
}
