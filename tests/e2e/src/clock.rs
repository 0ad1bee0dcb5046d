//! Clocks that are wrong, by libfaketime, and the form of times.

use std::path::Path;

use penstock_local::Replica;

/// Where Debian's package `libfaketime` has its library.
const LIBRARIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A replica whose clock is wrong by, for example, `+1h`; nothing where libfaketime is not installed.
pub fn with_wrong_clock(by: &str) -> Option<Replica> {
    let library = LIBRARIES.iter().find(|library| Path::new(library).exists())?;
    let replica = Replica::default().with_env("LD_PRELOAD", library);
    let replica = replica.with_env("FAKETIME", by);
    // Only the wall clock is wrong.
    Some(replica.with_env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
}

/// Whether a text is a time as Penstock writes it: RFC 3339 in UTC with six digits of a second.
pub fn is_time(text: &str) -> bool {
    const FORM: &str = "0000-00-00T00:00:00.000000Z";
    let digits_as_zeros = |character: char| {
        if character.is_ascii_digit() {
            '0'
        } else {
            character
        }
    };
    text.chars().map(digits_as_zeros).eq(FORM.chars())
}
