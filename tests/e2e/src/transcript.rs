//! An answer as text, for snapshots.

use std::fmt::Write as _;

use reqwest::Response;

/// The headers that are part of every error's contract, in the order in which they are written down.
const HEADERS: &[&str] = &["content-type", "allow", "www-authenticate", "retry-after"];

/// Status, headers and body of an answer.
pub async fn transcript(response: Response) -> String {
    transcript_with(response, &[]).await
}

/// The same with further headers.
pub async fn transcript_with(response: Response, headers: &[&str]) -> String {
    let mut text = response.status().to_string();
    for &name in HEADERS.iter().chain(headers) {
        for value in response.headers().get_all(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            write!(text, "\n{name}: {value}").expect("writing to a String does not fail");
        }
    }
    let body = response.text().await;
    let body = body.unwrap_or_else(|error| format!("(no whole body: {error})"));
    text + "\n\n" + &body
}
