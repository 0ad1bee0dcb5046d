//! Starts the tasks that keep the replicas' knowledge of keys in step.

use std::sync::Arc;

use shared::process::nats::Nats;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::Readiness;

use crate::config::Config;
use crate::keys::api_key::KeySecrets;
use crate::keys::authenticator::{Authenticator, AuthenticatorParts};
use crate::keys::cache::KeyCache;
use crate::keys::changes::KeyChanges;
use crate::keys::share::{self, KeyShare, Writing};
use crate::keys::uses;
use crate::store::Store;

/// The parts of the service that know API keys.
#[derive(Debug)]
pub(crate) struct Keys {
    pub cache: Arc<KeyCache>,
    pub authenticator: Arc<Authenticator>,
    pub changes: Arc<KeyChanges>,
}

/// Starts the tasks that share keys and save their uses.
///
/// # Errors
/// When there is no `SECRETS_KEY`.
pub(crate) fn start_keys(
    config: &Config,
    store: Store,
    nats: &Nats,
    readiness: &Readiness,
    tasks: &Tasks,
) -> anyhow::Result<Keys> {
    let secrets_key = &config.secrets.key()?;
    let cache = Arc::new(KeyCache::new(config.keys.clone()));
    let (share, offers) = KeyShare::new(nats.clone(), secrets_key);
    let share = Arc::new(share);
    let changes = Arc::new(KeyChanges::new(
        nats.clone(),
        cache.clone(),
        share.clone(),
        tasks.clone(),
    ));
    let parts = AuthenticatorParts {
        secrets: KeySecrets::new(secrets_key, &config.keys.api_key_checks),
        cache: cache.clone(),
        share: share.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
    };
    let authenticator = Arc::new(Authenticator::new(config.keys.clone(), parts));
    let writing = Writing {
        cache: cache.clone(),
        renew_after: config.keys.key_cache_ttl / 2,
    };
    let bucket = share::bucket::settings(
        &config.key_share,
        &config.keys,
        config.streams.event_stream_replicas,
    );
    let stop = || tasks.stop().clone();
    let sharing = share.run(bucket, offers, writing, readiness.clone(), stop());
    tasks.spawn_long_lived("key share", sharing);
    tasks.spawn_long_lived(
        "key uses",
        uses::save_regularly(cache.clone(), store, config.keys.key_use_interval, stop()),
    );
    Ok(Keys {
        cache,
        authenticator,
        changes,
    })
}

/// Starts the tasks that drop changed keys from memory.
pub(crate) fn follow_key_changes(keys: &Keys, store: &Store, tasks: &Tasks) {
    let changes = || keys.changes.clone();
    let stop = || tasks.stop().clone();
    tasks.spawn_long_lived("key changes", changes().listen(stop()));
    tasks.spawn_long_lived("keys changed", changes().watch(store.clone(), stop()));
    tasks.spawn_long_lived("unshared keys", changes().unshare(stop()));
    tasks.spawn_long_lived(
        "missed key changes",
        changes().catch_up(keys.authenticator.clone(), stop()),
    );
}
