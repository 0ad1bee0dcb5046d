//! Gauges of values that a service reads elsewhere, such as from NATS. A reading that is not repeated vanishes from
//! `/metrics`: an old value would look as if all were well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusHandle;

/// How long a reading is shown, as a gauge or elsewhere. Each is made again every few seconds.
pub const LIFETIME: Duration = Duration::from_secs(20);

/// How Prometheus's text form ends the line of a gauge that was let go.
const NO_NUMBER: &str = " NaN";

/// The readings of one service; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readings(Arc<Mutex<HashMap<Series, Reading>>>);

/// A gauge's name, and the value of its label.
type Series = (&'static str, Option<String>);

#[derive(Debug)]
struct Reading {
    gauge: ShownGauge,
    until: Instant,
}

struct ShownGauge(Gauge);

impl std::fmt::Debug for ShownGauge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Gauge")
    }
}

impl Readings {
    /// Shows a gauge from now on for a while.
    pub fn set(&self, name: &'static str, value: f64) {
        self.show((name, None), metrics::gauge!(name), value, Instant::now());
    }

    /// Shows a gauge with one label.
    pub fn set_labelled(&self, name: &'static str, label: (&'static str, &str), value: f64) {
        let (key, text) = label;
        let gauge = metrics::gauge!(name, key => text.to_owned());
        self.show((name, Some(text.to_owned())), gauge, value, Instant::now());
    }

    fn show(&self, series: Series, gauge: Gauge, value: f64, now: Instant) {
        gauge.set(value);
        let reading = Reading {
            gauge: ShownGauge(gauge),
            until: now + LIFETIME,
        };
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.insert(series, reading);
    }

    /// The service's metrics in Prometheus's text form, without readings that are too old.
    pub fn render(&self, metrics: &PrometheusHandle, now: Instant) -> String {
        {
            let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            readings.retain(|_, reading| {
                let is_young = now < reading.until;
                if !is_young {
                    // The recorder forgets no gauge.
                    reading.gauge.0.set(f64::NAN);
                }
                is_young
            });
        }
        let text = metrics.render();
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| line.starts_with('#') || !line.trim_end().ends_with(NO_NUMBER))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_reading_that_is_not_made_again_vanishes_and_comes_back() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let readings = Readings::default();
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("own").set(7.0);
            readings.set("depth", 3.0);
            readings.set_labelled("pending", ("state", "due"), 4.0);
            let now = Instant::now();
            let shown = |text: &str, at| readings.render(&handle, at).contains(text);
            assert!(shown("depth 3\n", now) && shown("pending{state=\"due\"} 4\n", now));
            let late = now + LIFETIME;
            let text = readings.render(&handle, late);
            let samples: Vec<_> = text
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .collect();
            assert_eq!(samples, ["own 7"]);
            readings.set("depth", 5.0);
            assert!(shown("depth 5\n", Instant::now()) && !shown("pending{", Instant::now()));
        });
    }
}
