//! What an ingest replica is told by its environment.
//!
//! Imports nothing else of this crate.

mod admin_token;
mod keys;

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::{ArgAction, Args, Parser};
use shared::db::address::PostgresConfig;
use shared::egress::EgressConfig;
use shared::process::config;
use shared::process::nats::NatsConfig;
use shared::process::shutdown::RuntimeConfig;
use shared::process::telemetry::TelemetryConfig;
use shared::secret::SecretsConfig;
use shared::server::HttpServerConfig;
use shared::traces::config::TracesConfig;
use shared::traces::sampler::SamplingConfig;
use url::Url;

pub use self::admin_token::{AdminScope, AdminToken, AdminTokens};
pub use self::keys::{KeyCacheConfig, KeyShareConfig};

/// Stateless HTTP API: authenticates, rate-limits and publishes events to NATS JetStream.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest-api", version)]
pub struct Config {
    /// Address of the API.
    #[arg(long, env, value_name = "LISTEN_ADDR", default_value = "0.0.0.0:8080")]
    pub listen_addr: SocketAddr,

    /// Address of the admin API. When it is set, /admin is served there and nowhere else.
    #[arg(long, env, value_name = "ADMIN_LISTEN_ADDR")]
    pub admin_listen_addr: Option<SocketAddr>,

    /// Address of /metrics, /healthz, /readyz and /loglevel.
    #[arg(long, env, value_name = "METRICS_ADDR", default_value = "0.0.0.0:9464")]
    pub metrics_addr: SocketAddr,

    /// Token for /admin, at least 32 characters; it may do everything. Without it and `ADMIN_TOKENS` the admin API answers
    /// 404.
    #[arg(long, env, hide_env_values = true, value_name = "ADMIN_TOKEN")]
    pub admin_token: Option<AdminToken>,

    /// Further tokens for /admin, comma separated, each as `name:scope:token`. The scope is `read` or `manage`, which
    /// includes `read`.
    #[arg(long, env, hide_env_values = true, value_name = "ADMIN_TOKENS", value_parser = AdminTokens::of_list)]
    pub admin_tokens: Option<AdminTokens>,

    /// Where browsers reach the API, such as `https://events.example.com`: links to portals begin with it. Without it they
    /// begin with `http://` and the host of the request that asks for one.
    #[arg(long, env, value_name = "PUBLIC_URL", value_parser = public_url)]
    pub public_url: Option<Url>,

    /// Whether anyone who reaches the API may make an organisation, in any tier, and its first key.
    #[arg(long, env, value_name = "ALLOW_SIGNUP", action = ArgAction::Set, default_value_t = false)]
    pub allow_signup: bool,

    /// The keys at rest.
    #[command(flatten)]
    pub secrets: SecretsConfig,

    /// How long a request may take to send its whole body.
    #[arg(long, env, value_name = "BODY_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub body_timeout: Duration,

    /// Bytes of request bodies that may be in memory before they have come as a whole, at least 4194304, the largest batch;
    /// beyond them requests whose body does not come in one piece are answered 503.
    #[arg(long, env, value_name = "BODY_BUFFER_BYTES", default_value_t = 256 << 20,
          value_parser = config::integer_from::<u32>(4 << 20))]
    pub body_buffer_bytes: u32,

    /// How long requests are still taken after SIGTERM, while /readyz answers 503: as long as the load balancer takes to
    /// learn that this replica is going.
    #[arg(long, env, value_name = "STOP_DELAY", default_value = "0s", value_parser = humantime::parse_duration)]
    pub stop_delay: Duration,

    /// How long requests in progress may take after SIGTERM and `STOP_DELAY`.
    #[arg(long, env, value_name = "DRAIN_TIMEOUT", default_value = "25s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// Origins, comma separated, whose web pages may call the API; `*` allows all. None unless set.
    #[arg(long, env, value_name = "CORS_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<HeaderValue>,

    /// Postgres.
    #[command(flatten)]
    pub database: DatabaseConfig,

    /// The event streams.
    #[command(flatten)]
    pub streams: StreamsConfig,

    /// Publishing.
    #[command(flatten)]
    pub publish: PublishConfig,

    /// The key cache.
    #[command(flatten)]
    pub keys: KeyCacheConfig,

    /// The bucket in which replicas share verified keys.
    #[command(flatten)]
    pub key_share: KeyShareConfig,

    /// Rate limits.
    #[command(flatten)]
    pub rate_limits: RateLimitConfig,

    /// Connections.
    #[command(flatten)]
    pub http: HttpServerConfig,

    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,

    /// Where webhooks may go.
    #[command(flatten)]
    pub egress: EgressConfig,

    /// Threads.
    #[command(flatten)]
    pub runtime: RuntimeConfig,

    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    /// Where traces go.
    #[command(flatten)]
    pub traces: TracesConfig,

    /// Which requests are traced.
    #[command(flatten)]
    pub sampling: SamplingConfig,
}

impl Config {
    /// The tokens of the admin API.
    pub(crate) fn admin_tokens(&self) -> AdminTokens {
        let named = self.admin_tokens.clone().unwrap_or_default();
        named.with_unnamed(self.admin_token.as_ref())
    }
}

fn public_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/");
    let url =
        url.filter(|url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
    url.ok_or("must be http or https and a host, such as https://events.example.com")
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let is_origin = text == "*"
        || url::Url::parse(text)
            .is_ok_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text);
    let value = HeaderValue::from_str(text).ok().filter(|_| is_origin);
    value.ok_or_else(|| "must be `*` or an origin such as https://app.example.com".to_owned())
}

/// Postgres.
#[derive(Args, Clone, Debug)]
pub struct DatabaseConfig {
    /// Where it is.
    #[command(flatten)]
    pub address: PostgresConfig,

    /// Most connections to Postgres for what is asked with a key, at least 1. Look-ups of keys (`KEY_LOOKUPS`) and changes of
    /// keys (two) have connections of their own beside these.
    #[arg(long, env, value_name = "DATABASE_CONNECTIONS", default_value_t = 10,
          value_parser = config::integer_from::<u32>(1))]
    pub database_connections: u32,

    /// How long a statement may take before Postgres ends it and its request is answered 503, at least 1ms.
    #[arg(long, env, value_name = "STATEMENT_TIMEOUT", default_value = "10s", value_parser = config::nonzero_duration)]
    pub statement_timeout: Duration,
}

/// The event streams, which ingest creates and keeps as configured here.
#[derive(Args, Clone, Debug)]
pub struct StreamsConfig {
    /// Number of event streams, 1 to 256. May be raised at any time. When it is lowered workers still empty the streams left
    /// over; delete these once they are empty.
    #[arg(long, env, value_name = "EVENT_STREAMS", default_value_t = 1,
          value_parser = config::integer_within::<u32>(1..=256))]
    pub event_streams: u32,

    /// Replicas of each stream, 1 to 5: 1 on a single nats-server, 3 on a cluster.
    #[arg(long, env, value_name = "EVENT_STREAM_REPLICAS", default_value_t = 1,
          value_parser = config::integer_within::<u8>(1..=5))]
    pub event_stream_replicas: u8,

    /// Bytes at which a stream is full and the API answers 503, at least 1048576. Each stream
    /// reserves them out of what NATS may store (`max_file_store`), which must be well below the size of its disk.
    #[arg(long, env, value_name = "EVENT_STREAM_MAX_BYTES", default_value_t = 1 << 30,
          value_parser = config::integer_from::<i64>(1 << 20))]
    pub event_stream_max_bytes: i64,
}

/// How events reach the streams.
#[derive(Args, Clone, Debug)]
pub struct PublishConfig {
    /// How long a request waits for the stream's acknowledgement before it is answered 503.
    #[arg(long, env, value_name = "PUBLISH_TIMEOUT", default_value = "2s", value_parser = humantime::parse_duration)]
    pub publish_timeout: Duration,

    /// Bytes of events that may wait to be published, at least 1048576; beyond them requests are answered 503 at once.
    #[arg(long, env, value_name = "PUBLISH_QUEUE_BYTES", default_value_t = 32 << 20,
          value_parser = config::integer_from::<u32>(1 << 20))]
    pub publish_queue_bytes: u32,
}

/// How replicas keep to one limit together.
#[derive(Args, Clone, Debug)]
pub struct RateLimitConfig {
    /// How often replicas tell each other what they admitted while half of a limit is used up, 10ms to 1s; otherwise they do
    /// once a second.
    #[arg(long, env, value_name = "RATE_LIMIT_EXCHANGE", default_value = "200ms", value_parser = exchange_interval)]
    pub rate_limit_exchange: Duration,
}

fn exchange_interval(text: &str) -> Result<Duration, String> {
    config::duration_within(text, &(Duration::from_millis(10)..=Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_too_short_is_refused_by_the_name_of_its_variable() {
        for (name, variable, short) in [
            ("key-use-interval", "KEY_USE_INTERVAL", "1us"),
            ("key-share-ttl", "KEY_SHARE_TTL", "0s"),
            ("statement-timeout", "STATEMENT_TIMEOUT", "0s"),
            ("header-timeout", "HEADER_TIMEOUT", "1ns"),
            ("rate-limit-exchange", "RATE_LIMIT_EXCHANGE", "0s"),
        ] {
            let refused = Config::try_parse_from(["ingest-api".to_owned(), format!("--{name}={short}")]);
            let refused = refused.expect_err("it is refused").to_string();
            let words = format!("invalid value '{short}' for '--{name} <{variable}>'");
            assert!(refused.contains(&words), "{refused}");
        }
    }
}
