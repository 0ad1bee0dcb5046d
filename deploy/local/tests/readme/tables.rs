//! Tables that are made of what the programs say of themselves.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use clap::{Arg, Args, Command};
use serde_json::Value;

use super::{read, root};

/// Set this variable to write the tables into their documents instead of comparing them.
const UPDATE: &str = "UPDATE_README";

/// Methods, in the order in which those of a path are listed.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

#[test]
fn the_readme_lists_every_variable_in_the_words_of_the_help_text() {
    check(
        "deploy/README.md",
        &[
            (
                "variables of ingest-api",
                settings::<ingest_api::Config>("ingest-api"),
            ),
            (
                "variables of delivery-worker",
                settings::<delivery_worker::Config>("delivery-worker"),
            ),
        ],
    );
}

#[test]
fn the_readme_lists_every_operation_in_the_words_of_the_contract() {
    check(
        "ingest-api/README.md",
        &[("operations", operations(&ingest_api::openapi()))],
    );
}

#[test]
fn every_range_is_told_in_the_words_with_which_a_value_outside_of_it_is_refused() {
    let services = [
        ranges::<ingest_api::Config>(),
        ranges::<delivery_worker::Config>(),
    ];
    for (name, range, help) in services.iter().flatten() {
        assert!(
            help.contains(range.as_str()),
            "{name} is {range}, and not: {help}"
        );
    }
    for (ranges, known) in services.iter().zip([23, 15]) {
        assert!(ranges.len() >= known, "{ranges:?}");
    }
}

/// Values that one setting or another refuses.
const OUTSIDE: [&str; 5] = ["-1", "0", "0s", "9000000000", "9000years"];

/// The settings that have a range, each with what is said of a value outside of it, and with what is said of the setting.
fn ranges<C: Args>() -> Vec<(String, String, String)> {
    let command = C::augment_args(Command::new("service"));
    let refused = |argument: &Arg| {
        let name = argument.get_long().filter(|_| argument.get_env().is_some())?;
        let ranges = OUTSIDE.iter().filter_map(|value| {
            let given = ["service".to_owned(), format!("--{name}={value}")];
            let error = command.clone().try_get_matches_from(given).err()?;
            let text = error.source()?.to_string();
            let range = text.strip_prefix("must be ")?.to_owned();
            range.contains(|c: char| c.is_ascii_digit()).then_some(range)
        });
        Some(
            ranges
                .map(|range| (name.to_owned(), range, help(argument)))
                .collect::<Vec<_>>(),
        )
    };
    command.get_arguments().filter_map(refused).flatten().collect()
}

/// Checks that a document has these tables, each at the comment that marks its place.
fn check(document: &str, tables: &[(&str, String)]) {
    let text = read(Path::new(document));
    let places = tables.iter();
    let updated = places.fold(text.clone(), |text, (mark, table)| with_table(&text, mark, table));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(root().join(document), updated).expect("a document can be written");
    } else {
        assert!(
            text == updated,
            "run `{UPDATE}=1 cargo test -p penstock-local --test readme`"
        );
    }
}

/// The operations of a contract, by path.
fn operations(contract: &Value) -> String {
    let paths = contract["paths"].as_object().expect("a contract has paths");
    let paths: BTreeMap<_, _> = paths.iter().collect();
    let rows = paths.into_iter().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| {
            let summary = item.get(*method)?["summary"].as_str();
            let summary = in_one_line(summary.expect("every operation is described"));
            Some(format!("| `{} {path}` | {summary} |\n", method.to_uppercase()))
        })
    });
    "| request | what it does |\n|---|---|\n".to_owned() + &rows.collect::<Vec<_>>().concat()
}

/// As the cell of a table.
fn in_one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// A service's settings.
fn settings<C: Args>(service: &str) -> String {
    let command = C::augment_args(Command::new("service"));
    let arguments = command.get_arguments();
    let mut arguments: Vec<_> = arguments
        .filter_map(|argument| Some((argument.get_env()?, argument)))
        .collect();
    arguments.sort_by_key(|(name, argument)| (!argument.is_required_set(), name.to_owned()));
    let rows = arguments.into_iter().map(|(name, argument)| {
        format!(
            "| `{}` | {} | {} |\n",
            name.display(),
            default(argument),
            help(argument)
        )
    });
    format!(
        "`{service}`:\n\n| variable | default | meaning |\n|---|---|---|\n{}",
        rows.collect::<Vec<_>>().concat()
    )
}

fn default(argument: &Arg) -> String {
    let values = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy());
    let values: Vec<_> = values.collect();
    match (argument.is_required_set(), values.is_empty()) {
        (true, _) => "required".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!("`{}`", values.join(",")),
    }
}

fn help(argument: &Arg) -> String {
    let help = argument
        .get_long_help()
        .or_else(|| argument.get_help())
        .expect("every setting is documented");
    let text = in_one_line(&help.to_string());
    if text.ends_with('.') {
        text
    } else {
        format!("{text}.")
    }
}

/// Puts a table between the two comments that mark its place.
fn with_table(document: &str, mark: &str, table: &str) -> String {
    let (start, end) = (format!("<!-- {mark} -->\n"), "<!-- end -->");
    let (before, rest) = document
        .split_once(&start)
        .expect("the document marks the place of the table");
    let (_, after) = rest
        .split_once(end)
        .expect("the document marks the end of the table");
    format!("{before}{start}\n{table}\n{end}{after}")
}
