//! Running schemathesis, and reading its report.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use e2e::World;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::programs::python;

/// What every answer is checked for. Whether a valid request may be refused (for a URL that is no public address, say) is
/// more than a schema can say, so that is not checked.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,ignored_auth,unsupported_method";

/// What counts as no failure of the server. On a busy machine some requests are answered 503, as the document says.
const STATUSES: &str =
    "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"503\"]\n";

/// The warning that a whole phase was refused. schemathesis does not withdraw it when another phase succeeds, as it does
/// with the others: a key that the first phase has replaced cannot be replaced again.
const PHASE_REFUSED: &str = "validation_mismatch";

/// Operations, each with parameters that all its requests have, in the words of schemathesis' settings.
pub(super) type Fixed = Vec<(&'static str, Vec<(&'static str, Value)>)>;

/// The part of schemathesis' report that says whether operations were tested at all.
#[derive(Debug, Deserialize)]
struct Report {
    operations: Operations,
    /// Operations by warning.
    warnings: BTreeMap<String, Vec<String>>,
    /// The results of requests that the document allows, by operation and phase. Those without a valid key do not count.
    valid_rates: BTreeMap<String, BTreeMap<String, Rate>>,
}

#[derive(Debug, Deserialize)]
struct Operations {
    /// Operations of the part that was asked for.
    selected: usize,
}

#[derive(Debug, Deserialize)]
struct Rate {
    /// Requests that were answered 2xx.
    accepted: u32,
}

impl Report {
    fn read(path: &Path) -> Self {
        let report = std::fs::read(path).expect("schemathesis writes its report");
        serde_json::from_slice(&report).expect("its report has the form that it documents")
    }

    /// The warnings, and the operations that were never answered 2xx.
    fn complaints(&self) -> Vec<String> {
        let warnings = self.warnings.iter();
        let warnings = warnings.filter(|(warning, _)| *warning != PHASE_REFUSED);
        let warnings = warnings.flat_map(|(warning, operations)| {
            operations
                .iter()
                .map(move |operation| format!("{operation}: {warning}"))
        });
        let refused = self
            .valid_rates
            .iter()
            .filter(|(_, phases)| phases.values().all(|rate| rate.accepted == 0));
        let refused = refused.map(|(operation, _)| format!("{operation}: never accepted"));
        warnings.chain(refused).collect()
    }
}

/// Schemathesis' settings: statuses that are no failures, and the parameters that are fixed.
fn settings(fixed: &Fixed) -> String {
    let operations = fixed.iter().map(|(operation, parameters)| {
        // A string or a number of JSON is one of TOML.
        let parameters = parameters.iter();
        let parameters: Vec<_> = parameters
            .map(|(name, value)| format!("\"{name}\" = {value}"))
            .collect();
        let parameters = parameters.join(", ");
        format!("[[operations]]\ninclude-name = \"{operation}\"\nparameters = {{ {parameters} }}\n")
    });
    STATUSES.to_owned() + &operations.collect::<String>()
}

/// Generates requests for a part of the document, with a header, and checks every answer against it.
pub(super) async fn schemathesis(world: &World, header: &str, fixed: &Fixed, part: &[&str]) {
    let packages = python::packages(&["schemathesis==4.32.5"]).await;
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let (config, report) = (
        folder.path().join("schemathesis.toml"),
        folder.path().join("report.json"),
    );
    std::fs::write(&config, settings(fixed)).expect("there is room for a file");
    let output = Command::new("python3")
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(&config)
        .args(["run", &world.url("/openapi.json"), "--report-json-path"])
        .arg(&report)
        .args(["--header", header, "--checks", CHECKS])
        .args(part)
        // Longer than a pull may wait.
        .args(["--request-timeout", "25", "--max-examples", "20", "--seed", "1"])
        // Nor does a slow machine matter.
        .args(["--suppress-health-check", "too_slow"])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--workers",
            "1",
            "--no-color",
        ])
        .env("PYTHONPATH", &packages)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("python3 is there: it installed the packages");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let report = Report::read(&report);
    let called = report.valid_rates.len();
    assert!(
        called > 0 && called == report.operations.selected,
        "{report:#?}\n{text}"
    );
    let complaints = report.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}\n{text}");
}
