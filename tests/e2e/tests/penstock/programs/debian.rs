//! Programs of Debian packages for tests, taken out of their packages once for each release of Debian.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Mutex;

use crate::programs::fetched;
use crate::skip;

/// One at a time: tests run side by side and may want the same program.
static TAKING: Mutex<()> = Mutex::const_new(());

/// A program, by its path in a package; nothing, and loudly, where apt has no such package.
pub(crate) async fn program(package: &str, path: &str) -> Option<PathBuf> {
    let _turn = TAKING.lock().await;
    let script = format!("apt-get download {package} && dpkg -x {package}_*.deb .");
    let folder = fetched::folder(
        &format!("debian-{}-{package}", release()),
        async |folder: &Path| {
            let mut command = Command::new("sh");
            let command = command.args(["-c", &script]).current_dir(folder);
            let output = command.stdin(Stdio::null()).output().await;
            let output = output.expect("there is a shell");
            if output.status.success() {
                Ok(())
            } else {
                Err(output)
            }
        },
    )
    .await;
    match folder {
        Ok(folder) => Some(folder.join(path)),
        Err(output) => {
            eprintln!("{output:?}");
            skip(&format!("apt has no {package}"));
            None
        }
    }
}

/// The release's name, such as `trixie`.
fn release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut names = text
        .lines()
        .filter_map(|line| line.strip_prefix("VERSION_CODENAME="));
    names.next().unwrap_or("unknown").to_owned()
}
