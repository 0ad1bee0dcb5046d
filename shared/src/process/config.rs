//! Reading a service's configuration: environment variables, or flags of the same names.

use std::error::Error as _;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::process::output::complain;

/// Parses the command line and the environment.
///
/// # Errors
/// The code to exit with: success after `--help` or `--version`, else 2, after one line on stderr that names
/// the variable and what is wrong with it.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        complain(&message::<C>(&error));
        ExitCode::from(2)
    })
}

/// What is wrong, on one line. A secret that is wrong is not shown: it may be right but for a line break.
fn message<C: CommandFactory>(error: &clap::Error) -> String {
    match (error.get(ContextKind::InvalidArg), error.source()) {
        (Some(ContextValue::String(argument)), Some(source)) if is_secret::<C>(argument) => {
            format!("error: invalid value for '{argument}': {source}")
        }
        _ => with_flag::<C>(one_line(&error.to_string())),
    }
}

/// Names a missing setting by its flag. Under a subcommand that needs fewer settings than the program, clap names it by
/// the field.
fn with_flag<C: CommandFactory>(message: String) -> String {
    let mut command = C::command();
    command.build();
    let named = message.rsplit_once(": ").and_then(|(before, field)| {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_id() == field)?;
        Some(format!("{before}: {argument}"))
    });
    named.unwrap_or(message)
}

fn is_secret<C: CommandFactory>(argument: &str) -> bool {
    let mut command = C::command();
    command.build();
    command
        .get_arguments()
        .any(|known| known.is_hide_env_values_set() && known.to_string() == argument)
}

/// Parses a duration; rejects one below a millisecond. For intervals, and for limits that such a time would make useless.
///
/// # Errors
/// With what is wrong.
pub fn nonzero_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time < Duration::from_millis(1) => Err("must be at least 1ms".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Parses a duration; rejects one outside of the range.
///
/// # Errors
/// With what is wrong.
pub fn duration_within(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if range.contains(&time) {
        return Ok(time);
    }
    let [least, most] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
    Err(format!("must be {least} to {most}"))
}

/// The first paragraph of clap's message on one line, without its hints.
fn one_line(message: &str) -> String {
    let lines: Vec<_> = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[arg(long, env, value_name = "EXAMPLE_URL")]
        example_url: String,
        #[arg(long, env, value_name = "EXAMPLE_COUNT", default_value_t = 1)]
        example_count: u32,
        #[arg(
            long,
            env,
            hide_env_values = true,
            value_name = "SECRET_PIN",
            default_value_t = 1
        )]
        secret_pin: u32,
    }

    fn error(arguments: &[&str]) -> String {
        let error = Settings::try_parse_from([&["x"], arguments].concat());
        message::<Settings>(&error.unwrap_err())
    }

    #[test]
    fn a_wrong_secret_is_not_shown() {
        assert_eq!(
            error(&["--example-url=x", "--secret-pin=12E4"]),
            "error: invalid value for '--secret-pin <SECRET_PIN>': invalid digit found in string",
        );
    }

    #[test]
    fn a_wrong_or_missing_value_is_one_line_that_names_the_variable() {
        assert_eq!(
            error(&["--example-url=x", "--example-count=many"]),
            "error: invalid value 'many' for '--example-count <EXAMPLE_COUNT>': invalid digit found in string",
        );
        assert_eq!(
            error(&[]),
            "error: the following required arguments were not provided: --example-url <EXAMPLE_URL>",
        );
    }

    #[derive(Debug, Parser)]
    #[command(subcommand_negates_reqs = true)]
    struct Program {
        #[command(subcommand)]
        command: Option<Command>,
        #[arg(long, env, value_name = "EXAMPLE_URL")]
        example_url: String,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        Look,
    }

    #[test]
    fn what_a_command_needs_is_named_as_what_the_program_needs() {
        for (arguments, number) in [(&["x"][..], "arguments were"), (&["x", "look"], "argument was")] {
            let error = Program::try_parse_from(arguments).unwrap_err();
            let text =
                format!("error: the following required {number} not provided: --example-url <EXAMPLE_URL>");
            assert_eq!(message::<Program>(&error), text);
        }
        let parsed = Program::try_parse_from(["x", "--example-url=y", "look"]).unwrap();
        assert!(parsed.command.is_some() && parsed.example_url == "y");
    }

    #[test]
    fn a_duration_that_must_be_one_is_at_least_a_millisecond() {
        assert_eq!(nonzero_duration("1ms"), Ok(Duration::from_millis(1)));
        for short in ["0s", "1ns", "999us"] {
            assert_eq!(nonzero_duration(short).unwrap_err(), "must be at least 1ms");
        }
        assert!(nonzero_duration("soon").is_err());
    }

    #[test]
    fn a_duration_within_bounds_may_be_either_of_them() {
        let parse = |text| duration_within(text, &(Duration::from_millis(10)..=Duration::from_hours(24)));
        assert_eq!(parse("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse("1day"), Ok(Duration::from_hours(24)));
        for outside in ["9ms", "25h"] {
            assert_eq!(parse(outside).unwrap_err(), "must be 10ms to 1day");
        }
        assert!(parse("soon").is_err());
    }
}
