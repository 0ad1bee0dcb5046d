//! Property tests by the clock instead of by a number of cases, and strategies for input that is nearly right.
//!
//! The tests stand in the crates whose readers they try, in a module `fuzz`. Each runs for `FUZZ_SECONDS`, 3 unless
//! set.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

const SECONDS: &str = "FUZZ_SECONDS";
const DEFAULT_SECONDS: u64 = 3;

/// Cases between two looks at the clock.
const ROUND: u32 = 64;

/// Tries a property on new input until the time is over.
///
/// # Panics
/// When the property does not hold, with the smallest input found; or when `FUZZ_SECONDS` is no number.
pub fn fuzz<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = match std::env::var(SECONDS) {
        Ok(text) => text.parse().expect("FUZZ_SECONDS is a number of seconds"),
        Err(_) => DEFAULT_SECONDS,
    };
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let config = Config {
        cases: ROUND,
        failure_persistence: None,
        ..Config::default()
    };
    let mut cases = 0_u64;
    while Instant::now() < deadline {
        // A new one each time: it counts its cases over all its runs, and then makes no more.
        let mut runner = TestRunner::new(config.clone());
        if let Err(error) = runner.run(&strategy, &property) {
            panic!("after {cases} good cases: {error}");
        }
        cases += u64::from(ROUND);
    }
    println!("{cases} cases");
}

/// Any bytes.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..400)
}

/// Valid JSON, in spellings that a parser into a tree would not keep.
pub fn json() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?";
    let text = "\"([a-z./~ é]|\\\\u[0-9a-f]{4}|\\\\[\"\\\\/bfnrt]){0,12}\"";
    let leaf = prop_oneof!["null", "true", "false", number, text];
    leaf.prop_recursive(6, 32, 4, move |inner| {
        let elements = vec(inner.clone(), 0..4).prop_map(|elements| format!("[ {}]", elements.join(" ,")));
        let member = (text, inner).prop_map(|(name, value)| format!("{name}\t: {value}"));
        let members = vec(member, 0..4).prop_map(|members| format!("{{{} }}", members.join(",\n")));
        prop_oneof![elements, members]
    })
}

/// What `strategy` makes, with up to three pieces cut out, put in twice or overwritten.
pub fn damaged(strategy: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<Index>(), 0..20_usize, 0..3_u8, any::<u8>());
    (strategy, vec(damage, 0..=3)).prop_map(|(mut bytes, damages)| {
        for (start, length, kind, byte) in damages {
            let start = start.index(bytes.len() + 1);
            let end = (start + length).min(bytes.len());
            match kind {
                0 => drop(bytes.drain(start..end)),
                1 => bytes.extend_from_within(start..end),
                _ => bytes[start..end].fill(byte),
            }
        }
        bytes
    })
}
