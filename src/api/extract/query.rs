//! The query parameters. Unknown and repeated ones are refused.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::{pointer, violation};
use crate::api::problem::{Code, Problem};

/// The query parameters. Each value arrives as text, so the members of `T` are deserialized from
/// strings.
pub(in crate::api) struct Query<T>(pub(in crate::api) T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // `form_urlencoded` would replace bytes that are not UTF-8 by U+FFFD.
    if percent_decode_str(query).decode_utf8().is_err() {
        return Err(Problem::new(
            Code::MalformedRequest,
            "The query: expected percent-encoded UTF-8.",
        ));
    }
    let mut parameters = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Value::String(value.into_owned());
        if parameters.insert(name.to_string(), value).is_some() {
            return Err(Problem::parameter(
                &name,
                "this parameter occurs twice".to_owned(),
            ));
        }
    }
    serde_path_to_error::deserialize(Value::Object(parameters)).map_err(|error| {
        violation(&error.inner().to_string(), pointer(error.path())).for_parameter()
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::types::event::{Cursor, EventType};

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        after: Option<Cursor>,
        kind: EventType,
    }

    #[test]
    fn query_parameters_are_percent_decoded_and_parsed() {
        let read = |query| parse::<Parameters>(query).ok();

        let kind = EventType::MessageSent;
        let after = Some(Cursor::behind(10));
        assert_eq!(
            read("kind=message.sent"),
            Some(Parameters { after: None, kind })
        );
        assert_eq!(
            read("after=%63a&kind=message%2Esent"),
            Some(Parameters { after, kind })
        );
    }

    #[test]
    fn a_query_that_is_not_utf_8_is_malformed() {
        for query in ["kind=%ff", "%C3=1", "kind=message.sent&after=%ED%A0%80"] {
            let problem = parse::<Parameters>(query).unwrap_err();

            assert_eq!(problem.code(), Code::MalformedRequest, "{query}");
        }
    }

    #[test]
    fn an_invalid_parameter_is_named_without_its_value() {
        for (query, name, detail) in [
            ("", "kind", "this parameter is required"),
            (
                "kind=message.sent&after=secret",
                "after",
                "expected a cursor",
            ),
            ("kind=secret", "kind", "expected one of `message.created`"),
            ("kind=message.sent&kind=secret", "kind", "occurs twice"),
            (
                "kind=message.sent&limit=secret",
                "limit",
                "unknown parameter",
            ),
        ] {
            let problem = format!("{:?}", parse::<Parameters>(query).unwrap_err());

            assert!(
                problem.contains(&format!("pointer: \"/{name}\"")),
                "{problem}"
            );
            assert!(problem.contains(detail), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }
}
