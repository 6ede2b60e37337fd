//! The body of `cm.UpdateConversationField`.

use serde::Deserialize;
use serde_json::Value;

use super::{Mismatch, read};

const FIELD: &str = "body.conversationField";

/// What a consumer changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Ends the conversation, whose state is that of its main dialog.
    Close,
    /// Ends the conversation with every dialog in it.
    CloseEverything,
    /// Ends this dialog.
    CloseDialog(String),
    /// Rates it.
    Rating,
    /// Sets its urgency.
    Urgency,
}

/// Source: vendor's Send API examples, section on closing.
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

/// Source: vendor's page on post-conversation surveys, and its demonstration of them.
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
    /// Seconds.
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

/// The one field that a request changes: the vendor's protocol page allows an array of one element for the element.
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

/// Checks a field of its documented shape.
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

/// What a skipped or partial rating leaves out is not documented, so anything may be missing there.
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
