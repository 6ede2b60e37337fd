//! What a user thinks of a conversation that has ended.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::Invalid;

/// A rating: satisfaction (CSAT) and whether the first contact resolved the matter (FCR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RatingMembers", into = "RatingMembers")]
pub struct Rating {
    /// 1 to 5.
    pub csat: Option<u8>,
    /// Whether the matter was resolved.
    pub first_call_resolution: Option<bool>,
    /// How much of it was filled in.
    pub status: RatingStatus,
}

/// How much of a rating was filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatingStatus {
    /// All of it.
    Filled,
    /// Some of it.
    PartiallyFilled,
    /// Nothing.
    Skipped,
}

/// A rating as it is written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rating)]
pub struct RatingMembers {
    /// Satisfaction.
    #[schema(minimum = 1, maximum = 5)]
    csat: Option<u8>,
    /// Whether the first contact resolved the matter.
    fcr: Option<Answer>,
    /// How much was filled in; left out, it follows from the other members.
    status: Option<RatingStatus>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It did.
    Yes,
    /// It did not.
    No,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl From<Rating> for RatingMembers {
    fn from(rating: Rating) -> Self {
        Self {
            csat: rating.csat,
            fcr: rating.first_call_resolution.map(Answer::from),
            status: Some(rating.status),
        }
    }
}

impl TryFrom<RatingMembers> for Rating {
    type Error = Invalid;

    fn try_from(members: RatingMembers) -> Result<Self, Invalid> {
        let RatingMembers { csat, fcr, status } = members;
        if csat.is_some_and(|csat| !(1..=5).contains(&csat)) {
            return Err(Invalid {
                expected: "csat from 1 to 5",
            });
        }
        let given = match (csat, fcr) {
            (Some(_), Some(_)) => Some(RatingStatus::Filled),
            (None, None) => None,
            _ => Some(RatingStatus::PartiallyFilled),
        };
        let status = match (status, given) {
            (None, None) => {
                return Err(Invalid {
                    expected: "csat, fcr, or status: skipped",
                });
            }
            (Some(RatingStatus::Filled), given) if given != Some(RatingStatus::Filled) => {
                return Err(Invalid {
                    expected: "csat and fcr with status: filled",
                });
            }
            (Some(RatingStatus::Skipped), Some(_)) => {
                return Err(Invalid {
                    expected: "neither csat nor fcr with status: skipped",
                });
            }
            (Some(status), _) | (None, Some(status)) => status,
        };
        Ok(Self {
            csat,
            first_call_resolution: fcr.map(|answer| answer == Answer::Yes),
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(value: Value) -> Option<RatingStatus> {
        serde_json::from_value::<Rating>(value)
            .ok()
            .map(|rating| rating.status)
    }

    #[test]
    fn the_status_follows_from_what_is_given() {
        use RatingStatus::{Filled, PartiallyFilled, Skipped};
        for (rating, expected) in [
            (json!({"csat": 5, "fcr": "yes"}), Some(Filled)),
            (json!({"csat": 1}), Some(PartiallyFilled)),
            (json!({"fcr": "no"}), Some(PartiallyFilled)),
            (json!({"status": "skipped"}), Some(Skipped)),
            (
                json!({"csat": 5, "status": "partially_filled"}),
                Some(PartiallyFilled),
            ),
            (json!({}), None),
            (json!({"csat": 0}), None),
            (json!({"csat": 6, "fcr": "yes"}), None),
            (json!({"csat": 5, "status": "filled"}), None),
            (json!({"csat": 5, "status": "skipped"}), None),
            (json!({"fcr": "maybe"}), None),
            (json!({"csat": 5, "stars": 5}), None),
        ] {
            assert_eq!(status(rating.clone()), expected, "{rating}");
        }
    }
}
