//! How long a receiver keeps an idle connection, as its answer says.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How much earlier than the receiver this end stops using a connection, so that no request meets its closing.
const EARLIER: Duration = Duration::from_secs(1);

/// How long the connection may be used again; as long as ever where the answer does not say, and not at all where it says
/// so.
pub(super) fn time(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(KEEP_ALIVE).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut time = Duration::MAX;
    for parameter in texts.flat_map(|text| text.split([',', ';'])) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let Ok(value) = value.trim().trim_matches('"').parse::<u64>() else {
            continue;
        };
        let name = name.trim();
        if name.eq_ignore_ascii_case("timeout") {
            let said = Duration::from_secs(value);
            time = time.min(said.saturating_sub(EARLIER).max(said / 2));
        } else if name.eq_ignore_ascii_case("max") && value == 0 {
            return None;
        }
    }
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        time(&HeaderMap::from_iter([(
            KEEP_ALIVE,
            hyper::header::HeaderValue::from_static(text),
        )]))
    }

    #[test]
    fn a_connection_is_left_before_the_receiver_closes_it() {
        for (text, millis) in [
            ("timeout=5", 4_000),
            ("timeout=5, max=100", 4_000),
            ("max=1;Timeout = 20", 19_000),
            ("timeout=\"3\"", 2_000),
            ("timeout=1", 500),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(read("timeout=0"), None);
        assert_eq!(read("timeout=5, max=0"), None);
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        for text in [
            "",
            "timeout",
            "timeout=",
            "timeout=soon",
            "timeout=-1",
            "300",
            "a=b, c",
        ] {
            assert_eq!(read(text), Some(Duration::MAX), "{text}");
        }
        assert_eq!(time(&HeaderMap::new()), Some(Duration::MAX));
    }
}
