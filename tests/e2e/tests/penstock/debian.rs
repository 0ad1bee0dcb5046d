//! Programs of Debian packages for tests, taken out of their packages once a build folder.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Mutex;

use crate::skip;

/// One at a time: tests run side by side and may want the same program.
static TAKING: Mutex<()> = Mutex::const_new(());

/// A program, by its path in a package; nothing, and loudly, where apt has no such package.
pub(crate) async fn program(package: &str, path: &str) -> Option<PathBuf> {
    let _turn = TAKING.lock().await;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("debian-{package}"));
    let program = folder.join(path);
    if program.exists() {
        return Some(program);
    }
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    std::fs::create_dir_all(&unfinished).expect("a build folder can be written");
    let script = format!("apt-get download {package} && dpkg -x {package}_*.deb .");
    let mut command = Command::new("sh");
    let command = command.args(["-c", &script]).current_dir(&unfinished);
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .expect("there is a shell");
    if !output.status.success() {
        eprintln!("{output:?}");
        skip(&format!("apt has no {package}"));
        return None;
    }
    // Another test process may have been quicker.
    if std::fs::rename(&unfinished, &folder).is_err() {
        std::fs::remove_dir_all(&unfinished).expect("an unfinished folder can be removed");
    }
    Some(program)
}
