//! The query parameters of the operations. A request with an unknown one is refused, so that a typo
//! does not go unnoticed.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi as Document, RefOr};

use super::around::Next;
use super::problem::Problem;

/// The query parameters of each channel operation, by path, as the OpenAPI document describes them.
///
/// The Cloud's webhooks are not included: an operator configured their URL in the Cloud, and no
/// notification may be lost because of its query. The signed links to files are not included
/// either, since messengers and gateways may add parameters of their own to a link.
#[derive(Debug)]
pub(super) struct KnownParameters(HashMap<String, Vec<(Method, Vec<String>)>>);

impl KnownParameters {
    /// Reads the parameters from the document.
    pub(super) fn of(document: &Document) -> Self {
        let paths = document.paths.paths.iter();
        let paths = paths.filter(|(path, _)| path.starts_with("/v1/"));
        Self(
            paths
                .map(|(path, item)| (path.clone(), parameters_by_method(item)))
                .collect(),
        )
    }

    /// Checks the parameters of a request.
    ///
    /// # Errors
    ///
    /// A problem that names the first unknown parameter.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Problem> {
        let Some(query) = request.uri.query() else {
            return Ok(());
        };
        let route = request.extensions.get::<MatchedPath>();
        let operations = route.and_then(|route| self.0.get(route.as_str()));
        // Each GET operation also takes HEAD.
        let method = match request.method {
            Method::HEAD => &Method::GET,
            ref method => method,
        };
        let mut operations = operations.into_iter().flatten();
        match operations.find(|(known, _)| known == method) {
            Some((_, known)) => refuse_unknown(query, known),
            None => Ok(()),
        }
    }
}

fn parameters_by_method(item: &PathItem) -> Vec<(Method, Vec<String>)> {
    let operations = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
    ];
    let operations = operations.into_iter();
    operations
        .filter_map(|(method, operation)| Some((method, query_parameters(operation.as_ref()?))))
        .collect()
}

fn query_parameters(operation: &Operation) -> Vec<String> {
    let parameters = operation.parameters.iter().flatten();
    parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                Some(parameter.name.clone())
            }
            _ => None,
        })
        .collect()
}

/// Passes a request on if it has no query parameters.
pub(super) async fn refuse_any(request: Request, next: Next) -> Result<Response, Infallible> {
    match refuse_unknown(request.uri().query().unwrap_or_default(), &[]) {
        Ok(()) => Ok(next.run(request).await),
        Err(problem) => Ok(problem.into_response()),
    }
}

fn refuse_unknown(query: &str, known: &[String]) -> Result<(), Problem> {
    let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    let Some(unknown) = names.find(|name| !known.iter().any(|known| known == name)) else {
        return Ok(());
    };
    let expected = match known {
        [] => "none".to_owned(),
        known => format!("one of `{}`", known.join("`, `")),
    };
    Err(Problem::parameter(
        &unknown,
        format!("unknown parameter, expected {expected}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unknown_parameter_is_reported_with_the_known_ones() {
        let known = ["after".to_owned(), "limit".to_owned()];
        let refused = |query, known: &[String]| {
            refuse_unknown(query, known)
                .err()
                .map(|problem| format!("{problem:?}"))
        };

        for good in ["", "&", "limit=1&after=", "%61fter=c1"] {
            assert_eq!(refused(good, &known), None, "{good}");
        }
        for (query, pointer) in [
            ("foo=1", "/foo"),
            ("limit=1&Limit=1&foo=1", "/Limit"),
            ("foo", "/foo"),
            ("=1", "/"),
            ("a/b~=1", "/a~1b~0"),
        ] {
            let problem = refused(query, &known).unwrap();
            assert!(
                problem.contains(&format!("pointer: {pointer:?}")),
                "{problem}"
            );
            assert!(
                problem.contains("expected one of `after`, `limit`"),
                "{problem}"
            );
        }
        let problem = refused("foo=1", &[]).unwrap();
        assert!(problem.contains("expected none"), "{problem}");
    }

    #[test]
    fn the_parameters_of_every_channel_operation_are_known() {
        let known = KnownParameters::of(&crate::api::document());

        let methods: usize = known.0.values().map(Vec::len).sum();
        assert!(methods >= 20, "{methods}");
        assert_eq!(
            known.0["/v1/deliveries"],
            [(
                Method::GET,
                ["state", "after", "limit"].map(str::to_owned).to_vec()
            )]
        );
    }
}
