//! Latency by quantile as an SVG: both axes are logarithmic, the quantiles in nines.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::report::row::Row;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 55.0;
const LEGEND: f64 = 18.0;

/// The axes: quantiles up to four nines, latencies from 0.1 ms to 1 s.
const QUANTILE_TICKS: [f64; 5] = [0.0, 0.9, 0.99, 0.999, 0.9999];
const LATENCY_TICKS: [f64; 5] = [0.1, 1.0, 10.0, 100.0, 1_000.0];

const COLOURS: [&str; 6] = ["#0b6e4f", "#c0392b", "#2c5aa0", "#e08e0b", "#7d3c98", "#555555"];

/// One panel for each load, one line for each subject.
pub(crate) fn latency(rows: &[Row]) -> String {
    let loads: Vec<(&str, &str)> = {
        let mut seen = BTreeSet::new();
        let loads = rows
            .iter()
            .filter(|row| row.latency.is_some())
            .map(|row| (row.section, row.load.as_str()));
        loads.filter(|load| seen.insert(*load)).collect()
    };
    let (mut panels, mut left, mut top) = (String::new(), 0.0, 0.0);
    for (section, load) in loads {
        let subjects: Vec<_> = rows
            .iter()
            .filter(|row| row.section == section && row.load == load)
            .collect();
        let _ = write!(panels, r#"<g transform="translate({left} {top})">"#);
        panel(&mut panels, &format!("{section}: {load}"), &subjects);
        panels.push_str("</g>");
        if left > 0.0 {
            (left, top) = (0.0, top + HEIGHT + 2.0 * MARGIN + 5.0 * LEGEND);
        } else {
            left = WIDTH + 2.0 * MARGIN;
        }
    }
    let width = 2.0 * (WIDTH + 2.0 * MARGIN);
    let height = top + HEIGHT + 2.0 * MARGIN + 5.0 * LEGEND;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{panels}</svg>"#
    )
}

fn panel(svg: &mut String, title: &str, subjects: &[&Row]) {
    let _ = write!(
        svg,
        r#"<text x="{MARGIN}" y="30" font-weight="bold">{title}</text>"#
    );
    for tick in QUANTILE_TICKS {
        let (x, bottom) = (x(tick), MARGIN + HEIGHT);
        let _ = write!(
            svg,
            r##"<path d="M{x} {MARGIN}V{bottom}" stroke="#ddd"/><text x="{x}" y="{}" text-anchor="middle">{}</text>"##,
            bottom + 16.0,
            if tick > 0.0 {
                format!("{}%", tick * 100.0)
            } else {
                "0".to_owned()
            },
        );
    }
    for tick in LATENCY_TICKS {
        let (y, right) = (y(tick), MARGIN + WIDTH);
        let _ = write!(
            svg,
            r##"<path d="M{MARGIN} {y}H{right}" stroke="#ddd"/><text x="{}" y="{}" text-anchor="end">{tick} ms</text>"##,
            MARGIN - 4.0,
            y + 4.0,
        );
    }
    for (number, row) in (0_u8..).zip(subjects) {
        let colour = COLOURS[usize::from(number) % COLOURS.len()];
        let curve = row.latency.iter().flat_map(|latency| &latency.curve);
        let points: Vec<_> = curve
            .map(|(quantile, latency)| format!("{:.1},{:.1}", x(*quantile), y(*latency)))
            .collect();
        let below = MARGIN + HEIGHT + 40.0 + f64::from(number) * LEGEND;
        let _ = write!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/><text x="{MARGIN}" y="{below}" fill="{colour}">{} ({:.0} events/s)</text>"#,
            points.join(" "),
            row.subject,
            row.per_second,
        );
    }
}

fn x(quantile: f64) -> f64 {
    let nines = -(1.0 - quantile).max(0.000_1).log10();
    MARGIN + WIDTH * nines / 4.0
}

fn y(latency: f64) -> f64 {
    let (low, high) = (LATENCY_TICKS[0], LATENCY_TICKS[LATENCY_TICKS.len() - 1]);
    let share = (latency.clamp(low, high) / low).log10() / (high / low).log10();
    MARGIN + HEIGHT * (1.0 - share)
}
