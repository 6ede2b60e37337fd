//! The services of the Cloud.

/// A service of the Cloud with a host of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Conversations and what is said in them.
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
    /// Every service that the bridge uses.
    pub const ALL: [Self; 5] = [
        Self::Messaging,
        Self::Sentinel,
        Self::Idp,
        Self::Monitoring,
        Self::Storage,
    ];

    /// The domain API's name for it, which is case-sensitive.
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
