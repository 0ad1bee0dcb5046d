//! The settings that a data folder keeps between runs, besides the servers' own data.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};
use shared::secret::random_bytes;

/// The content of the state file, which only its owner can read.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    /// `SECRETS_KEY` of both services: what the database holds encrypted can be read with this only.
    pub(crate) secrets_key: String,
    /// `ADMIN_TOKEN` of ingest-api.
    pub(crate) admin_token: String,
    /// The ports of the last run, by what listens there.
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u16>,
    /// The organisation that `cargo dev` shows.
    #[serde(default)]
    pub(crate) demo: Option<Demo>,
    #[serde(skip)]
    file: PathBuf,
}

/// An organisation whose webhooks come to `cargo dev` itself.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Demo {
    pub(crate) organization: String,
    pub(crate) key: String,
    /// The port of its endpoint, where the receiver must listen.
    pub(crate) port: u16,
    /// The secret of its endpoint.
    pub(crate) secret: String,
    /// Its tenants, each with an endpoint of its own. A data folder of an earlier release has none.
    #[serde(default)]
    pub(crate) tenants: Vec<DemoTenant>,
}

/// A tenant of the demo organisation.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DemoTenant {
    /// What the organisation calls it.
    pub(crate) uid: String,
    /// The secret of its endpoint.
    pub(crate) secret: String,
}

impl State {
    /// The state of a data folder; a new one with new secrets when it has none.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("state.json");
        if file.exists() {
            let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let state: Self =
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?;
            return Ok(Self { file, ..state });
        }
        let state = Self {
            secrets_key: BASE64.encode(&random_bytes::<32>()),
            admin_token: BASE64URL_NOPAD.encode(&random_bytes::<24>()),
            ports: BTreeMap::new(),
            demo: None,
            file,
        };
        state.save()?;
        Ok(state)
    }

    /// Writes it, whole or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let folder = self.file.parent().context("the state file has no folder")?;
        // A new temporary file is readable for its owner only.
        let new = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&new, self)?;
        new.as_file().sync_all()?;
        new.persist(&self.file)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
