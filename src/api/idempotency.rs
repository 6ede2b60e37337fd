//! The `Idempotency-Key` header: a POST that is repeated with the same key is not processed again.
//!
//! This layer surrounds the handlers of the API's POST requests. The handlers do not depend on it.
//! It reads the body first, once, because the fingerprint covers it. The fingerprint of a form
//! covers its parts, since a retry uses another boundary. The fingerprint of a path covers the
//! decoded values in it, since a proxy may change their spelling.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use url::form_urlencoded;
use utoipa::openapi::Paths;

use super::around::Next;
use super::auth::AuthChannel;
use super::extract::{self, User};
use super::form::{FileForm, Upload};
use super::load::Permit;
use super::problem::{Code, Problem};
use super::request_log::{HasBody, catch_panic};
use super::state::AppState;
use crate::bridge::{Bridge, Caller, Claiming, FinishedWork, KeyOutcome, KeyedResult, KeyedWork};
use crate::types::idempotency::StoredResponse;
use crate::types::idempotency::{Fingerprint, IdempotencyKey};
use crate::types::ids::Invalid;
use crate::types::links;
use crate::types::message::Text;

/// The header with the key.
const KEY: &str = "idempotency-key";

/// The header that marks a stored response.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The operations, by path, that claim the key in their use case. For all others the key is claimed
/// before the work begins.
#[derive(Debug)]
pub(super) struct SelfClaimingRoutes(BTreeSet<String>);

impl SelfClaimingRoutes {
    /// Creates the set from the descriptions of the operations.
    pub(super) fn in_work<'a>(described: impl IntoIterator<Item = &'a Paths>) -> Self {
        let paths = described.into_iter().flat_map(|it| it.paths.keys());
        Self(paths.cloned().collect())
    }

    fn of(&self, route: &MatchedPath) -> Claiming {
        if self.0.contains(route.as_str()) {
            Claiming::InWork
        } else {
            Claiming::BeforeWork
        }
    }
}

/// Processes a POST with a key, at most once per key.
pub(super) async fn once(
    state: &AppState,
    claiming: &SelfClaimingRoutes,
    route: &MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let AuthChannel(caller) = AuthChannel::from_request_parts(&mut parts, state).await?;
    let key = key(&parts.headers)?;
    let user = User::from_request_parts(&mut parts, state).await;
    let request = Request::from_parts(parts, body);
    let (fingerprint, mut request) = read(request, route, &state.bridge, &caller).await?;
    let keyed = KeyedWork {
        key,
        fingerprint,
        // A path with a missing or malformed user id is left to the handler to report.
        user_id: user.ok().map(|User(user_id)| user_id),
        claiming: claiming.of(route),
    };
    let keyed_caller = caller.clone();
    let request_id = caller.trace.request_id().to_owned();
    let permit = request.extensions().get::<Permit>().cloned();
    let outcome = state
        .bridge
        .once(&caller, keyed, |claim| async move {
            let mut keyed_caller = keyed_caller;
            keyed_caller.claim = Some(claim);
            request.extensions_mut().insert(keyed_caller);
            // A panic must become a response before the key is settled.
            let answer = catch_panic(next.run(request)).await;
            let finished = finish(answer, &request_id).await;
            // The permit counts until the work ends, even if the caller has disconnected.
            drop(permit);
            finished
        })
        .await?;
    Ok(match outcome {
        KeyedResult::Fresh(response) => response,
        KeyedResult::Repeated(answer) => replay(answer),
    })
}

/// Returns the route of a request that may have a key and has one.
pub(super) fn route_with_key(request: &Request) -> Option<MatchedPath> {
    let route = request.extensions().get::<MatchedPath>()?;
    let may = request.method() == Method::POST && route.as_str().starts_with("/v1/");
    (may && request.headers().contains_key(KEY)).then(|| route.clone())
}

fn key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let refused = |expected: &str| {
        Problem::new(
            Code::MalformedRequest,
            format!("The header Idempotency-Key: expected {expected}."),
        )
    };
    let mut values = headers.get_all(KEY).iter();
    let (value, None) = (values.next(), values.next()) else {
        return Err(refused("one value"));
    };
    let text = value.map(HeaderValue::as_bytes).unwrap_or_default();
    let text = str::from_utf8(text).map_err(|_| refused("UTF-8"))?;
    text.parse()
        .map_err(|error: Invalid| refused(error.expected))
}

/// Reads the body. Returns the fingerprint, and the request as it was before.
async fn read(
    request: Request,
    route: &MatchedPath,
    bridge: &Bridge,
    caller: &Caller,
) -> Result<(Fingerprint, Request), Problem> {
    let (mut parts, body) = request.into_parts();
    let target = target(&mut parts, route).await;
    let (method, target) = (parts.method.as_str().as_bytes(), target.as_bytes());
    let unread = Request::from_parts(parts.clone(), body);
    // A file counts against the permits for files, and is in memory only once.
    if route.as_str().ends_with("/files") {
        let upload = Upload::receive(unread, bridge, caller).await?;
        let FileForm { file, caption } = &upload.form;
        let caption = caption.as_ref().map_or("", Text::as_str);
        let fingerprint = Fingerprint::of(&[method, target, file, caption.as_bytes()]);
        let mut request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(upload);
        return Ok((fingerprint, request));
    }
    let body = extract::read_json(unread).await?;
    let fingerprint = Fingerprint::of(&[method, target, &body]);
    Ok((fingerprint, Request::from_parts(parts, Body::from(body))))
}

/// Returns the path and query of a request in the one spelling of the bridge's own links.
/// Equivalent URIs (RFC 3986, section 6.2.2) have the same target: `%2b` and `%2B`, `%61` and `a`.
/// The same holds for `+` and `%2B` in a path, which name the same user, and for `…/messages?` and
/// `…/messages`.
async fn target(parts: &mut Parts, route: &MatchedPath) -> String {
    let Ok(parameters) = RawPathParams::from_request_parts(parts, &()).await else {
        // The handler refuses a path that is not UTF-8, so its spelling does not matter.
        return parts.uri.path().to_owned();
    };
    let path = parameters
        .iter()
        .fold(route.as_str().to_owned(), |path, (name, value)| {
            path.replace(&format!("{{{name}}}"), &links::segment(value).to_string())
        });
    let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

/// Decides the outcome for the key from the handler's response. Repeats get the same response, with
/// two exceptions: nothing was done, or the outcome is unknown and a repeat has to determine it.
async fn finish(response: Response, request_id: &str) -> FinishedWork<Response> {
    let key_outcome = match response.extensions().get::<Problem>() {
        Some(problem) if problem.is_unsettled() => KeyOutcome::Unknown,
        Some(problem) if problem.code().had_no_effect() => KeyOutcome::Free,
        Some(problem) => KeyOutcome::Answered(copy(problem.render(request_id)).await.0),
        None if !response.status().is_success() => KeyOutcome::Free,
        None => {
            let (answer, outcome) = copy(response).await;
            let key_outcome = KeyOutcome::Answered(answer);
            return FinishedWork {
                outcome,
                key_outcome,
            };
        }
    };
    FinishedWork {
        outcome: response,
        key_outcome,
    }
}

/// Copies a response: one to store, one to send.
async fn copy(response: Response) -> (StoredResponse, Response) {
    let (parts, body) = response.into_parts();
    // The body is complete JSON: no response to a POST is a stream or a file.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let headers = parts.headers.iter();
    let answer = StoredResponse {
        status: parts.status.as_u16(),
        headers: headers
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    (answer, Response::from_parts(parts, Body::from(body)))
}

/// Makes the response from a stored one.
fn replay(answer: StoredResponse) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    // The stored status and headers were valid, so no fallback is used here.
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response.extensions_mut().insert(HasBody);
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::IntoResponse as _;
    use axum::routing::any;
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    use super::*;
    use crate::bridge;

    /// Returns the target of a request as a router with the matching route computes it.
    async fn spelled(uri: String) -> String {
        let answer = async |route: MatchedPath, request: Request| {
            let (mut parts, _) = request.into_parts();
            target(&mut parts, &route).await
        };
        let router = Router::new()
            .route("/v1/users/{user_id}/messages", any(answer))
            .route("/v1/deliveries/{event_id}/retry", any(answer));
        let request = Request::post(uri).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.into()).unwrap()
    }

    #[tokio::test]
    async fn equivalent_request_targets_have_one_spelling() {
        for (uri, expected) in [
            ("/v1/users/ada/messages", "/v1/users/ada/messages"),
            ("/v1/users/ada/messages?", "/v1/users/ada/messages"),
            ("/v1/users/ada/messages?&", "/v1/users/ada/messages"),
            ("/v1/users/%61da/messages", "/v1/users/ada/messages"),
            (
                "http://b.example/v1/users/ada/messages",
                "/v1/users/ada/messages",
            ),
            ("/v1/users/+1555/messages", "/v1/users/%2B1555/messages"),
            ("/v1/users/%2b1555/messages", "/v1/users/%2B1555/messages"),
            ("/v1/users/%2B1555/messages", "/v1/users/%2B1555/messages"),
            ("/v1/users/a%2fb/messages", "/v1/users/a%2Fb/messages"),
            (
                "/v1/users/%7Bevent_id%7D/messages",
                "/v1/users/%7Bevent_id%7D/messages",
            ),
            (
                "/v1/users/%7Ea~/messages?a=b%2b",
                "/v1/users/~a~/messages?a=b%2B",
            ),
            ("/v1/deliveries/evt_1/retry", "/v1/deliveries/evt_1/retry"),
        ] {
            assert_eq!(spelled(uri.to_owned()).await, expected, "{uri}");
        }
        assert_eq!(
            spelled("/v1/users/%ff/messages".to_owned()).await,
            "/v1/users/%ff/messages"
        );
    }

    proptest! {
        #[test]
        fn different_users_have_different_request_targets(one in "[+%a/é2B ]{1,4}", other in "[+%a/é2B ]{1,4}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let uri = |user: &str| format!("/v1/users/{}/messages", links::segment(user));

            let spelled = runtime.block_on(async { (spelled(uri(&one)).await, spelled(uri(&other)).await) });

            prop_assert_eq!(&spelled.0, &uri(&one));
            prop_assert_eq!(spelled.0 == spelled.1, one == other);
        }
    }

    fn answer(key_outcome: KeyOutcome) -> Option<StoredResponse> {
        match key_outcome {
            KeyOutcome::Answered(answer) => Some(answer),
            KeyOutcome::Free | KeyOutcome::Unknown => None,
        }
    }

    #[tokio::test]
    async fn a_problem_is_stored_only_if_the_request_may_have_taken_effect() {
        for &code in Code::ALL {
            let problem = Problem::new(code, "A detail.").into_response();

            let finished = finish(problem, "abc").await;

            let unsure = ["internal-error", "cloud-outcome-unknown"].contains(&code.as_str());
            assert_eq!(finished.outcome.status().as_u16(), code.status());
            let stored = answer(finished.key_outcome);
            assert_eq!(stored.is_some(), unsure, "{}", code.as_str());
            if let Some(stored) = stored {
                assert_eq!(stored.status, code.status());
                assert!(
                    stored.body.contains(r#""request_id":"abc""#),
                    "{}",
                    stored.body
                );
            }
        }
    }

    #[tokio::test]
    async fn an_unsettled_outcome_stores_no_response_and_keeps_the_claim() {
        let open = bridge::Error::OutOfTime { is_sent: true }.unsettled();
        let problem = Problem::from(open);
        assert_eq!(problem.code(), Code::CloudOutcomeUnknown);

        let finished = finish(problem.into_response(), "abc").await;

        assert!(
            matches!(finished.key_outcome, KeyOutcome::Unknown),
            "{:?}",
            finished.key_outcome
        );
    }

    #[tokio::test]
    async fn a_success_is_both_sent_and_stored_with_its_headers() {
        let accepted = (StatusCode::ACCEPTED, [("location", "/v1/messages/a")], "{}");

        let finished = finish(accepted.into_response(), "abc").await;

        let stored = replay(answer(finished.key_outcome).unwrap());
        assert_eq!(stored.headers()["idempotency-replayed"], "true");
        for response in [stored, finished.outcome] {
            assert_eq!(response.status(), StatusCode::ACCEPTED);
            assert_eq!(response.headers()["location"], "/v1/messages/a");
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!(body, "{}");
        }
    }
}
