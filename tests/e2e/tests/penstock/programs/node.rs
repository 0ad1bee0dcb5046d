//! Node packages for tests: official SDKs, pinned, installed once.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Mutex;

use crate::programs::fetched;
use crate::skip;

/// One installation at a time: tests run side by side and may want the same package.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// A folder whose `node_modules` holds a package, `name@version`; nothing, and loudly, where npm cannot install it.
pub(crate) async fn package(package: &str) -> Option<PathBuf> {
    let _turn = INSTALLING.lock().await;
    let folder = fetched::folder(&format!("node-{package}"), async |folder: &Path| {
        let output = Command::new("npm")
            .args([
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
            ])
            .arg(folder)
            .arg(package)
            .stdin(Stdio::null())
            .output()
            .await;
        let installed = output.as_ref().is_ok_and(|output| output.status.success());
        if installed { Ok(()) } else { Err(output) }
    })
    .await;
    match folder {
        Ok(folder) => Some(folder),
        Err(output) => {
            eprintln!("{output:?}");
            skip(&format!("npm cannot install {package}"));
            None
        }
    }
}
