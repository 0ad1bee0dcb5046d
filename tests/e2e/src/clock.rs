//! Clocks that are wrong, by libfaketime.

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
