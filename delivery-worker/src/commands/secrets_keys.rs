//! `delivery-worker secrets-keys`: what to know of the keys that encrypt at rest, without the keys.

use shared::process::output::print;
use shared::secret::{KeyCheck, SecretsKey};

/// Prints a line for each key, the current one first: its id, and its check of API keys.
///
/// # Errors
/// When it cannot be printed.
pub(crate) async fn run(key: &SecretsKey) -> anyhow::Result<()> {
    let lines = key.ids().into_iter().zip(KeyCheck::of(key));
    let lines = lines.map(|(id, check)| format!("{id}  {}\n", check.to_text()));
    let heading = "id                check of API keys\n".to_owned();
    print(&std::iter::once(heading).chain(lines).collect::<String>()).await
}
