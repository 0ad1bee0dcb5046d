//! The files that operators deploy and watch Penstock with say what the programs say: the same settings, ports, paths,
//! names and metrics.

#![cfg(feature = "services")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Command, CommandFactory as _};
use serde_json::Value;
use shared::domain::delivery::Outcome;

/// Environment variables that are not settings of Penstock: those of Postgres's image.
const OTHERS: [&str; 3] = ["POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"];

/// A series that Prometheus itself makes.
const UP: &str = "up";

/// How long a replica takes at most to save what it knows of keys, after its drain.
const LAST_SAVES: Duration = Duration::from_secs(2);

/// How much longer than that a grace period is.
const MARGIN: Duration = Duration::from_secs(5);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A YAML file without its comments.
fn yaml(name: &str) -> String {
    let text = read(name);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.map(|line| line.to_owned() + "\n").collect()
}

fn services() -> [Command; 2] {
    [ingest_api::Config::command(), delivery_worker::Config::command()]
}

fn variables(service: &Command) -> BTreeSet<String> {
    let arguments = service.get_arguments();
    let names = arguments.filter_map(|argument| argument.get_env());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn default<'a>(service: &'a Command, variable: &str) -> &'a str {
    let mut arguments = service.get_arguments();
    let argument = arguments.find(|argument| argument.get_env().is_some_and(|name| name == variable));
    let argument = argument.unwrap_or_else(|| panic!("{variable} is a setting"));
    argument.get_default_values()[0].to_str().expect("it is text")
}

/// The variables of an environment file, with their values.
fn assignments(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

fn is_variable(text: &str) -> bool {
    text.len() > 2
        && text
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Every key, and every name in a list of names and values, that looks like an environment variable.
fn variables_in(yaml: &str) -> BTreeSet<String> {
    let names = yaml.lines().filter_map(|line| {
        let line = line.trim_start();
        let name = line
            .strip_prefix("- name: ")
            .or_else(|| Some(line.split_once(':')?.0));
        name.filter(|name| is_variable(name)).map(str::to_owned)
    });
    names.collect()
}

/// What stands after each of these keys.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let lines = yaml.lines();
    let values = lines.filter_map(|line| {
        line.trim_start_matches([' ', '-'])
            .strip_prefix(key)?
            .strip_prefix(": ")
    });
    values.collect()
}

fn seconds(text: &str) -> Duration {
    let number = text.strip_suffix('s').unwrap_or(text).parse();
    Duration::from_secs(number.unwrap_or_else(|_| panic!("{text} is no number of seconds")))
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').expect("an address has a port").1
}

#[test]
fn every_variable_is_a_setting_of_the_service_that_gets_it() {
    let secret = variables_in(&yaml("deploy/kubernetes/secret.example.yaml"));
    for service in services() {
        let name = service.get_name().to_owned();
        let known = variables(&service);
        let settings = read(&format!("deploy/kubernetes/{name}/settings.env"));
        let from_secret = variables_in(&yaml(&format!("deploy/kubernetes/{name}/manifest.yaml")));
        assert!(
            from_secret.is_subset(&secret),
            "{name}: {:?}",
            &from_secret - &secret
        );
        let given: BTreeSet<_> = assignments(&settings)
            .into_iter()
            .map(|(name, _)| name.to_owned())
            .collect();
        let given = &given | &from_secret;
        assert!(given.is_subset(&known), "{name}: {:?}", &given - &known);

        // It starts with them: the required ones are there, and the values of the others can be read.
        let secrets = [
            ("DATABASE_URL", "postgres://db"),
            ("SECRETS_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ];
        let secrets = secrets
            .into_iter()
            .filter(|(name, _)| from_secret.contains(*name));
        let flags = secrets
            .chain(assignments(&settings))
            .map(|(variable, value)| format!("--{}={value}", variable.to_lowercase().replace('_', "-")));
        let arguments = [name].into_iter().chain(flags);
        service
            .try_get_matches_from(arguments)
            .expect("the settings can be read");
    }

    let [ingest, worker] = services().map(|service| variables(&service));
    let required = BTreeSet::from(["DATABASE_URL", "SECRETS_KEY"].map(str::to_owned));
    let migrate = variables_in(&yaml("deploy/kubernetes/migrate/manifest.yaml"));
    let of_migrate = BTreeSet::from(["DATABASE_URL".to_owned()]);
    assert_eq!(migrate, of_migrate, "what it uses, and nothing else");
    let all = &(&ingest | &worker) | &OTHERS.map(str::to_owned).into();
    let compose = yaml("deploy/compose.yaml");
    let in_compose = variables_in(&compose);
    assert!(
        in_compose.is_superset(&required) && in_compose.is_subset(&all),
        "{:?}",
        &in_compose - &all
    );
    let example = read("deploy/.env.example");
    let asked: BTreeSet<_> = assignments(&example).into_iter().map(|(name, _)| name).collect();
    let taken = compose
        .split("${")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(':')?.0));
    assert_eq!(
        asked,
        taken.collect(),
        "what .env.example asks for and what compose.yaml takes"
    );
}

#[test]
fn ports_and_probes_are_those_that_the_services_have() {
    let telemetry = read("shared/src/process/telemetry.rs");
    let dockerfile = read("deploy/Dockerfile");
    let prometheus = read("deploy/prometheus/prometheus.yaml");
    for service in services() {
        let name = service.get_name();
        let manifest = yaml(&format!("deploy/kubernetes/{name}/manifest.yaml"));
        let settings = read(&format!("deploy/kubernetes/{name}/settings.env"));
        let settings = assignments(&settings);
        let operations = port(default(&service, "METRICS_ADDR"));
        let mut ports = vec![("operations", operations)];
        let mut exposed = vec![operations];
        if name == "ingest-api" {
            let api = port(default(&service, "LISTEN_ADDR"));
            let (_, admin) = settings
                .iter()
                .find(|(name, _)| *name == "ADMIN_LISTEN_ADDR")
                .expect("it is set");
            ports.splice(0..0, [("http", api), ("admin", port(admin))]);
            exposed.insert(0, api);
            assert!(
                yaml("deploy/compose.yaml").contains(&format!(":{api}\"\n")),
                "compose.yaml and {api}"
            );
        }
        let ports: Vec<_> = ports
            .iter()
            .map(|(name, port)| format!("{{ name: {name}, containerPort: {port} }}"))
            .collect();
        let listed = manifest.lines().filter(|line| line.contains("containerPort"));
        let listed: Vec<_> = listed.map(|line| line.trim_start_matches([' ', '-'])).collect();
        assert_eq!(listed, ports, "{name}");
        for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
            let probe = format!("{probe}:\n            httpGet: {{ path: {path}, port: operations }}\n");
            assert!(manifest.contains(&probe), "{name}: {probe}");
            assert!(
                telemetry.contains(&format!(".route(\"{path}\"")),
                "{path} is served"
            );
        }
        let expose = format!(
            "/usr/local/bin/\nEXPOSE {}\nENTRYPOINT [\"/usr/local/bin/{name}\"]\n",
            exposed.join(" ")
        );
        assert!(dockerfile.contains(&expose), "the Dockerfile has {expose}");
        let address = format!("names: [{name}], type: A, port: {operations} ");
        assert!(prometheus.contains(&address), "prometheus.yaml has {address}");
        assert!(
            telemetry.contains(".route(\"/metrics\""),
            "where Prometheus looks unless told"
        );
    }
}

#[test]
fn grace_periods_are_longer_than_a_stop_may_take() {
    let [ingest, worker] = services();
    let drain = |service| seconds(default(service, "DRAIN_TIMEOUT"));
    let settings = read("deploy/kubernetes/ingest-api/settings.env");
    let delay = assignments(&settings)
        .into_iter()
        .find(|(name, _)| *name == "STOP_DELAY");
    let delay = seconds(delay.expect("it is set").1);
    let ingest_stop = drain(&ingest) + LAST_SAVES + seconds(default(&ingest, "PUBLISH_TIMEOUT"));
    let manifest = |name: &str| yaml(&format!("deploy/kubernetes/{name}/manifest.yaml"));
    let compose = yaml("deploy/compose.yaml");
    let of_service = |name: &str| {
        let (_, section) = compose
            .split_once(&format!("\n  {name}:\n"))
            .expect("the service is there");
        values(section, "stop_grace_period")[0].to_owned()
    };
    let grace = |name: &str| values(&manifest(name), "terminationGracePeriodSeconds")[0].to_owned();
    for (what, given, stop) in [
        ("kubernetes/ingest-api", grace("ingest-api"), delay + ingest_stop),
        (
            "kubernetes/delivery-worker",
            grace("delivery-worker"),
            drain(&worker),
        ),
        ("compose ingest-api", of_service("ingest-api"), ingest_stop),
        (
            "compose delivery-worker",
            of_service("delivery-worker"),
            drain(&worker),
        ),
    ] {
        assert!(
            seconds(&given) >= stop + MARGIN,
            "{what}: {given} for a stop of up to {stop:?}"
        );
    }
}

#[test]
fn images_and_jobs_have_the_names_of_the_programs() {
    let dockerfile = read("deploy/Dockerfile");
    let compose = yaml("deploy/compose.yaml");
    let images = yaml("deploy/kubernetes/images/kustomization.yaml");
    let prometheus = yaml("deploy/prometheus/prometheus.yaml");
    for service in services() {
        let name = service.get_name();
        assert!(read(&format!("{name}/Cargo.toml")).contains(&format!("[[bin]]\nname = \"{name}\"\n")));
        let target = format!("FROM run AS {name}\nCOPY --from=build /programs/{name} /usr/local/bin/\n");
        assert!(dockerfile.contains(&target), "the Dockerfile has {target}");
        assert!(dockerfile.contains(&format!(" target/release/{name}")));
        let image = format!("  - name: {name}\n    newName: registry.example.com/penstock/{name}\n");
        let image = image + "    newTag: " + env!("CARGO_PKG_VERSION") + "\n";
        assert!(images.contains(&image), "images/kustomization.yaml has {image}");
        assert_eq!(
            values(&yaml(&format!("deploy/kubernetes/{name}/manifest.yaml")), "image"),
            [name]
        );
        assert!(
            compose.contains(&format!("target: {name}\n    image: penstock/{name}\n")),
            "compose: {name}"
        );
        assert!(prometheus.contains(&format!("job_name: {name}\n")));
        assert!(prometheus.contains(&format!("regex: penstock;{name};operations\n")));
    }
    let [_, worker] = services();
    assert!(worker.find_subcommand("migrate").is_some());
    let job = yaml("deploy/kubernetes/migrate/manifest.yaml");
    assert!(job.contains("image: delivery-worker\n          args: [\"migrate\"]\n"));
    assert!(compose.contains("image: penstock/delivery-worker\n    command: [\"migrate\"]\n"));
}

/// What is released by itself, in the order of a release.
const COMPONENTS: [&str; 3] = ["migrate", "delivery-worker", "ingest-api"];

#[test]
fn each_component_is_complete_by_itself_and_is_released_in_order() {
    let images = yaml("deploy/kubernetes/images/kustomization.yaml");
    for component in COMPONENTS {
        let folder = format!("deploy/kubernetes/{component}");
        let kustomization = yaml(&format!("{folder}/kustomization.yaml"));
        assert!(
            kustomization.contains("resources:\n  - manifest.yaml\n"),
            "{component}"
        );
        assert!(
            kustomization.contains("components:\n  - ../images\n"),
            "{component}"
        );
        let manifest = yaml(&format!("{folder}/manifest.yaml"));
        for image in values(&manifest, "image") {
            assert!(values(&images, "name").contains(&image), "{component}: {image}");
        }
        let label = format!("app.kubernetes.io/component: {component}\n");
        for document in manifest.split("---\n") {
            assert!(
                document.contains(&format!("    {label}")),
                "{component}: {document}"
            );
        }
        let maps = manifest.split("configMapRef:\n").skip(1);
        for map in maps.map(|rest| rest.lines().next().expect("a reference has a name").trim()) {
            let generated = format!("  - {map}\n    envs: [settings.env]\n    options:\n      labels:\n");
            assert!(kustomization.contains(&generated), "{component}: {map}");
            assert!(kustomization.contains(&label), "{component}: {map} has its label");
        }
    }
    let all = yaml("deploy/kubernetes/kustomization.yaml");
    let resources = COMPONENTS.map(|component| format!("  - {component}\n")).concat();
    assert!(all.ends_with(&format!("resources:\n{resources}")), "{all}");
    for document in ["deploy/README.md", "deploy/kubernetes/kustomization.yaml"] {
        let text = read(document);
        let applied = text
            .lines()
            .filter_map(|line| line.split_once("kubectl apply -k deploy/kubernetes/"));
        let applied: Vec<_> = applied.map(|(_, component)| component).collect();
        assert_eq!(applied, COMPONENTS, "{document}");
    }
}

/// What `kubectl` itself makes of a folder; nothing where it is not installed.
fn rendered(folder: &str) -> Option<BTreeSet<String>> {
    let output = std::process::Command::new("kubectl")
        .args(["kustomize", folder])
        .current_dir(path("."))
        .output();
    let output = output.ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{folder}: {errors}");
    let text = String::from_utf8(output.stdout).expect("manifests are text");
    Some(text.split("---\n").map(str::to_owned).collect())
}

#[test]
fn the_components_together_are_what_all_of_them_are_rendered_to() {
    let Some(all) = rendered("deploy/kubernetes") else {
        eprintln!("SKIPPED: there is no kubectl, so kustomizations were read and not rendered");
        return;
    };
    let mut together = BTreeSet::new();
    for component in COMPONENTS {
        let documents = rendered(&format!("deploy/kubernetes/{component}")).expect("kubectl is there");
        let text: String = documents.iter().map(String::as_str).collect();
        for map in text.split("configMapRef:\n").skip(1) {
            let name = map.lines().next().expect("a reference has a name").trim();
            let made = documents.iter().any(|document| {
                document.contains("kind: ConfigMap\n") && document.contains(&format!("  {name}\n"))
            });
            assert!(made, "{component}: {name}");
        }
        let label = format!("    app.kubernetes.io/component: {component}\n");
        for document in &documents {
            assert!(document.contains(&label), "`-l` finds {document}");
        }
        together.extend(documents);
    }
    assert_eq!(together, all);
}

#[test]
fn the_stores_are_the_versions_that_the_tests_run_with() {
    let pinned = |name: &str| {
        let requirement = read(&format!("deploy/local/binaries/{name}.txt"));
        let version = requirement
            .lines()
            .find_map(|line| line.split_once("==").map(|(_, version)| version));
        version
            .expect("a version is pinned")
            .trim_end_matches([' ', '\\'])
            .to_owned()
    };
    let compose = yaml("deploy/compose.yaml");
    let nats = pinned("nats-server");
    assert!(
        compose.contains(&format!("image: nats:{nats}-alpine\n")),
        "{nats}"
    );
    assert!(yaml("deploy/kubernetes/nats-values.example.yaml").contains(&format!("tag: {nats}-alpine\n")));
    // What follows the second dot is the package's.
    let postgres = pinned("postgres");
    let postgres = postgres.rsplit_once('.').expect("it has three numbers").0;
    assert!(
        compose.contains(&format!("image: postgres:{postgres}-")),
        "{postgres}"
    );
}

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
    for key in ["severity", "summary", "description"] {
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
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/penstock.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let drawn = panels.iter().filter(|panel| panel["type"] != "row");
    for panel in drawn {
        let title = &panel["title"];
        let targets = panel["targets"].as_array().expect("a panel has targets");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title} has a unit"
        );
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("a target has an expression");
            let metrics = metrics_of(expression);
            assert!(!metrics.is_empty(), "{title}: {expression}");
            for metric in metrics {
                assert!(series.contains(&metric), "{title}: nothing exports {metric}");
            }
        }
    }
    assert_eq!(dashboard["templating"]["list"][0]["name"], "datasource");
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

/// The series of all metrics that the services describe.
fn described_series() -> BTreeSet<String> {
    let mut series = BTreeSet::from([UP.to_owned()]);
    for (kind, name) in METRIC_NAMES.iter().flat_map(|file| described(&read(file))) {
        match kind.as_str() {
            "histogram" => series.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
            _ => _ = series.insert(name),
        }
    }
    series
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

#[test]
fn every_outcome_is_explained_to_those_who_receive_webhooks() {
    let document = read("delivery-worker/README.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows
        .filter_map(|row| row.split_once(" |"))
        .map(|(names, _)| names);
    let explained: BTreeSet<_> = names.flat_map(|names| names.split("`, `")).collect();
    for outcome in Outcome::ALL {
        assert!(
            explained
                .iter()
                .any(|name| name.trim_end_matches('`') == outcome.as_str()),
            "delivery-worker/README.md explains {outcome}"
        );
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
