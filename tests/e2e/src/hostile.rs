//! A payload and filters that take as much work as is allowed.

use serde_json::{Value, json};

/// The largest payload: nested as deep as is taken, and long at the bottom.
pub fn hostile_payload() -> String {
    let (open, close) = (r#"{"a":"#.repeat(62), "}".repeat(62));
    let numbers = "1,".repeat(120_000);
    format!("{open}[{numbers}0]{close}")
}

/// 32 conditions, each of which is about the bottom of that payload.
pub fn hostile_filter(endpoint: usize) -> Value {
    let steps = "/a".repeat(50);
    let conditions = (0..32).map(|number| (format!("{steps}/{endpoint}{number}"), json!({"ne": number})));
    Value::Object(conditions.collect())
}
