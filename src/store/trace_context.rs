//! The trace context of a row, in two columns.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::types::trace::TraceContext;

/// The columns `traceparent` and `tracestate`. `tracestate` is NULL in a row that was written by a
/// version without that column.
#[derive(Debug)]
pub(super) struct ParentRow(pub(super) Option<TraceContext>);

impl<'r, R> FromRow<'r, R> for ParentRow
where
    R: Row,
    &'static str: ColumnIndex<R>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let tracestate: Option<String> = row.try_get("tracestate")?;
        let traceparent: Option<String> = row.try_get("traceparent")?;
        Ok(Self(traceparent.map(|traceparent| TraceContext {
            traceparent,
            tracestate,
        })))
    }
}
