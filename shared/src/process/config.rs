//! Reading a service's configuration: environment variables, or flags of the same names.

use std::error::Error as _;
use std::fmt::Display;
use std::num::{ParseFloatError, ParseIntError};
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

/// Makes a parser of integers that rejects those outside of the range. Its type is to be written out: clap looks only when the program
/// runs whether it is that of the setting.
pub fn integer_within<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<i64> + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| {
        let number = T::try_from(integer(text)?).ok();
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| outside(range.start(), range.end()))
    }
}

/// The same without an upper bound but that of the type.
pub fn integer_from<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<i64> + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| {
        let number = integer(text)?;
        match T::try_from(number) {
            Ok(number) if number >= least => Ok(number),
            Err(_) if number > 0 => Err("is too large".to_owned()),
            _ => Err(format!("must be at least {least}")),
        }
    }
}

fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: ParseIntError| error.to_string())
}

/// Parses a number; rejects one outside of the range.
///
/// # Errors
/// With what is wrong.
pub fn number_within(text: &str, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error: ParseFloatError| error.to_string())?;
    if range.contains(&number) {
        return Ok(number);
    }
    Err(outside(range.start(), range.end()))
}

/// What is said of a value outside of a range. The settings' descriptions tell ranges in the same words.
fn outside(least: impl Display, most: impl Display) -> String {
    format!("must be {least} to {most}")
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
    Err(outside(least, most))
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
    fn an_integer_within_bounds_may_be_either_of_them() {
        let parse = integer_within::<u8>(1..=5);
        assert_eq!((parse("1"), parse("5")), (Ok(1), Ok(5)));
        for outside in ["0", "6", "-1", "256"] {
            assert_eq!(parse(outside).unwrap_err(), "must be 1 to 5");
        }
        assert!(parse("1.5").is_err() && parse("many").is_err());
    }

    #[test]
    fn an_integer_from_a_bound_on_is_as_large_as_its_type_allows() {
        let parse = integer_from::<u8>(3);
        assert_eq!((parse("3"), parse("255")), (Ok(3), Ok(255)));
        for below in ["2", "-1"] {
            assert_eq!(parse(below).unwrap_err(), "must be at least 3");
        }
        assert_eq!(parse("256").unwrap_err(), "is too large");
    }

    #[test]
    fn a_number_within_bounds_may_be_either_of_them() {
        let parse = |text| number_within(text, &(0.0..=1.0));
        assert_eq!((parse("0"), parse("1")), (Ok(0.0), Ok(1.0)));
        for outside in ["-0.1", "1.1", "NaN", "inf"] {
            assert_eq!(parse(outside).unwrap_err(), "must be 0 to 1");
        }
        assert!(parse("half").is_err());
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
