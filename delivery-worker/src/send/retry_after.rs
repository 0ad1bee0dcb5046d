//! When a receiver wants the next request.

use std::time::{Duration, SystemTime};

use hyper::header::{HeaderMap, RETRY_AFTER};

/// `Retry-After` in seconds, rounded up, or as an HTTP date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits(whole) && is_digits(part) {
        // A number that does not fit is the longest time there is.
        let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
        let rest = part.bytes().any(|digit| digit != b'0');
        return Some(Duration::from_secs(seconds.saturating_add(rest.into())));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// 14 November 2023, 22:13:20 GMT.
    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn read(text: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(text.as_bytes()).ok()?)]);
        retry_after(&headers, SystemTime::UNIX_EPOCH + NOW)
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        for (text, seconds) in [("1.5", 2), ("0.001", 1), ("7.000", 7), ("0.0", 0)] {
            assert_eq!(read(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(
            read("Tue, 14 Nov 2023 22:15:20 GMT"),
            Some(Duration::from_secs(120))
        );
    }

    #[test]
    fn a_retry_after_that_says_nothing_is_ignored_and_a_huge_one_is_long() {
        for text in [
            "",
            "soon",
            "-5",
            "+5",
            "1.",
            ".5",
            "1.5.0",
            "1,5",
            "1e3",
            "0x10",
            "Tue, 14 Nov 2023 22:11:20 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        for text in [u64::MAX.to_string(), "9".repeat(100)] {
            assert_eq!(read(&text), Some(Duration::from_secs(u64::MAX)));
        }
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_hours(24));
    }

    proptest! {
        #[test]
        fn no_retry_after_panics(text in "[ -~]{0,40}") {
            let _ = read(&text);
        }
    }
}
