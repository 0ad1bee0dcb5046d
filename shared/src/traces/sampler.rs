//! Which traces are recorded.

use clap::Args;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample as _};

use crate::process::config::number_within;
use crate::traces::parent::TraceParent;

/// Which requests are traced, and what events carry on of a trace.
#[derive(Args, Clone, Copy, Debug)]
pub struct SamplingConfig {
    /// Which traces are recorded: `always_on`, `always_off`, `traceidratio`, or `parentbased_` and one of these, which is
    /// asked only where no `traceparent` decides.
    #[arg(long, env, value_name = "OTEL_TRACES_SAMPLER", default_value = "parentbased_always_on", value_parser = chosen)]
    pub otel_traces_sampler: Chosen,

    /// Share of the traces that `traceidratio` records, 0 to 1.
    #[arg(long, env, value_name = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_parser = ratio)]
    pub otel_traces_sampler_arg: f64,

    /// Headers that events carry on to receivers: `tracecontext`, or `tracecontext,baggage`. Baggage is carried only while
    /// this service is traced.
    #[arg(long, env, value_name = "OTEL_PROPAGATORS", default_value = "tracecontext,baggage", value_parser = propagators)]
    pub otel_propagators: Propagators,
}

/// A sampler as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    follows_parent: bool,
    root: Root,
}

/// What decides on a trace that begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    All,
    None,
    Share,
}

/// What events carry on besides `traceparent` and `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagators {
    /// The header `baggage`.
    pub baggage: bool,
}

fn chosen(text: &str) -> Result<Chosen, String> {
    let (follows_parent, root) = match text.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, text),
    };
    let root = match root {
        "always_on" => Root::All,
        "always_off" => Root::None,
        "traceidratio" => Root::Share,
        _ => {
            let known = "must be `always_on`, `always_off` or `traceidratio`, perhaps after `parentbased_`";
            return Err(known.to_owned());
        }
    };
    Ok(Chosen { follows_parent, root })
}

fn ratio(text: &str) -> Result<f64, String> {
    number_within(text, &(0.0..=1.0))
}

fn propagators(text: &str) -> Result<Propagators, String> {
    let mut names: Vec<_> = text.split(',').map(str::trim).collect();
    names.sort_unstable();
    match names[..] {
        ["tracecontext"] => Ok(Propagators { baggage: false }),
        ["baggage", "tracecontext"] => Ok(Propagators { baggage: true }),
        _ => Err("must be `tracecontext` or `tracecontext,baggage`".to_owned()),
    }
}

/// Decides which traces are recorded.
#[derive(Clone, Debug)]
pub struct Sampler {
    follows_parent: bool,
    root: opentelemetry_sdk::trace::Sampler,
}

impl Sampler {
    /// As the settings say.
    pub fn new(config: &SamplingConfig) -> Self {
        use opentelemetry_sdk::trace::Sampler;
        let Chosen { follows_parent, root } = config.otel_traces_sampler;
        Self {
            follows_parent,
            root: match root {
                Root::All => Sampler::AlwaysOn,
                Root::None => Sampler::AlwaysOff,
                Root::Share => Sampler::TraceIdRatioBased(config.otel_traces_sampler_arg),
            },
        }
    }

    /// Records what others record, and begins no trace.
    pub fn of_others() -> Self {
        Self {
            follows_parent: true,
            root: opentelemetry_sdk::trace::Sampler::AlwaysOff,
        }
    }

    /// Whether a trace is recorded, of which `parent` is the span before, if there is one.
    pub(super) fn keeps(&self, parent: Option<TraceParent>, trace: TraceId) -> bool {
        if let Some(parent) = parent.filter(|_| self.follows_parent) {
            return parent.is_sampled();
        }
        let result = self
            .root
            .should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};

    use super::*;

    fn kept(sampler: &str, share: f64, parent: Option<&str>) -> usize {
        let sampler = Sampler::new(&SamplingConfig {
            otel_traces_sampler: chosen(sampler).unwrap(),
            otel_traces_sampler_arg: share,
            otel_propagators: propagators("tracecontext").unwrap(),
        });
        let parent = parent.map(|text| TraceParent::parse(text).unwrap());
        let ids = RandomIdGenerator::default();
        (0..1_000)
            .filter(|_| sampler.keeps(parent, ids.new_trace_id()))
            .count()
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn a_parent_decides_where_the_sampler_follows_it() {
        assert_eq!(kept("parentbased_always_on", 1.0, Some(NOT_SAMPLED)), 0);
        assert_eq!(kept("parentbased_traceidratio", 0.0, Some(SAMPLED)), 1_000);
        assert_eq!(kept("parentbased_always_off", 1.0, Some(SAMPLED)), 1_000);
        assert_eq!(kept("always_on", 1.0, Some(NOT_SAMPLED)), 1_000);
        assert_eq!(kept("always_off", 1.0, Some(SAMPLED)), 0);
    }

    #[test]
    fn a_share_of_the_traces_that_begin_here_is_kept() {
        assert_eq!(kept("parentbased_always_on", 1.0, None), 1_000);
        assert_eq!(kept("parentbased_always_off", 1.0, None), 0);
        assert_eq!(kept("parentbased_traceidratio", 0.0, None), 0);
        let half = kept("traceidratio", 0.5, None);
        assert!((300..700).contains(&half), "{half}");
    }

    #[test]
    fn workers_follow_others_and_begin_no_trace() {
        let sampler = Sampler::of_others();
        let trace = TraceId::from(7);
        assert!(!sampler.keeps(None, trace));
        assert!(sampler.keeps(TraceParent::parse(SAMPLED), trace));
        assert!(!sampler.keeps(TraceParent::parse(NOT_SAMPLED), trace));
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(chosen("jaeger_remote").is_err() && chosen("parentbased_").is_err());
        assert!(ratio("1.1").is_err() && ratio("NaN").is_err() && ratio("x").is_err());
        assert!(propagators("b3").is_err() && propagators("baggage").is_err());
        assert!(propagators("baggage, tracecontext").unwrap().baggage);
    }
}
