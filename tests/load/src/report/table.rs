//! The table that a run prints.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::report::row::Row;
use crate::report::{Figure, Relation, Report, Target};

/// The whole report as text.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    if !report.rows.is_empty() {
        rows(&mut text, &report.rows);
    }
    if !report.figures.is_empty() {
        figures(&mut text, &report.figures);
    }
    if !report.targets.is_empty() {
        targets(&mut text, &report.targets);
    }
    text
}

fn rows(text: &mut String, rows: &[Row]) {
    let processes: BTreeSet<_> = rows.iter().flat_map(|row| row.cpu.keys()).collect();
    let _ = write!(
        text,
        "{:<10} {:<22} {:<17} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "section", "load", "subject", "events/s", "p50 ms", "p95 ms", "p99 ms", "max ms"
    );
    let _ = writeln!(text, "   CPU ms per 1 000 events");
    for row in rows {
        let _ = write!(
            text,
            "{:<10} {:<22} {:<17} {:>9.0}",
            row.section, row.load, row.subject, row.per_second
        );
        match &row.latency {
            Some(latency) => {
                for figure in [latency.p50, latency.p95, latency.p99, latency.max] {
                    let _ = write!(text, " {figure:>8.2}");
                }
            }
            None => text.push_str(&" ".repeat(36)),
        }
        text.push_str("   ");
        let used = processes
            .iter()
            .filter_map(|name| Some((name, row.cpu.get(*name)?)));
        let used: Vec<_> = used
            .map(|(name, cpu)| format!("{name} {:.1}", cpu * 1_000.0))
            .collect();
        text.push_str(&used.join(", "));
        if row.failed > 0 {
            let _ = write!(text, "   {} REQUESTS FAILED", row.failed);
        }
        text.push('\n');
    }
}

fn figures(text: &mut String, figures: &[Figure]) {
    text.push('\n');
    for figure in figures {
        let (section, name, unit) = (figure.section, &figure.name, figure.unit);
        let _ = writeln!(
            text,
            "{section:<10} {name:<58} {:>10} {unit}",
            short(figure.value)
        );
    }
}

fn targets(text: &mut String, targets: &[Target]) {
    text.push('\n');
    for target in targets {
        let relation = match target.relation {
            Relation::AtLeast => "≥",
            Relation::AtMost => "≤",
        };
        let (section, what, unit) = (target.section, &target.what, target.unit);
        let verdict = if target.is_met() { "met" } else { "MISSED" };
        let (measured, wanted) = (short(target.measured), short(target.wanted));
        let _ = writeln!(
            text,
            "{section:<10} {what:<58} {measured:>10} {relation} {wanted} {unit:<4} {verdict}"
        );
    }
}

/// A figure with as many decimals as say something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middling if middling >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
