//! A real Chromium, driven by Playwright in a script of its own, which talks with its test in lines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::programs::node;
use crate::skip;

/// What drives the browser, and what looks for barriers in its pages.
const PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "axe-core@4.14.1"];

/// Names of the browser's program.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// How long the script may be silent. It waits for less itself, but for many things one after the other.
const PATIENCE: Duration = Duration::from_secs(300);

/// One installation at a time.
static INSTALLING: OnceLock<Mutex<()>> = OnceLock::new();

/// A script with a browser.
#[derive(Debug)]
pub(super) struct Browser {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    /// Runs a script of `scripts/`. None, and loudly, where there is no browser and none can be installed.
    pub(super) async fn run(script: &str, arguments: &[&str]) -> Option<Self> {
        let (program, modules) = installed().await?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/penstock/console/scripts");
        let mut child = Command::new("node")
            .arg(folder.join(script))
            .args(arguments)
            .env("NODE_PATH", modules)
            .env("CHROMIUM", program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is there: npm is");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Some(Self { child, input, output })
    }

    /// Waits until the script says a line that begins with `word`, and returns the rest of it. Prints the notes before it.
    pub(super) async fn hear(&mut self, word: &str) -> String {
        let mut line = self.line(word).await;
        while let Some(note) = line.strip_prefix("note ") {
            println!("{note}");
            line = self.line(word).await;
        }
        let rest = line.strip_prefix(word);
        let rest = rest.unwrap_or_else(|| panic!("the script says {line:?} in place of {word}"));
        rest.trim().to_owned()
    }

    /// Waits for the next line of the script, which is to say `word`.
    async fn line(&mut self, word: &str) -> String {
        let line = timeout(PATIENCE, self.output.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("the script is silent before {word}"));
        let line = line.expect("the script writes text");
        line.unwrap_or_else(|| panic!("the script ended before {word}: see its errors above"))
    }

    /// Lets the script go on.
    pub(super) async fn say(&mut self, line: &str) {
        let written = self.input.write_all(format!("{line}\n").as_bytes()).await;
        written.expect("the script reads");
    }

    /// Waits for the script's end.
    pub(super) async fn finish(mut self) {
        self.hear("done").await;
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("the script ends").expect("it can be waited for");
        assert!(status.success(), "{status}: see its errors above");
    }
}

/// The browser's program, and where the script's packages are.
async fn installed() -> Option<(PathBuf, OsString)> {
    let _turn = INSTALLING.get_or_init(Mutex::default).lock().await;
    let mut folders = Vec::new();
    for package in PACKAGES {
        folders.push(node::package(package).await?.join("node_modules"));
    }
    let modules = std::env::join_paths(folders).expect("a build folder has no colon");
    if let Some(program) = program() {
        return Some((program, modules));
    }
    let install = "apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium";
    let mut command = Command::new("timeout");
    command
        .args(["300", "sh", "-c", install])
        .env("DEBIAN_FRONTEND", "noninteractive");
    let output = command.stdin(Stdio::null()).output().await;
    if let Some(program) = program() {
        return Some((program, modules));
    }
    eprintln!("{output:?}");
    skip("there is no Chromium, and apt cannot install it");
    None
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let mut candidates = PROGRAMS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|candidate| candidate.is_file())
}
