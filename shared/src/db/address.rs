//! Where Postgres is, and the password that may change while the service runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the password's file is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether this process reads its password from a file. It is asked far from any settings: where an error is judged.
static IS_FROM_FILE: AtomicBool = AtomicBool::new(false);

/// Whether a refused password may be right a moment later.
pub(super) fn may_password_change() -> bool {
    IS_FROM_FILE.load(Ordering::Relaxed)
}

/// Where Postgres is.
#[derive(Args, Clone, Debug)]
pub struct PostgresConfig {
    /// Postgres URL.
    #[arg(long, env, hide_env_values = true, value_name = "DATABASE_URL")]
    pub database_url: String,

    /// File with the password, instead of one in `DATABASE_URL`. It is read again every second, and new connections use
    /// what it holds then.
    #[arg(long, env, value_name = "DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,
}

impl PostgresConfig {
    /// How to connect now.
    ///
    /// # Errors
    /// When the URL is not one of Postgres, or the file cannot be read.
    pub fn options(&self) -> anyhow::Result<PgConnectOptions> {
        let url = self.database_url.parse::<PgConnectOptions>();
        let options = url.context("DATABASE_URL is not a Postgres URL")?;
        Ok(match &self.database_password_file {
            Some(path) => {
                IS_FROM_FILE.store(true, Ordering::Relaxed);
                options.password(&read(path)?)
            }
            None => options,
        })
    }

    /// Lets new connections of these pools use the password that the file holds then, until the stop. None when there is
    /// no file.
    pub fn follow_password(
        &self,
        pools: Vec<PgPool>,
        stop: &CancellationToken,
    ) -> Option<impl Future<Output = anyhow::Result<()>> + Send + use<>> {
        let path = self.database_password_file.clone()?;
        Some(follow(path, pools, stop.clone()))
    }
}

async fn follow(path: PathBuf, pools: Vec<PgPool>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut is_readable) = (Zeroizing::new(String::new()), true);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match read(&path) {
            Ok(password) if password == known => is_readable = true,
            Ok(password) => {
                for pool in &pools {
                    let options = (*pool.connect_options()).clone();
                    pool.set_connect_options(options.password(&password));
                }
                // The first look finds what the pools were made with.
                if !known.is_empty() {
                    tracing::info!(file = %path.display(), "new connections to Postgres use another password");
                }
                (known, is_readable) = (password, true);
            }
            Err(error) => {
                if std::mem::take(&mut is_readable) {
                    tracing::warn!(error = format!("{error:#}"), "the password in use stays");
                }
            }
        }
    }
    Ok(())
}

/// What a file holds, without the line's end. An empty one is being written, or a mistake.
fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.with_context(|| format!("DATABASE_PASSWORD_FILE: cannot read {}", path.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(
        !password.is_empty(),
        "DATABASE_PASSWORD_FILE: {} is empty",
        path.display()
    );
    Ok(Zeroizing::new(password.to_owned()))
}
