//! What the service says of itself: the [`log`], its [`metrics`], and, in a build with the feature `otlp`, its spans.
//!
//! Message text, tokens, profiles and phone numbers are never logged; the types that hold them do not show them.

pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;

/// Why nothing can be said as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Filter(#[from] log::BadFilter),
    /// The spans.
    #[cfg(feature = "otlp")]
    #[error("the export of spans cannot be set up; look at OTEL_EXPORTER_OTLP_ENDPOINT")]
    Export(#[from] otlp::Error),
}

/// What was begun at the start and has to be finished at the end.
#[derive(Debug)]
pub struct Reporting {
    #[cfg(feature = "otlp")]
    export: Option<otlp::Export>,
}

impl Reporting {
    /// Begins the log, and the export of spans where the environment names a collector. Not to be called within a runtime.
    ///
    /// The log is as detailed as `RUST_LOG` says, or `usual` where it says nothing.
    ///
    /// # Errors
    ///
    /// Where the environment asks for what cannot be understood.
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

    /// Exports what is left, within 2 s.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(export) = self.export {
            export.finish();
        }
    }
}
