use std::io::Write as _;
use std::time::Duration;

use axum::http::HeaderValue;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use crate::http::request::decompress::*;

const LIMIT: usize = 4 * 1024 * 1024;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

fn undo(body: &[u8], codings: &[Coding], limit: usize) -> Result<Vec<u8>, String> {
    let limits = BodyLimits::new(Duration::from_secs(1), 64 * 1024 * 1024);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let body = Bytes::copy_from_slice(body);
    let outcome = runtime.block_on(decompress(body, codings, limit, &limits));
    outcome
        .map(|bytes| bytes.to_vec())
        .map_err(|error| error.in_words())
}

/// Text that is made no smaller than a quarter or so.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn what_was_compressed_comes_out_as_it_was() {
    for data in [&b""[..], b"{}", &noise(LIMIT), &b"[1,2]".repeat(1_000)] {
        assert_eq!(undo(&gzip(data), &[Coding::Gzip], LIMIT).as_deref(), Ok(data));
        assert_eq!(undo(&zstd(data), &[Coding::Zstd], LIMIT).as_deref(), Ok(data));
        let twice = zstd(&gzip(data));
        assert_eq!(
            undo(&twice, &[Coding::Gzip, Coding::Zstd], LIMIT).as_deref(),
            Ok(data)
        );
    }
    assert_eq!(undo(b"", &[Coding::Gzip], LIMIT), Ok(Vec::new()));
}

#[test]
fn members_and_frames_follow_one_another() {
    let parts =
        |compress: fn(&[u8]) -> Vec<u8>| [compress(b"{\"a"), compress(b""), compress(b"\":1}")].concat();
    for (coding, body) in [(Coding::Gzip, parts(gzip)), (Coding::Zstd, parts(zstd))] {
        assert_eq!(undo(&body, &[coding], LIMIT).as_deref(), Ok(&b"{\"a\":1}"[..]));
    }
    // A frame to be skipped (RFC 8878, 3.1.2), before, between and after.
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
    let body = [skipped, &zstd(b"1")[..], skipped, &zstd(b"2")[..], skipped].concat();
    assert_eq!(undo(&body, &[Coding::Zstd], LIMIT).as_deref(), Ok(&b"12"[..]));
}

#[test]
fn what_is_cut_or_followed_by_something_is_refused() {
    let data = b"{\"type\":\"a\",\"data\":[1,2,3,4,5,6,7,8,9]}".repeat(9);
    for (coding, body) in [(Coding::Gzip, gzip(&data)), (Coding::Zstd, zstd(&data))] {
        for cut in 1..body.len() {
            let refused = undo(&body[..cut], &[coding], LIMIT).unwrap_err();
            assert!(refused.starts_with("400 "), "{coding:?} {cut}: {refused}");
        }
        for rest in [&b"x"[..], b"{\"more\":true}", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"] {
            let refused = undo(&[&body[..], rest].concat(), &[coding], LIMIT).unwrap_err();
            assert!(refused.starts_with("400 "), "{coding:?} {rest:?}: {refused}");
        }
    }
    insta::assert_snapshot!(undo(&gzip(&data)[..20], &[Coding::Gzip], LIMIT).unwrap_err(), @"400 the body is not gzip: it ends too early");
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Zstd, "zstd")] {
        let refused = undo(b"{\"type\":\"a\"}", &[coding], LIMIT).unwrap_err();
        let expected = format!("400 the body is not {name}: ");
        assert!(
            refused.starts_with(&expected) && refused.len() > expected.len(),
            "{refused}"
        );
    }
}

#[test]
fn a_damaged_checksum_is_seen() {
    let mut body = gzip(b"{\"type\":\"a\"}");
    let checksum = body.len() - 8;
    body[checksum] ^= 1;
    assert!(
        undo(&body, &[Coding::Gzip], LIMIT)
            .unwrap_err()
            .starts_with("400 ")
    );
}

#[test]
fn the_limit_counts_what_comes_out() {
    let data = noise(10_000);
    for (coding, body) in [(Coding::Gzip, gzip(&data)), (Coding::Zstd, zstd(&data))] {
        assert!(undo(&body, &[coding], 10_000).is_ok());
        insta::allow_duplicates! {
            insta::assert_snapshot!(undo(&body, &[coding], 9_999).unwrap_err(), @"413 the body is larger than 9999 bytes");
        }
    }
}

#[test]
fn what_grows_out_of_proportion_is_refused_once_it_is_large() {
    let spaces = |length| vec![b' '; length];
    for (coding, compress) in [(Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Coding::Zstd, zstd)] {
        assert!(undo(&compress(&spaces(FREE_BYTES)), &[coding], LIMIT).is_ok());
        insta::allow_duplicates! {
            insta::assert_snapshot!(undo(&compress(&spaces(LIMIT)), &[coding], LIMIT).unwrap_err(), @"413 the body grows to more than 500 times its size when it is decompressed");
        }
    }
    let twice = gzip(&gzip(&spaces(LIMIT)));
    assert!(undo(&twice, &[Coding::Gzip, Coding::Gzip], LIMIT).is_err());
}

#[test]
fn a_window_of_more_than_eight_mebibytes_is_refused() {
    let with_window = |log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(b"{}").unwrap();
        encoder.finish().unwrap()
    };
    assert!(undo(&with_window(23), &[Coding::Zstd], LIMIT).is_ok());
    insta::assert_snapshot!(undo(&with_window(24), &[Coding::Zstd], LIMIT).unwrap_err(), @"400 the body is not zstd: Frame requires too much memory for decoding");
}

#[test]
fn codings_are_read_whatever_their_case_and_unknown_ones_refused() {
    let read = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        codings(&headers).map_err(|error| error.in_words())
    };
    for none in [&["Identity"][..], &[""], &["identity, IDENTITY"], &[]] {
        assert_eq!(read(none), Ok(Vec::new()));
    }
    assert_eq!(read(&["GZip"]), Ok(vec![Coding::Gzip]));
    assert_eq!(
        read(&["x-gzip , identity", "ZSTD"]),
        Ok(vec![Coding::Gzip, Coding::Zstd])
    );
    for unknown in [
        "deflate",
        "br",
        "gzip, br",
        "gzip;q=1",
        "gzip, gzip, gzip",
        "chunked",
    ] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(read(&[unknown]).unwrap_err(), @"415 of content codings, send gzip or zstd, at most two of them, or none");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic_or_turn_forever(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        start in prop_oneof![Just(0), Just(2), Just(4), Just(10), Just(20)],
    ) {
        for (coding, valid) in [(Coding::Gzip, gzip(b"[1,2,3]")), (Coding::Zstd, zstd(b"[1,2,3]"))] {
            let body = [&valid[..valid.len().min(start)], &body].concat();
            let _ = undo(&body, &[coding], 10_000);
        }
    }
}
