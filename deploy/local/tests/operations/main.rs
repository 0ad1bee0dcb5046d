//! The files that operators deploy and watch Penstock with say what the programs say: the same settings, ports, paths,
//! names and metrics. The Helm chart is checked by `.ci/deployment`, which renders it.

#![cfg(feature = "services")]

mod metrics;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Command, CommandFactory as _};
use shared::domain::delivery::Outcome;

/// Environment variables that are not settings of Penstock: those of Postgres's image.
const OTHERS: [&str; 3] = ["POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"];

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
fn every_variable_of_compose_is_a_setting() {
    let [ingest, worker] = services().map(|service| variables(&service));
    let required = BTreeSet::from(["DATABASE_URL", "SECRETS_KEY"].map(str::to_owned));
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
        let operations = port(default(&service, "METRICS_ADDR"));
        let mut exposed = vec![operations];
        if name == "ingest-api" {
            let api = port(default(&service, "LISTEN_ADDR"));
            exposed.insert(0, api);
            assert!(
                yaml("deploy/compose.yaml").contains(&format!(":{api}\"\n")),
                "compose.yaml and {api}"
            );
        }
        let expose = format!(
            "/usr/local/bin/\nEXPOSE {}\nENTRYPOINT [\"/usr/local/bin/{name}\"]\n",
            exposed.join(" ")
        );
        assert!(dockerfile.contains(&expose), "the Dockerfile has {expose}");
        let address = format!("names: [{name}], type: A, port: {operations} ");
        assert!(prometheus.contains(&address), "prometheus.yaml has {address}");
    }
    // Where probes look, and Prometheus unless told otherwise.
    for path in ["/readyz", "/healthz", "/metrics"] {
        assert!(
            telemetry.contains(&format!(".route(\"{path}\"")),
            "{path} is served"
        );
    }
}

#[test]
fn grace_periods_are_longer_than_a_stop_may_take() {
    let [ingest, worker] = services();
    let drain = |service| seconds(default(service, "DRAIN_TIMEOUT"));
    let ingest_stop = drain(&ingest) + LAST_SAVES + seconds(default(&ingest, "PUBLISH_TIMEOUT"));
    let compose = yaml("deploy/compose.yaml");
    let of_service = |name: &str| {
        let (_, section) = compose
            .split_once(&format!("\n  {name}:\n"))
            .expect("the service is there");
        values(section, "stop_grace_period")[0].to_owned()
    };
    for (what, given, stop) in [
        ("ingest-api", of_service("ingest-api"), ingest_stop),
        ("delivery-worker", of_service("delivery-worker"), drain(&worker)),
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
    let prometheus = yaml("deploy/prometheus/prometheus.yaml");
    for service in services() {
        let name = service.get_name();
        assert!(read(&format!("{name}/Cargo.toml")).contains(&format!("[[bin]]\nname = \"{name}\"\n")));
        let target = format!("FROM run AS {name}\nCOPY --from=build /programs/{name} /usr/local/bin/\n");
        assert!(dockerfile.contains(&target), "the Dockerfile has {target}");
        assert!(dockerfile.contains(&format!(" target/release/{name}")));
        assert!(
            compose.contains(&format!("target: {name}\n    image: penstock/{name}\n")),
            "compose: {name}"
        );
        assert!(prometheus.contains(&format!("job_name: {name}\n")));
        assert!(prometheus.contains(&format!("regex: penstock;{name};operations\n")));
    }
    let [_, worker] = services();
    assert!(worker.find_subcommand("migrate").is_some());
    assert!(compose.contains("image: penstock/delivery-worker\n    command: [\"migrate\"]\n"));
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
    assert!(yaml("deploy/helm/nats-values.example.yaml").contains(&format!("tag: {nats}-alpine\n")));
    // What follows the second dot is the package's.
    let postgres = pinned("postgres");
    let postgres = postgres.rsplit_once('.').expect("it has three numbers").0;
    assert!(
        compose.contains(&format!("image: postgres:{postgres}-")),
        "{postgres}"
    );
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
