//! Metrics are described once, the alerts and the dashboard name those that there are, and the dashboard shows them all.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{path, read, values, yaml};

/// A series that Prometheus itself makes.
const UP: &str = "up";

/// The gauges and the counter of a process, which the crate `metrics-process` describes.
const PROCESS: [&str; 4] = [
    "cpu_seconds_total",
    "max_fds",
    "open_fds",
    "resident_memory_bytes",
];

#[test]
fn every_metric_of_the_alerts_is_described_and_every_alert_is_tested() {
    let series = described_series();
    let alerts = yaml("deploy/prometheus/alerts.yaml");
    let expressions = expressions(&alerts);
    let names = values(&alerts, "alert");
    assert!(!names.is_empty() && names.len() == expressions.len());
    for (alert, expression) in names.iter().zip(&expressions) {
        let metrics = metrics_of(expression);
        assert!(!metrics.is_empty(), "{alert}: {expression}");
        for metric in metrics {
            assert!(series.contains(&metric), "{alert}: nothing exports {metric}");
        }
    }
    for key in ["severity", "summary", "description", "runbook"] {
        assert_eq!(values(&alerts, key).len(), names.len(), "each alert has a {key}");
    }
    let tests = read("deploy/prometheus/alerts_test.yaml");
    for alert in names {
        let raised = format!("labels: 'ALERTS{{alertname=\"{alert}\", ");
        assert!(tests.contains(&raised), "alerts_test.yaml raises {alert}");
    }
}

#[test]
fn every_metric_of_the_dashboard_is_described_and_comes_from_the_chosen_source() {
    let series = described_series();
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(
            ids.insert(panel["id"].as_u64()),
            "two panels have the id {}",
            panel["id"]
        );
        if panel["type"] == "row" {
            continue;
        }
        let title = &panel["title"];
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title} has a unit"
        );
        for target in targets(panel) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let metrics = metrics_of(expression(target));
            assert!(!metrics.is_empty(), "{title}: {}", expression(target));
            for metric in metrics {
                assert!(series.contains(&metric), "{title}: nothing exports {metric}");
            }
        }
    }
    assert_eq!(dashboard["templating"]["list"][0]["name"], "datasource");
}

#[test]
fn every_metric_that_is_described_is_on_the_dashboard() {
    let dashboard = dashboard();
    let shown: BTreeSet<_> = panels(&dashboard)
        .iter()
        .flat_map(targets)
        .flat_map(|target| metrics_of(expression(target)))
        .collect();
    for (kind, name) in METRIC_NAMES.iter().flat_map(|file| described(&read(file))) {
        let mut series = series_of(&kind, &name).into_iter();
        assert!(
            series.any(|series| shown.contains(&series)),
            "no panel shows {name}"
        );
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/penstock.json")).expect("it is JSON")
}

/// Its panels and rows.
fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().expect("it has panels")
}

/// What a panel asks Prometheus for; a row asks for nothing.
fn targets(panel: &Value) -> &[Value] {
    let targets = panel["targets"].as_array().map(Vec::as_slice);
    assert!(targets.is_some() || panel["type"] == "row", "a panel has targets");
    targets.unwrap_or_default()
}

fn expression(target: &Value) -> &str {
    target["expr"].as_str().expect("a target has an expression")
}

/// Where metrics are described, for all the sources beside and below.
const METRIC_NAMES: [&str; 3] = [
    "shared/src/process/metric_names.rs",
    "ingest-api/src/metric_names.rs",
    "delivery-worker/src/metric_names.rs",
];

/// The kinds and names of the metrics that a source describes.
fn described(source: &str) -> Vec<(String, String)> {
    let calls = source.split("describe_").skip(1);
    let calls = calls.filter_map(|call| call.split_once("!("));
    let calls = calls.filter(|(kind, _)| kind.chars().all(char::is_alphabetic));
    let metrics = calls.map(|(kind, rest)| {
        let name = rest.split('"').nth(1).expect("a metric has a name");
        (kind.to_owned(), name.to_owned())
    });
    metrics.collect()
}

/// The series of a metric.
fn series_of(kind: &str, name: &str) -> Vec<String> {
    match kind {
        "histogram" => ["bucket", "sum", "count"]
            .map(|part| format!("{name}_{part}"))
            .into(),
        _ => vec![name.to_owned()],
    }
}

/// The series of all metrics that the services export.
fn described_series() -> BTreeSet<String> {
    let described = METRIC_NAMES.iter().flat_map(|file| described(&read(file)));
    let series = described.flat_map(|(kind, name)| series_of(&kind, &name));
    let of_process = PROCESS.map(|name| format!("penstock_process_{name}"));
    series.chain(of_process).chain([UP.to_owned()]).collect()
}

/// What writes a metric, by its name.
const WRITES: [&str; 5] = ["counter!(", "gauge!(", "histogram!(", "set(", "set_labelled("];

/// The names of the metrics that a crate's sources write, without those of its tests.
fn written(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a crate has sources") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            written(&path, names);
        } else if !path.ends_with("metric_names.rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("a source is text");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let calls = WRITES.iter().flat_map(|call| text.split(call).skip(1));
            let literals = calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
            let is_name = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            names.extend(literals.filter(is_name).map(str::to_owned));
        }
    }
}

#[test]
fn every_metric_that_is_written_is_described_once_and_the_other_way_round() {
    for file in METRIC_NAMES {
        let mut names: Vec<_> = described(&read(file)).into_iter().map(|(_, name)| name).collect();
        names.sort();
        let mut known = BTreeSet::new();
        let sources = file.split_once("/src/").expect("it is a source").0;
        written(&path(&format!("{sources}/src")), &mut known);
        assert_eq!(names, Vec::from_iter(known), "{file}");
    }
}

/// Every `expr` of a rule file: on the key's own line, or on the lines after it that are further in.
fn expressions(yaml: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<_> = yaml.lines().collect();
    let keys = lines.iter().enumerate().filter_map(|(at, line)| {
        let own = line
            .trim_start()
            .strip_prefix("expr:")?
            .trim_start_matches([' ', '|']);
        let further = lines[at + 1..]
            .iter()
            .take_while(|next| indent(next) > indent(line));
        Some(further.fold(own.to_owned(), |text, next| text + " " + next.trim()))
    });
    keys.collect()
}

/// The metrics that a `PromQL` expression names: words that are neither operators, nor functions, nor labels.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    const OPERATORS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "atan2"];
    const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let words = words_of(expression);
    let mut metrics = BTreeSet::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if BEFORE_LABELS.contains(&word) {
            while words.next().is_some_and(|word| word != ")") {}
            continue;
        }
        let starts_a_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_function = words
            .peek()
            .is_some_and(|next| *next == "(" || BEFORE_LABELS[..2].contains(next));
        if starts_a_name && !is_function && !OPERATORS.contains(&word) {
            metrics.insert(word.to_owned());
        }
    }
    metrics
}

/// Words and brackets, without what stands in braces, square brackets or quotes.
fn words_of(expression: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut quoted, mut depth) = (false, 0);
    for c in expression.chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth > 0 => {}
            c if c.is_ascii_alphanumeric() || c == '_' || c == ':' => {
                word.push(c);
                continue;
            }
            _ => {}
        }
        if depth == 0 && !quoted && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if depth == 0 && !quoted && matches!(c, '(' | ')') {
            words.push(c.to_string());
        }
    }
    words
}

#[test]
fn metrics_are_told_from_functions_operators_and_labels() {
    let metrics = |expression| metrics_of(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(
        metrics(
            r#"max by (stream) (a_bytes / b_bytes{x="(c_total)"}) > 0.5 and on () (sum(rate(d_total[5m])) or vector(0)) == 0"#
        ),
        ["a_bytes", "b_bytes", "d_total"]
    );
    assert_eq!(
        metrics(
            r#"sum(rate(a_bucket{le="1"}[$__rate_interval])) without (le) or b_total unless b_total offset 15m"#
        ),
        ["a_bucket", "b_total"]
    );
}
