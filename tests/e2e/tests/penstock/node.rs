//! Node packages for tests: official SDKs, pinned, installed once a build folder.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Mutex;

use crate::skip;

/// One installation at a time: tests run side by side and may want the same package.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// A folder whose `node_modules` holds a package, `name@version`; nothing, and loudly, where npm cannot install it.
pub(crate) async fn package(package: &str) -> Option<PathBuf> {
    let _turn = INSTALLING.lock().await;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("node-{package}"));
    if folder.exists() {
        return Some(folder);
    }
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    std::fs::create_dir_all(&unfinished).expect("a build folder can be written");
    let output = Command::new("npm")
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ])
        .arg(&unfinished)
        .arg(package)
        .stdin(Stdio::null())
        .output()
        .await;
    let installed = output.as_ref().is_ok_and(|output| output.status.success());
    if !installed {
        eprintln!("{output:?}");
        skip(&format!("npm cannot install {package}"));
        return None;
    }
    // Another test process may have been quicker.
    if std::fs::rename(&unfinished, &folder).is_err() {
        std::fs::remove_dir_all(&unfinished).expect("an unfinished folder can be removed");
    }
    Some(folder)
}
