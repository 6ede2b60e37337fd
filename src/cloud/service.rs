//! The services of the Cloud.

/// A service of the Cloud with a host of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Conversations and their messages.
    Messaging,
    /// `AppJWT`s.
    Sentinel,
    /// `ConsumerJWS`s.
    Idp,
    /// The Monitoring API.
    Monitoring,
    /// Files.
    Storage,
}

impl Service {
    /// All services that the bridge uses.
    pub const ALL: [Self; 5] = [
        Self::Messaging,
        Self::Sentinel,
        Self::Idp,
        Self::Monitoring,
        Self::Storage,
    ];

    /// Returns the service's name at the domain API, which is case-sensitive.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messaging => "asyncMessagingEnt",
            Self::Sentinel => "sentinel",
            Self::Idp => "idp",
            Self::Monitoring => "smt",
            Self::Storage => "swift",
        }
    }
}
