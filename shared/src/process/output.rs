//! What commands print. A reader that has gone away, such as `head`, is no reason to panic or to fail.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;

/// Prints to stdout. Whoever waits for it can give up: a reader may stand still.
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

/// Says on stderr why a program ends, if anybody listens.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
