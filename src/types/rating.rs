//! Ratings of conversations that have ended.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::Invalid;

/// The user's rating: satisfaction (CSAT) and first-contact resolution (FCR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RatingMembers", into = "RatingMembers")]
pub struct Rating {
    /// The satisfaction score, 1 to 5.
    pub csat: Option<u8>,
    /// True if the first contact resolved the matter.
    pub first_call_resolution: Option<bool>,
    /// The completeness of the rating.
    pub status: RatingStatus,
}

/// The completeness of a rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatingStatus {
    /// All of it was filled in.
    Filled,
    /// Some of it was filled in.
    PartiallyFilled,
    /// Nothing was filled in.
    Skipped,
}

/// The user's rating of a conversation: satisfaction (CSAT), and whether the first contact resolved
/// the matter (FCR).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rating)]
pub struct RatingMembers {
    /// The satisfaction score.
    #[schema(minimum = 1, maximum = 5)]
    csat: Option<u8>,
    /// `yes` if the first contact resolved the matter, else `no`.
    fcr: Option<Answer>,
    /// The completeness of the rating. If it is left out, it follows from the other members.
    status: Option<RatingStatus>,
}

/// An answer: yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
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
        let derived = match (csat, fcr) {
            (Some(_), Some(_)) => Some(RatingStatus::Filled),
            (None, None) => None,
            _ => Some(RatingStatus::PartiallyFilled),
        };
        let status = match (status, derived) {
            (None, None) => {
                return Err(Invalid {
                    expected: "csat, fcr, or status: skipped",
                });
            }
            (Some(RatingStatus::Filled), derived) if derived != Some(RatingStatus::Filled) => {
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
    fn the_status_of_a_rating_follows_from_its_members() {
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
