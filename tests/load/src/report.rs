//! What a run came to: figures and targets, as JSON.

pub(super) mod plot;
pub(super) mod row;
pub(super) mod table;

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context as _;
use serde::Serialize;

use self::row::Row;

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) targets: Vec<Target>,
}

/// A figure that is no row of requests.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) section: &'static str,
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// What was aimed at, and whether it was reached.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) section: &'static str,
    pub(crate) what: String,
    pub(crate) measured: f64,
    /// `≥` or `≤`.
    pub(crate) relation: Relation,
    pub(crate) wanted: f64,
    pub(crate) unit: &'static str,
}

/// Which side of a target is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Relation {
    #[serde(rename = "≥")]
    AtLeast,
    #[serde(rename = "≤")]
    AtMost,
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        match self.relation {
            Relation::AtLeast => self.measured >= self.wanted,
            Relation::AtMost => self.measured <= self.wanted,
        }
    }
}

impl Report {
    /// Notes a figure.
    pub(crate) fn figure(
        &mut self,
        section: &'static str,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        let name = name.into();
        self.figures.push(Figure {
            section,
            name,
            value,
            unit,
        });
    }

    /// Notes a target that is met when `measured` is at least `wanted`.
    pub(crate) fn at_least(
        &mut self,
        section: &'static str,
        what: impl Into<String>,
        measured: f64,
        wanted: f64,
        unit: &'static str,
    ) {
        self.targets.push(Target {
            section,
            what: what.into(),
            measured,
            relation: Relation::AtLeast,
            wanted,
            unit,
        });
    }

    /// Notes a target that is met when `measured` is at most `wanted`.
    pub(crate) fn at_most(
        &mut self,
        section: &'static str,
        what: impl Into<String>,
        measured: f64,
        wanted: f64,
        unit: &'static str,
    ) {
        self.targets.push(Target {
            section,
            what: what.into(),
            measured,
            relation: Relation::AtMost,
            wanted,
            unit,
        });
    }

    /// Writes `load.json` and `load.svg`; returns the folder.
    pub(crate) fn write(&self, folder: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        let folder = folder.map_or_else(default_folder, Ok)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("load.json", serde_json::to_string_pretty(self)?)?;
        write("load.svg", plot::latency(&self.rows))?;
        Ok(folder)
    }
}

/// `load` beside the program's profile folder: `target/load`.
fn default_folder() -> anyhow::Result<PathBuf> {
    let program = env::current_exe().context("cannot find this program's own file")?;
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    Ok(target.join("load"))
}
