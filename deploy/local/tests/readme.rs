//! The README lists every setting of both services, in the words of `--help`.

#![cfg(feature = "services")]

use clap::{Arg, Args, Command};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");

/// Set this variable to write the tables into the README instead of comparing them.
const UPDATE: &str = "UPDATE_README";

#[test]
fn the_readme_lists_every_variable_in_the_words_of_the_help_text() {
    let readme = std::fs::read_to_string(README).unwrap();
    let updated = with_table(&readme, "ingest-api", &table::<ingest_api::Config>());
    let updated = with_table(&updated, "delivery-worker", &table::<delivery_worker::Config>());
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(README, updated).unwrap();
    } else {
        assert!(
            readme == updated,
            "run `{UPDATE}=1 cargo test -p penstock-local --test readme`"
        );
    }
}

fn table<C: Args>() -> String {
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
    "| variable | default | meaning |\n|---|---|---|\n".to_owned() + &rows.collect::<Vec<_>>().concat()
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
    let text = help
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|");
    if text.ends_with('.') {
        text
    } else {
        format!("{text}.")
    }
}

/// Puts the table between the two comments that mark its place.
fn with_table(readme: &str, service: &str, table: &str) -> String {
    let (start, end) = (format!("<!-- variables of {service} -->\n"), "<!-- end -->");
    let (before, rest) = readme
        .split_once(&start)
        .expect("the README marks the place of the table");
    let (_, after) = rest
        .split_once(end)
        .expect("the README marks the end of the table");
    format!("{before}{start}\n`{service}`:\n\n{table}\n{end}{after}")
}
