//! The output of commands. A reader that has gone away, such as `head`, is no reason to panic or to fail.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;

/// Prints to stdout. The caller can stop waiting for a reader that stands still.
///
/// # Errors
/// When it cannot be written for another reason than that nobody reads it any more.
pub async fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = tokio::io::stdout();
    let printed = async {
        stdout.write_all(text.as_bytes()).await?;
        stdout.flush().await
    };
    match printed.await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot print"),
    }
}

/// Prints on stderr why a program ends. It ignores that nobody may read it.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
