//! The telemetry of the service: the [`log`], the [`metrics`], and, in a build with the feature
//! `otlp`, spans.
//!
//! Message texts, tokens, profiles and phone numbers are never logged. The types that hold them do
//! not show them.

pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;

/// The error for telemetry that cannot be set up as requested.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter of the log is invalid.
    #[error(transparent)]
    Filter(#[from] log::BadFilter),
    /// The export of spans cannot be set up.
    #[cfg(feature = "otlp")]
    #[error("the export of spans cannot be set up; check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Export(#[from] otlp::Error),
}

/// The telemetry that was started and has to be finished at the end.
#[derive(Debug)]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    export: Option<otlp::Export>,
}

impl Telemetry {
    /// Starts the log, and the export of spans if the environment names a collector. It must not be
    /// called within a runtime.
    ///
    /// The log is as detailed as `RUST_LOG` requests, or as `usual` requests if that is not set.
    ///
    /// # Errors
    ///
    /// The environment contains a setting that is not understood.
    pub fn begin(format: log::Format, usual: &'static str) -> Result<Self, Error> {
        let filter = log::filter(usual)?;
        #[cfg(feature = "otlp")]
        let export = otlp::Export::from_environment()?;
        #[cfg(feature = "otlp")]
        let spans = export.as_ref().map(otlp::Export::layer);
        #[cfg(not(feature = "otlp"))]
        let spans = None;
        log::init(format, filter, spans);
        Ok(Self {
            #[cfg(feature = "otlp")]
            export,
        })
    }

    /// Exports the remaining spans, within 2 s.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(export) = self.export {
            export.finish();
        }
    }
}
