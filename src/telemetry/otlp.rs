//! The export of spans to an OpenTelemetry collector, by OTLP over HTTP with protobuf.
//!
//! The exported spans are those with the ids of a [`Trace`](crate::types::trace::Trace) that is
//! sampled, and they keep these ids. So the `traceparent` that another service receives names a
//! span that the collector has. An attribute is exported only if [`ATTRIBUTES`] names it: a request
//! id, for example, is chosen by the caller and may contain anything. The standard variables
//! `OTEL_…` set the collector's address and the protocol options.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanExporter as Exporter, SpanLinks, SpanProcessor,
};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::log::AnyLayer;

/// The error for a collector address that cannot be used.
pub(super) type Error = ExporterBuildError;

/// 2 s: the time limit of the last export. A stop takes 30 s at most, of which requests get 25 s.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// 60 s: the interval at which an unreachable collector is logged.
const FAILURE_LOG_SECONDS: i64 = 60;

/// The fields of spans that are exported, each with the name of its attribute.
const ATTRIBUTES: [(&str, &str); 8] = [
    ("http.method", "http.request.method"),
    ("http.route", "http.route"),
    ("status", "http.response.status_code"),
    ("channel.id", "channel.id"),
    ("account.id", "account.id"),
    ("event.id", "event.id"),
    ("operation", "operation"),
    ("host", "server.address"),
];

/// The methods that are exported by name. A caller may send a method that does not exist.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// An export that was started.
#[derive(Debug)]
pub(super) struct Export(Arc<BatchSpanProcessor>);

/// A layer that turns ended spans into OpenTelemetry spans.
struct Spans(Arc<BatchSpanProcessor>);

/// The data of a span that has not ended.
#[derive(Debug)]
struct OpenSpan {
    started_at: SystemTime,
    trace_id: TraceId,
    span_id: SpanId,
    parent_id: SpanId,
    sampled: bool,
    attributes: Vec<KeyValue>,
}

/// An exporter that logs its failures, at most once per `FAILURE_LOG_SECONDS`.
#[derive(Debug)]
struct LoggingExporter {
    exporter: SpanExporter,
    started_at: Instant,
    /// The number of seconds after `started_at` from which a failure is logged again.
    next_log_at: AtomicI64,
}

impl Export {
    /// Creates an export to the collector that the environment names; `None` if it names none or
    /// disables the export.
    pub(super) fn from_environment() -> Result<Option<Self>, Error> {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let named =
            is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let disabled = std::env::var("OTEL_SDK_DISABLED")
            .is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        if !named || disabled {
            return Ok(None);
        }
        let exporter = LoggingExporter {
            exporter: SpanExporter::builder().with_http().build()?,
            started_at: Instant::now(),
            next_log_at: AtomicI64::new(0),
        };
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let resource = if is_set("OTEL_SERVICE_NAME") {
            resource
        } else {
            resource.with_service_name("liveperson-bridge")
        };
        processor.set_resource(&resource.build());
        Ok(Some(Self(Arc::new(processor))))
    }

    /// Returns the layer that receives the spans. The level of the log does not affect it.
    pub(super) fn layer(&self) -> AnyLayer {
        let ours = FilterFn::new(|metadata| {
            metadata.is_span()
                && *metadata.level() <= Level::INFO
                && metadata.target().starts_with("liveperson_bridge")
        });
        let ours = ours.with_max_level_hint(LevelFilter::INFO);
        Spans(Arc::clone(&self.0)).with_filter(ours).boxed()
    }

    /// Exports the remaining spans.
    pub(super) fn finish(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FINISH_LIMIT) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last spans could not be exported"
            );
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open = OpenSpan {
            started_at: SystemTime::now(),
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent_id: SpanId::INVALID,
            sampled: false,
            attributes: Vec::new(),
        };
        attributes.record(&mut open);
        if open.sampled && open.trace_id != TraceId::INVALID && open.span_id != SpanId::INVALID {
            span.extensions_mut().replace(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            values.record(open);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let open = span.extensions_mut().remove::<OpenSpan>();
        if let Some(open) = open {
            self.0.on_end(open.into_span_data(span.name()));
        }
    }
}

impl OpenSpan {
    fn into_span_data(self, name: &'static str) -> SpanData {
        let kind = match name {
            "http.request" => SpanKind::Server,
            "http.send" => SpanKind::Client,
            // The span continues work that waited in the database.
            _ => SpanKind::Consumer,
        };
        let failed = self.attributes.iter().any(|attribute| {
            attribute.key.as_str() == "http.response.status_code"
                && matches!(attribute.value, Value::I64(status) if status >= 500)
        });
        SpanData {
            span_context: SpanContext::new(
                self.trace_id,
                self.span_id,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: self.parent_id,
            parent_span_is_remote: kind != SpanKind::Client,
            name: self.name(name),
            span_kind: kind,
            start_time: self.started_at,
            end_time: SystemTime::now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if failed {
                Status::error("")
            } else {
                Status::Unset
            },
            instrumentation_scope: InstrumentationScope::builder("liveperson-bridge").build(),
        }
    }

    /// Returns the most informative name that has few possible values: the method and route of a
    /// request, or the operation of a call.
    fn name(&self, name: &'static str) -> Cow<'static, str> {
        let text = |key: &str| {
            let mut attributes = self.attributes.iter();
            let found = attributes.find(|attribute| attribute.key.as_str() == key);
            found.map(|attribute| attribute.value.to_string())
        };
        let request = text("http.request.method").zip(text("http.route"));
        match (request, text("operation")) {
            (Some((method, route)), _) => format!("{method} {route}").into(),
            (None, Some(operation)) => operation.into(),
            (None, None) => name.into(),
        }
    }

    fn add(&mut self, field: &Field, value: Value) {
        let known = ATTRIBUTES.iter().find(|(name, _)| *name == field.name());
        if let Some((_, key)) = known {
            self.attributes.push(KeyValue::new(*key, value));
        }
    }
}

impl Visit for OpenSpan {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "sampled" {
            self.sampled = value;
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, i64::try_from(value).unwrap_or(i64::MAX).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace_id" => self.trace_id = TraceId::from_hex(value).unwrap_or(TraceId::INVALID),
            "span_id" => self.span_id = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "parent_id" => self.parent_id = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "http.method" if !METHODS.contains(&value) => self.add(field, "_OTHER".into()),
            _ => self.add(field, value.to_owned().into()),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // The ids of spans are recorded with `%`, and so arrive here.
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Exporter for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        if let Err(error) = &outcome {
            let now = i64::try_from(self.started_at.elapsed().as_secs()).unwrap_or(i64::MAX);
            if now >= self.next_log_at.load(Ordering::Relaxed) {
                self.next_log_at
                    .store(now + FAILURE_LOG_SECONDS, Ordering::Relaxed);
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "spans could not be exported; logged at most once a minute"
                );
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
