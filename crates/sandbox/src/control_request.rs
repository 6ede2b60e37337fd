//! The bodies and filters of control requests, and the answer to one that cannot be read.

use std::collections::BTreeMap;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};

use crate::refusal::Refusal;

/// The highest number of bytes in a body: an agent's file of 5 MB in base64, and some more.
pub(crate) const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// The body of a control request, read as JSON. Errors in a body are answered as JSON, too.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let axum::Json(value) = axum::Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::plain(rejection.status(), rejection.body_text())
    }
}

/// Reads the number of the last item that the caller knows; 0 if it names none.
pub(crate) fn read_after(filter: &mut BTreeMap<String, String>) -> Result<u64, Refusal> {
    let Some(id) = filter.remove("after") else {
        return Ok(0);
    };
    id.parse().map_err(|_| {
        Refusal::unprocessable(format!(
            "after: `{id}`, expected the `id` of a listed entry"
        ))
    })
}

/// Refuses the parameters that are left after the known ones have been removed.
pub(crate) fn refuse_unknown_parameters(
    filter: &BTreeMap<String, String>,
    expected: &str,
) -> Result<(), Refusal> {
    match filter.keys().next() {
        Some(unknown) => Err(Refusal::unprocessable(format!(
            "{unknown}: unknown, expected {expected}"
        ))),
        None => Ok(()),
    }
}

/// Reads the number of requests or notifications to affect. Zero is a mistake.
pub(crate) fn read_times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("0 times, expected 1 or more")),
        times => Ok(times),
    }
}
