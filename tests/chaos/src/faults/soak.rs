//! A long time under load in which nothing happens: nothing may grow.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use e2e::{Manners, Stack};

use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial};

/// How often the processes are looked at.
const SAMPLE: Duration = Duration::from_secs(1);

/// How much a process may grow, in MiB a minute.
const GROWTH: f64 = 1.0;

/// How many more descriptors a process may have open at one time than at another. A test's machine may stand still for two
/// seconds, and all that comes meanwhile opens connections at once.
const DESCRIPTORS: usize = 64;
const DESCRIPTORS_IN_A_TEST: usize = 256;

/// How long after the last event nothing may be left to do.
const LAG: Duration = Duration::from_secs(5);

/// What a process had at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    minutes: f64,
    mebibytes: f64,
    descriptors: usize,
}

/// Looks at all processes for the time that the stage says. The first third is a warm-up.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let flow = trial.flow(stage).await;
    let start = Instant::now();
    let mut samples = BTreeMap::<String, Vec<Sample>>::new();
    let mut tick = tokio::time::interval(SAMPLE);
    while start.elapsed() < stage.soak {
        tick.tick().await;
        if start.elapsed() < stage.soak / 3 {
            continue;
        }
        for (name, pid) in processes(trial.stack()) {
            let sample = sample(pid, start.elapsed())?;
            samples.entry(name).or_default().push(sample);
        }
    }
    let answers = flow.stop().await;
    let stopped = Instant::now();
    trial.settle_with(SETTLE).await;
    let lag = stopped.elapsed();
    let mut report = trial.end(&answers).await;
    report.at_most("lag", lag, stage.bound(LAG));
    for (name, samples) in &samples {
        // A test is too short for a slope that means something.
        if !stage.quick {
            let growth = format!("{name} grows (MiB/min)");
            report.at_most(&growth, slope(samples), GROWTH);
        }
        let descriptors = || samples.iter().map(|sample| sample.descriptors);
        let spread = descriptors().max().unwrap_or(0) - descriptors().min().unwrap_or(0);
        let most = stage.pick(DESCRIPTORS, DESCRIPTORS_IN_A_TEST);
        report.at_most(&format!("{name} descriptors differ by"), spread, most);
    }
    Ok(Outcome::Ran(report))
}

fn processes(stack: &Stack) -> Vec<(String, u32)> {
    let services = stack.services().map(|service| (service.name(), service.pid()));
    let nats = [(stack.nats().name(), stack.nats().pid())];
    let all = services.chain(nats);
    all.filter_map(|(name, pid)| Some((name.to_owned(), pid?)))
        .collect()
}

fn sample(pid: u32, age: Duration) -> anyhow::Result<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(Sample {
        minutes: age.as_secs_f64() / 60.0,
        mebibytes: kibibytes.unwrap_or_default() / 1024.0,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
    })
}

/// The slope of the line that fits best, in MiB a minute.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.iter().map(|_| 1.0).sum::<f64>();
    let mean = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|sample| sample.minutes), mean(|sample| sample.mebibytes));
    let product = |sample: &Sample| (sample.minutes - x) * (sample.mebibytes - y);
    let square = |sample: &Sample| (sample.minutes - x).powi(2);
    samples.iter().map(product).sum::<f64>() / samples.iter().map(square).sum::<f64>()
}
