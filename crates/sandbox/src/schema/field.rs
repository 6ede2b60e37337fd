//! The body of `cm.UpdateConversationField`.

use serde::Deserialize;
use serde_json::Value;

use super::{Mismatch, read};

const FIELD: &str = "body.conversationField";

/// A change that a consumer makes to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The end of the conversation, through the state of its main dialog.
    Close,
    /// The end of the conversation with all its dialogs.
    CloseEverything,
    /// The end of this dialog.
    CloseDialog(String),
    /// A rating of the conversation.
    Rating,
    /// A new urgency of the conversation.
    Urgency,
}

/// The body of the request. Source: vendor's Send API examples, section on closing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Body {
    pub(crate) conversation_id: String,
    pub(crate) conversation_field: Value,
}

#[derive(Debug, Deserialize)]
struct Named {
    field: Name,
}

#[derive(Debug, Deserialize)]
enum Name {
    ConversationStateField,
    Stage,
    DialogChange,
    CSATRate,
    TTRField,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StateField {
    field: Name,
    conversation_state: Closed,
}

#[derive(Debug, Deserialize)]
enum Closed {
    #[serde(rename = "CLOSE")]
    Close,
}

/// The field that closes a dialog. Source: vendor's page on post-conversation surveys, and its
/// demonstration of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DialogField {
    field: Name,
    r#type: ChangeType,
    dialog: ClosedDialog,
}

#[derive(Debug, Deserialize)]
enum ChangeType {
    #[serde(rename = "UPDATE")]
    Update,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClosedDialog {
    dialog_id: String,
    state: Closed,
    closed_cause: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RatingField {
    field: Name,
    csat_rate: Option<u8>,
    csat_resolution_confirmation: Option<bool>,
    status: RatingStatus,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum RatingStatus {
    Filled,
    PartiallyFilled,
    Skipped,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UrgencyField {
    field: Name,
    ttr_type: TtrType,
    /// The time to respond, in seconds.
    value: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TtrType {
    Custom,
    Normal,
    Prioritized,
    Urgent,
}

/// Returns the one field that a request changes. The vendor's protocol page allows an array of one
/// element in place of the element.
pub(crate) fn single(field: &Value) -> Result<&Value, Mismatch> {
    match field.as_array().map(Vec::as_slice) {
        None => Ok(field),
        Some([field]) => Ok(field),
        Some(fields) => Err(Mismatch(format!(
            "{FIELD}: an array of {} elements, expected an object or an array of one",
            fields.len()
        ))),
    }
}

/// Checks that a field has its documented shape.
pub(crate) fn classify(field: &Value) -> Result<Change, Mismatch> {
    let Named { field: name } = read(FIELD, field)?;
    match name {
        Name::ConversationStateField => {
            read::<StateField>(FIELD, field)?;
            Ok(Change::Close)
        }
        Name::Stage => {
            read::<StateField>(FIELD, field)?;
            Ok(Change::CloseEverything)
        }
        Name::DialogChange => {
            let change: DialogField = read(FIELD, field)?;
            Ok(Change::CloseDialog(change.dialog.dialog_id))
        }
        Name::CSATRate => {
            check_rating(&read(FIELD, field)?)?;
            Ok(Change::Rating)
        }
        Name::TTRField => {
            read::<UrgencyField>(FIELD, field)?;
            Ok(Change::Urgency)
        }
    }
}

/// Checks a rating. The documents do not say which members a skipped or partial rating leaves out,
/// so any may be missing.
fn check_rating(rating: &RatingField) -> Result<(), Mismatch> {
    if let Some(rate) = rating.csat_rate.filter(|rate| !(1..=5).contains(rate)) {
        return Err(Mismatch(format!(
            "{FIELD}.csatRate: {rate}, expected 1 to 5"
        )));
    }
    let complete = rating.csat_rate.is_some() && rating.csat_resolution_confirmation.is_some();
    if rating.status == RatingStatus::Filled && !complete {
        return Err(Mismatch(format!(
            "{FIELD}.status: FILLED, expected both csatRate and csatResolutionConfirmation with it"
        )));
    }
    Ok(())
}
