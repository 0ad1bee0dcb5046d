//! An audit as tables for a person.

use std::fmt;

use shared::domain::clock::Timestamp;
use time::OffsetDateTime;

use crate::commands::audit::{Audit, Count};

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = &self.tables;
        writeln!(f, "since {}", text(self.since))?;
        let known = |count: Option<String>| count.unwrap_or_else(|| "-".to_owned());
        let streams = self.streams.iter().map(|stream| {
            [
                stream.name.clone(),
                stream.frames.to_string(),
                stream.bytes.to_string(),
                known(stream.pending.map(|count| count.to_string())),
                known(stream.ack_pending.map(|count| count.to_string())),
            ]
        });
        table(
            f,
            ["stream", "frames", "bytes", "pending", "ack pending"],
            streams,
        )?;
        let events = [
            ["stored".to_owned(), tables.events.to_string()],
            [
                "without deliveries".to_owned(),
                tables.events_without_deliveries.to_string(),
            ],
        ];
        table(f, ["events", "count"], events.into_iter())?;
        counts(f, "deliveries", &tables.deliveries)?;
        let overdue = tables.overdue.iter().map(|overdue| {
            [
                overdue.endpoint_id.to_string(),
                overdue.deliveries.to_string(),
                text(overdue.due_since),
                overdue.reason.clone() + if overdue.stuck { ": STUCK" } else { "" },
            ]
        });
        table(
            f,
            ["overdue at endpoint", "deliveries", "since", "reason"],
            overdue,
        )?;
        let keeping = tables.keeping_days.iter().map(|keeping| {
            [
                keeping.endpoint_id.to_string(),
                keeping.deliveries.to_string(),
                text(keeping.accepted_since),
            ]
        });
        table(
            f,
            ["pending past the retention at endpoint", "deliveries", "since"],
            keeping,
        )?;
        counts(f, "dead after", &tables.dead)?;
        counts(f, "quarantine", &tables.quarantine)?;
        counts(f, "secrets under the key", &tables.secrets)?;
        let miscounted = tables.miscounted.iter().map(|hour| {
            [
                text(hour.hour),
                hour.accepted.to_string(),
                hour.counted.to_string(),
            ]
        });
        table(f, ["usage differs in the hour", "events", "counted"], miscounted)
    }
}

fn text(time: OffsetDateTime) -> String {
    Timestamp(time).to_string()
}

fn counts(f: &mut fmt::Formatter<'_>, what: &str, counts: &[Count]) -> fmt::Result {
    let rows = counts
        .iter()
        .map(|Count { what, count }| [what.clone(), count.to_string()]);
    table(f, [what, "count"], rows)
}

/// Columns of equal width. A table without rows is `none`.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    headings: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return writeln!(f, "\n{}: none", headings[0]);
    }
    let headings = headings.map(str::to_owned);
    let lines = || std::iter::once(&headings).chain(&rows);
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    writeln!(f)?;
    for line in lines() {
        let cells = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
