//! The settings of the keys that encrypt at rest.

use clap::Args;

use super::SecretsKey;

/// The keys that encrypt at rest.
#[derive(Args, Clone, Debug)]
pub struct SecretsConfig {
    /// Key that encrypts endpoint secrets at rest and marks API keys as ours, 32 bytes in base64; the same for both
    /// services. Under another one no stored secret opens and no API key is valid. This or `SECRETS_KEYS` is required.
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "SECRETS_KEY",
        required_unless_present = "secrets_keys",
        conflicts_with = "secrets_keys"
    )]
    pub secrets_key: Option<SecretsKey>,

    /// Such keys, comma separated, instead of `SECRETS_KEY`: the first one encrypts, and what is under any of them can be
    /// read. Each ciphertext then names its key.
    #[arg(long, env, hide_env_values = true, value_name = "SECRETS_KEYS", value_parser = SecretsKey::of_list)]
    pub secrets_keys: Option<SecretsKey>,
}

impl SecretsConfig {
    /// The key, with those before it.
    ///
    /// # Errors
    /// When neither setting is there, as commands may run without.
    pub fn key(&self) -> anyhow::Result<SecretsKey> {
        let key = self.secrets_keys.as_ref().or(self.secrets_key.as_ref());
        key.cloned()
            .ok_or_else(|| anyhow::anyhow!("SECRETS_KEY or SECRETS_KEYS is required"))
    }
}
