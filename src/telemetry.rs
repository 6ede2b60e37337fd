//! The telemetry of the service: the [`log`], the [`metrics`], and spans for an OpenTelemetry
//! collector.
//!
//! Message texts, tokens, profiles and phone numbers are never logged. The types that hold them do
//! not show them.

pub mod log;
pub mod metrics;
mod otlp;

/// The error for telemetry that cannot be set up as requested.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter of the log is invalid.
    #[error(transparent)]
    Filter(#[from] log::BadFilter),
    /// The export of spans cannot be set up.
    #[error("the export of spans cannot be set up; check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Export(#[from] otlp::Error),
}

/// The telemetry that was started and has to be finished at the end.
#[derive(Debug)]
pub struct Telemetry {
    export: Option<otlp::Export>,
}

impl Telemetry {
    /// Starts the log, and the export of spans if the environment names a collector. This function
    /// must not be called within a runtime.
    ///
    /// The log is as detailed as `RUST_LOG` requests, or as `default` requests if that is not set.
    ///
    /// # Errors
    ///
    /// The environment contains a setting that is not understood.
    pub fn begin(format: log::Format, default: &'static str) -> Result<Self, Error> {
        let filter = log::filter(default)?;
        let export = otlp::Export::from_environment()?;
        let spans = export.as_ref().map(otlp::Export::layer);
        log::init(format, filter, spans);
        Ok(Self { export })
    }

    /// Exports the remaining spans, within 2 s.
    pub fn finish(self) {
        if let Some(export) = self.export {
            export.finish();
        }
    }
}
