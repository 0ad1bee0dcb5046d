//! What is set of API keys: how long they are remembered, and how replicas share them.

use std::time::Duration;

use clap::Args;
use shared::process::config;
use shared::secret::KeyCheck;

/// The cache of verified API keys.
#[derive(Args, Clone, Debug)]
pub struct KeyCacheConfig {
    /// How long a verified key that is not used stays in memory. One in use is asked for again in Postgres, in the
    /// background, every half of this time.
    #[arg(long, env, value_name = "KEY_CACHE_TTL", default_value = "5m", value_parser = humantime::parse_duration)]
    pub key_cache_ttl: Duration,

    /// How long a verified key goes on being valid while Postgres does not answer, counted from when it last confirmed the
    /// key, 0s to 7days. Revocations come over NATS meanwhile.
    #[arg(long, env, value_name = "KEY_OUTAGE_TTL", default_value = "12h", value_parser = outage_ttl)]
    pub key_outage_ttl: Duration,

    /// How long a refused key is refused without asking Postgres again.
    #[arg(long, env, value_name = "KEY_REFUSAL_TTL", default_value = "5s", value_parser = humantime::parse_duration)]
    pub key_refusal_ttl: Duration,

    /// Most keys in each of the two caches, at least 1.
    #[arg(long, env, value_name = "KEY_CACHE_SIZE", default_value_t = 200_000,
          value_parser = config::integer_from::<u32>(1))]
    pub key_cache_size: u32,

    /// Key verifications (argon2, about 11 ms and 7 MiB each; 19 MiB for keys of earlier releases) that run at once, 1 to 1000.
    #[arg(long, env, value_name = "KEY_VERIFICATIONS", default_value_t = 2,
          value_parser = config::integer_within::<u32>(1..=1_000))]
    pub key_verifications: u32,

    /// Look-ups of keys in Postgres that run at once, and the connections kept for them, 1 to 1000: lists cannot keep a key from
    /// being looked up, nor unknown keys a list from being made.
    #[arg(long, env, value_name = "KEY_LOOKUPS", default_value_t = 4,
          value_parser = config::integer_within::<u32>(1..=1_000))]
    pub key_lookups: u32,

    /// How often the keys' last uses are written to Postgres, at least 1ms.
    #[arg(long, env, value_name = "KEY_USE_INTERVAL", default_value = "30s", value_parser = config::nonzero_duration)]
    pub key_use_interval: Duration,

    /// Checks of API keys that were made under keys which `SECRETS_KEYS` does not have any more, comma separated, as
    /// `delivery-worker secrets-keys` prints them: such API keys stay valid.
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "API_KEY_CHECKS",
        value_delimiter = ','
    )]
    pub api_key_checks: Vec<KeyCheck>,
}

fn outage_ttl(text: &str) -> Result<Duration, String> {
    config::duration_within(text, &(Duration::ZERO..=Duration::from_hours(7 * 24)))
}

/// For NATS, no time is for ever, and less than 100 ms is refused.
fn share_ttl(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(31_557_600);
    config::duration_within(text, &(Duration::from_secs(1)..=YEAR))
}

#[cfg(test)]
impl KeyCacheConfig {
    /// Small numbers.
    pub fn for_tests() -> Self {
        Self {
            key_cache_ttl: Duration::from_secs(60),
            key_outage_ttl: Duration::from_secs(600),
            key_refusal_ttl: Duration::from_secs(5),
            key_cache_size: 100,
            key_verifications: 1,
            key_lookups: 1,
            key_use_interval: Duration::from_secs(1),
            api_key_checks: Vec::new(),
        }
    }
}

/// The bucket in which replicas share verified keys, so that a restart does not verify them all again.
#[derive(Args, Clone, Debug)]
pub struct KeyShareConfig {
    /// How long a verification is kept in the bucket after it was last confirmed, 1s to 1year, and no less than
    /// `KEY_OUTAGE_TTL`.
    #[arg(long, env, value_name = "KEY_SHARE_TTL", default_value = "24h", value_parser = share_ttl)]
    pub key_share_ttl: Duration,

    /// Bytes at which the bucket is full, at least 1048576, at about 400 a key; further keys are then not shared.
    #[arg(long, env, value_name = "KEY_SHARE_MAX_BYTES", default_value_t = 64 << 20,
          value_parser = config::integer_from::<i64>(1 << 20))]
    pub key_share_max_bytes: i64,
}
