//! Python packages for tests: official SDKs and tools, pinned, installed once a build folder.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::process::Command;
use tokio::sync::Mutex;

/// One installation at a time: tests run side by side and may want the same packages.
static INSTALLING: OnceLock<Mutex<()>> = OnceLock::new();

/// A folder for `PYTHONPATH` with these packages, each pinned as `name==version`, and what they depend on.
///
/// # Panics
/// When pip cannot install them.
pub(crate) async fn packages(packages: &[&str]) -> PathBuf {
    let _turn = INSTALLING.get_or_init(Mutex::default).lock().await;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{}", packages.join("-")));
    if folder.exists() {
        return folder;
    }
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
        ])
        .arg("--target")
        .arg(&unfinished)
        .args(packages)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("python3 can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Another test process may have been quicker.
    if std::fs::rename(&unfinished, &folder).is_err() {
        std::fs::remove_dir_all(&unfinished).expect("an unfinished folder can be removed");
    }
    folder
}
