//! Versions as programs and pip requirements print them.

use std::fmt;

/// Major and minor version, which is as much as a minimum needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The version in the answer to `--version`, such as `nats-server: v2.15.1` or
    /// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 19devel`.
    pub(crate) fn in_answer(answer: &str) -> Option<Self> {
        answer.split_whitespace().find_map(|word| {
            let mut parts = word.trim_start_matches('v').split('.').map(leading_number);
            Some(Self {
                major: parts.next()??,
                minor: parts.next().flatten().unwrap_or(0),
            })
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The version that the first pin (`name==version`) of a requirements file names.
pub(crate) fn pinned(requirements: &str) -> Option<&str> {
    let line = requirements
        .lines()
        .find(|line| !line.starts_with('#') && line.contains("=="))?;
    let version = line.split_once("==")?.1;
    version.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::{Version, pinned};

    #[test]
    fn a_version_is_found_in_what_each_program_prints() {
        let cases = [
            ("nats-server: v2.15.1\n", Some(Version::new(2, 15))),
            ("nats-server: v2.14.0-RC.2", Some(Version::new(2, 14))),
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
                Some(Version::new(15, 18)),
            ),
            ("postgres (PostgreSQL) 18.6", Some(Version::new(18, 6))),
            ("postgres (PostgreSQL) 19devel", Some(Version::new(19, 0))),
            ("postgres (PostgreSQL) 9.6.24", Some(Version::new(9, 6))),
            ("no version here", None),
            ("", None),
        ];
        for (answer, version) in cases {
            assert_eq!(Version::in_answer(answer), version, "{answer:?}");
        }
    }

    #[test]
    fn a_later_minor_version_is_newer_although_its_text_sorts_first() {
        assert!(Version::new(2, 9) < Version::new(2, 14));
        assert!(Version::new(3, 0) > Version::new(2, 14));
    }

    #[test]
    fn the_pin_of_a_requirements_file_is_its_version() {
        assert_eq!(
            pinned("# a==1\n\nname==2.15.1 \\\n    --hash=sha256:00\n"),
            Some("2.15.1")
        );
        assert_eq!(pinned("name==3"), Some("3"));
        assert_eq!(pinned("# nothing\nname>=2\n"), None);
    }
}
