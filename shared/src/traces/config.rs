//! Where spans go, by the variables of the OpenTelemetry specification.

use std::time::Duration;

use clap::{ArgAction, Args};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use percent_encoding::percent_decode_str;
use url::Url;
use uuid::Uuid;

use crate::process::config::{integer_from, integer_within};

/// What stands behind the URL of a collector.
const PATH: &str = "/v1/traces";

/// Variables of the specification that change where or how spans are sent, and that nobody here reads.
const NOT_READ: [&str; 8] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_TRACES_EXPORTER",
];

/// Where spans go. Nothing is traced unless an endpoint is set.
#[derive(Args, Clone, Debug)]
pub struct TracesConfig {
    /// URL of a collector that takes OTLP over HTTP, such as `http://collector:4318`; `/v1/traces` is added to it. Nothing is
    /// traced unless this or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set.
    #[arg(long, env, value_name = "OTEL_EXPORTER_OTLP_ENDPOINT", value_parser = endpoint)]
    pub otel_exporter_otlp_endpoint: Option<Url>,

    /// The whole URL that spans are sent to, instead.
    #[arg(long, env, value_name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value_parser = endpoint)]
    pub otel_exporter_otlp_traces_endpoint: Option<Url>,

    /// Headers for the collector, comma separated, each as `name=value` with its value percent-encoded.
    #[arg(long, env, hide_env_values = true, value_name = "OTEL_EXPORTER_OTLP_HEADERS", value_parser = headers)]
    pub otel_exporter_otlp_headers: Option<HeaderMap>,

    /// Such headers instead of those.
    #[arg(long, env, hide_env_values = true, value_name = "OTEL_EXPORTER_OTLP_TRACES_HEADERS", value_parser = headers)]
    pub otel_exporter_otlp_traces_headers: Option<HeaderMap>,

    /// The form in which spans are sent; there is no other.
    #[arg(long, env, value_name = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value = "http/protobuf", value_parser = ["http/protobuf"])]
    pub otel_exporter_otlp_protocol: String,

    /// Milliseconds within which the collector must have taken a batch of spans, at least 1.
    #[arg(long, env, value_name = "OTEL_EXPORTER_OTLP_TIMEOUT", default_value_t = 10_000,
          value_parser = integer_from::<u32>(1))]
    pub otel_exporter_otlp_timeout: u32,

    /// Name of this service in traces, if it is not the program's.
    #[arg(long, env, value_name = "OTEL_SERVICE_NAME")]
    pub otel_service_name: Option<String>,

    /// What traces tell of this service, comma separated, each as `key=value` with its value percent-encoded.
    #[arg(long, env, value_name = "OTEL_RESOURCE_ATTRIBUTES", value_parser = attributes)]
    pub otel_resource_attributes: Option<Attributes>,

    /// Most milliseconds that a span waits for others to be sent with, at least 1.
    #[arg(long, env, value_name = "OTEL_BSP_SCHEDULE_DELAY", default_value_t = 5_000,
          value_parser = integer_from::<u32>(1))]
    pub otel_bsp_schedule_delay: u32,

    /// Most spans that wait to be sent, 1 to 1000000; further ones are dropped.
    #[arg(long, env, value_name = "OTEL_BSP_MAX_QUEUE_SIZE", default_value_t = 2_048,
          value_parser = integer_within::<u32>(1..=1_000_000))]
    pub otel_bsp_max_queue_size: u32,

    /// Most spans that are sent at once, 1 to 1000000.
    #[arg(long, env, value_name = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default_value_t = 512,
          value_parser = integer_within::<u32>(1..=1_000_000))]
    pub otel_bsp_max_export_batch_size: u32,

    /// Whether nothing is traced although an endpoint is set.
    #[arg(long, env, value_name = "OTEL_SDK_DISABLED", action = ArgAction::Set, default_value_t = false)]
    pub otel_sdk_disabled: bool,
}

/// Keys and values that describe this service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes(Vec<(String, String)>);

impl TracesConfig {
    /// Where spans are sent; `None` when nothing is traced.
    pub(super) fn target(&self) -> Option<Url> {
        if self.otel_sdk_disabled {
            return None;
        }
        self.otel_exporter_otlp_traces_endpoint
            .clone()
            .or_else(|| self.otel_exporter_otlp_endpoint.as_ref().map(with_path))
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let own = self.otel_exporter_otlp_traces_headers.as_ref();
        own.or(self.otel_exporter_otlp_headers.as_ref())
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.otel_exporter_otlp_timeout.into())
    }

    /// What the spans of this process have in common.
    pub(super) fn resource(&self, service: &'static str) -> Resource {
        let attributes = self.otel_resource_attributes.iter();
        let attributes = attributes.flat_map(|Attributes(attributes)| attributes.clone());
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
            .with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)));
        match &self.otel_service_name {
            Some(name) => resource.with_service_name(name.clone()).build(),
            None => resource.build(),
        }
    }

    /// Names in the log what was set in vain.
    pub(super) fn warn_of_others() {
        for variable in NOT_READ {
            if std::env::var_os(variable).is_some() {
                tracing::warn!(variable, "this variable of OpenTelemetry is set, and not read");
            }
        }
    }
}

fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err("must start with http:// or https://".to_owned())
    }
}

fn with_path(base: &Url) -> Url {
    let mut url = base.clone();
    url.set_path(&(base.path().trim_end_matches('/').to_owned() + PATH));
    url
}

/// The parts of a list of `name=value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (name, value) = part.split_once('=').ok_or("must be a list of name=value")?;
        let value = percent_decode_str(value.trim()).decode_utf8();
        let value = value.map_err(|_| "a percent-encoded value must be UTF-8")?;
        Ok::<_, &str>((name.trim().to_owned(), value.into_owned()))
    });
    pairs.collect::<Result<_, _>>().map_err(str::to_owned)
}

fn attributes(text: &str) -> Result<Attributes, String> {
    pairs(text).map(Attributes)
}

fn headers(text: &str) -> Result<HeaderMap, String> {
    let headers = pairs(text)?.into_iter().map(|(name, value)| {
        let name = HeaderName::try_from(name).map_err(|_| "a name is not that of a header")?;
        let mut value = HeaderValue::try_from(value).map_err(|_| "a value cannot stand in a header")?;
        value.set_sensitive(true);
        Ok::<_, &str>((name, value))
    });
    headers.collect::<Result<_, _>>().map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        traces: TracesConfig,
    }

    fn config(flags: &[&str]) -> Result<TracesConfig, clap::Error> {
        let program = Program::try_parse_from([&["x"], flags].concat());
        program.map(|program| program.traces)
    }

    fn target(flags: &[&str]) -> Option<String> {
        config(flags).unwrap().target().map(|url| url.to_string())
    }

    #[test]
    fn nothing_is_traced_without_an_endpoint_or_when_it_is_disabled() {
        let endpoint = "--otel-exporter-otlp-endpoint=http://c:4318";
        assert_eq!(target(&["--otel-service-name=x"]), None);
        assert_eq!(target(&[endpoint, "--otel-sdk-disabled=true"]), None);
        assert_eq!(target(&[endpoint]).unwrap(), "http://c:4318/v1/traces");
    }

    #[test]
    fn the_path_is_added_to_the_collectors_url_and_not_to_that_of_traces() {
        let base = "--otel-exporter-otlp-endpoint=https://c/otlp/";
        assert_eq!(target(&[base]).unwrap(), "https://c/otlp/v1/traces");
        let own = "--otel-exporter-otlp-traces-endpoint=https://c/mine";
        assert_eq!(target(&[base, own]).unwrap(), "https://c/mine");
    }

    #[test]
    fn headers_are_decoded_and_not_shown() {
        let given = config(&["--otel-exporter-otlp-headers=Authorization=Basic%20canary, x-a=1"]).unwrap();
        assert_eq!(given.headers()["authorization"], "Basic canary");
        assert_eq!(given.headers()["x-a"], "1");
        assert!(!format!("{given:?}").contains("canary"));
        let own = [
            "--otel-exporter-otlp-headers=x-a=1",
            "--otel-exporter-otlp-traces-headers=x-b=2",
        ];
        let headers = config(&own).unwrap().headers();
        assert!(!headers.contains_key("x-a") && headers["x-b"] == "2");
    }

    #[test]
    fn a_service_is_described_by_its_name_and_what_its_owner_adds() {
        let given = config(&["--otel-resource-attributes=a=1%2C2,service.version=9"]).unwrap();
        let value =
            |resource: &Resource, key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        let resource = given.resource("ingest-api");
        assert_eq!(value(&resource, "a").unwrap(), "1,2");
        assert_eq!(value(&resource, "service.version").unwrap(), "9");
        assert_eq!(value(&resource, "service.name").unwrap(), "ingest-api");
        assert!(value(&resource, "service.instance.id").is_some());
        let named = config(&["--otel-service-name=mine"])
            .unwrap()
            .resource("ingest-api");
        assert_eq!(value(&named, "service.name").unwrap(), "mine");
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for wrong in [
            "--otel-exporter-otlp-endpoint=collector:4318",
            "--otel-exporter-otlp-endpoint=",
            "--otel-exporter-otlp-headers=x",
            "--otel-exporter-otlp-protocol=grpc",
            "--otel-exporter-otlp-timeout=0",
            "--otel-resource-attributes=a=%ff",
        ] {
            assert!(config(&[wrong]).is_err(), "{wrong}");
        }
    }
}
