use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio_util::bytes::Bytes;

use super::*;
use crate::http::header::{HeaderMap, HeaderValue, RETRY_AFTER};

const ID: &str = "0197c1f0-0000-7000-8000-000000000002";
const PROFILE_ID: &str = "0197c1f0-0000-7000-8000-000000000001";

fn now() -> DateTime<Utc> {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.into(),
    }
}

/// Reads the body of an answer, whatever it contains.
fn outcome(
    answer: &Answer,
    id: &str,
    before: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Value, Error> {
    super::outcome(answer, id, before, Subject::Conversation, now)
}

/// Returns the error of an answer to a request about this subject.
fn error_of(subject: Subject, status: u16, body: impl Into<Bytes>) -> Error {
    let outcome = super::outcome::<Value>(&answer(status, body), ID, None, subject, now());
    outcome.unwrap_err()
}

/// Returns a part that fails with this code and this error text.
fn failed(code: &Value, msg: &str) -> String {
    json!({"code": code, "body": {"msg": msg}, "reqId": ID}).to_string()
}

fn of(status: u16, body: &Value) -> Result<Value, Error> {
    outcome(
        &answer(status, body.to_string()),
        ID,
        Some(PROFILE_ID),
        now(),
    )
}

fn of_text(status: u16, body: &'static str) -> Error {
    outcome(&answer(status, body), ID, None, now()).unwrap_err()
}

fn is_refused(error: &Error, expected: u16, expected_code: Option<&str>) -> bool {
    matches!(error, Error::Refused { status, code, .. } if *status == expected && code.as_deref() == expected_code)
}

#[test]
fn a_code_is_text_or_a_number() {
    for code in [json!("OK"), json!("ok"), json!(200), json!("200")] {
        let body = of(
            200,
            &json!({"code": code, "body": {"sequence": 7}, "reqId": ID}),
        );
        assert_eq!(body.unwrap(), json!({"sequence": 7}), "{code}");
    }
    for code in [json!("BAD_REQUEST"), json!(400), json!("400")] {
        let error = of(200, &json!({"code": code, "body": {}, "reqId": ID})).unwrap_err();
        assert!(
            matches!(error, Error::Refused { status: 400, .. }),
            "{code}: {error:?}"
        );
    }
}

#[test]
fn a_req_id_is_text_or_a_number_and_may_hold_a_comma() {
    for (id, req_id) in [("3", json!(3)), ("3", json!("3")), ("1,", json!("1,"))] {
        let body = json!([{"code": "BAD_REQUEST", "reqId": "other"}, {"code": "OK", "body": 1, "reqId": req_id}]);
        let body = outcome(&answer(200, body.to_string()), id, None, now());
        assert_eq!(body.unwrap(), json!(1), "{id}");
    }
}

#[test]
fn a_part_is_found_by_its_id_and_not_by_its_position() {
    let parts = json!([
        {"code": "OK", "body": {"conversationId": "CONV"}, "reqId": ID},
        {"code": "OK", "body": {"msg": "OK User Profile set successfully"}, "reqId": PROFILE_ID}]);

    assert_eq!(of(200, &parts).unwrap()["conversationId"], "CONV");
}

#[test]
fn a_response_to_another_request_is_not_accepted() {
    let foreign = json!({"code": "OK", "body": {"sequence": 1}, "reqId": "another"});
    let refusal = json!({"code": "BAD_REQUEST", "body": {}, "reqId": "another"});

    for body in [foreign, refusal] {
        let error = of(200, &body).unwrap_err();
        assert!(
            matches!(error, Error::Undecodable { status: 200 }),
            "{error:?}"
        );
    }
}

#[test]
fn a_single_response_to_a_single_request_may_have_any_id() {
    let lone = json!({"code": "OK", "body": {"sequence": 1}, "reqId": "another"});
    let alone = |body: &Value| outcome(&answer(200, body.to_string()), ID, None, now());

    assert_eq!(alone(&lone).unwrap()["sequence"], 1);
    assert!(matches!(
        alone(&json!([lone, lone])),
        Err(Error::Undecodable { .. })
    ));
}

#[test]
fn a_response_without_ids_is_accepted_only_if_unambiguous() {
    let lone = json!({"code": "OK", "body": {"sequence": 1}});
    assert!(of(200, &lone).is_ok());
    let several = json!([lone, lone]);
    assert!(matches!(of(200, &several), Err(Error::Undecodable { .. })));
}

#[test]
fn an_already_open_conversation_is_recognized_under_any_status() {
    let parts = json!([
        {"code": "OK", "body": {"msg": "OK User Profile set successfully"}, "reqId": PROFILE_ID},
        {"code": "BAD_REQUEST", "reqId": ID, "body": {"msg":
            "Consumer request conversation failed: User CONS already has open conversation. Can't open another one."}}]);

    for status in [200, 400] {
        let error = error_of(Subject::Opening, status, parts.to_string());
        assert!(matches!(error, Error::AlreadyOpen), "{status}");
    }
    for (status, code, msg) in [
        (400, "BAD_REQUEST", "Conversation already exists"),
        (
            400,
            "BAD_REQUEST",
            "A conversation is already open for this consumer",
        ),
        (409, "CONFLICT", "no"),
    ] {
        let body = failed(&code.into(), msg);
        let error = error_of(Subject::Opening, status, body.clone());
        assert!(matches!(error, Error::AlreadyOpen), "{msg}");
        let elsewhere = error_of(Subject::Conversation, status, body);
        assert!(matches!(elsewhere, Error::Refused { .. }), "{msg}");
    }
}

#[test]
fn a_closed_conversation_is_recognized_under_any_status_and_case() {
    for status in [200, 400] {
        for msg in [
            "Bad Request, Conversation is close",
            "CONVERSATION IS CLOSED",
        ] {
            let error = of(
                status,
                &json!({"code": "BAD_REQUEST", "body": {"msg": msg}, "reqId": ID}),
            );
            assert!(
                matches!(error, Err(Error::ConversationClosed)),
                "{status} {msg}"
            );
        }
    }
}

#[test]
fn a_conversation_counts_as_closed_in_any_wording_or_if_unknown() {
    let closed = |error: &Error| matches!(error, Error::ConversationClosed);
    for msg in [
        "Bad Request, Dialog is close",
        "Conversation already closed",
        "conversation was closed by AGENT",
        "The conversation is not open",
        "Conversation not found",
        "No such dialog",
        "The dialog does not exist",
        "This conversation has ended",
    ] {
        for (status, code) in [
            (200, "BAD_REQUEST"),
            (400, "BAD_REQUEST"),
            (500, "INTERNAL_SERVER_ERROR"),
        ] {
            let body = failed(&code.into(), msg);
            let error = error_of(Subject::Conversation, status, body.clone());
            assert!(closed(&error), "{status} {msg}: {error:?}");
            // In the answer to a request that names no conversation, or another one, these words
            // prove nothing.
            let error = error_of(Subject::Other, status, body);
            assert!(!closed(&error), "{status} {msg}: {error:?}");
        }
    }
    for code in [json!(404), json!("NOT_FOUND"), json!(410), json!("GONE")] {
        for status in [200, 404] {
            let error = error_of(Subject::Conversation, status, failed(&code, "no"));
            assert!(closed(&error), "{code}: {error:?}");
            let error = error_of(Subject::Other, status, failed(&code, "no"));
            assert!(matches!(error, Error::Refused { .. }), "{code}: {error:?}");
        }
    }
    let foreign = r#"{"message": "Conversation not found"}"#;
    assert!(closed(&error_of(Subject::Conversation, 404, foreign)));
    for (status, body) in [(404, ""), (404, "<html>conversation not found</html>")] {
        let error = error_of(Subject::Conversation, status, body);
        assert!(matches!(error, Error::Blocked { status: 404 }), "{error:?}");
    }
    let unrelated = failed(&json!("BAD_REQUEST"), "skill 7 is closed");
    assert!(!closed(&error_of(Subject::Conversation, 400, unrelated)));
}

#[test]
fn a_refused_profile_is_the_reason_for_a_missing_conversation() {
    let parts =
        json!([{"code": "BAD_REQUEST", "body": {"msg": "bad profile"}, "reqId": PROFILE_ID}]);

    for status in [200, 400] {
        let error = of(status, &parts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the Cloud refused the request (status 400): bad profile"
        );
    }
}

#[test]
fn a_refused_token_is_recognized_by_its_error_code() {
    let refused = |error_code: Value| {
        of(
            401,
            &json!({"kind": "resp", "code": 401, "type": ".ReqBody$ErrorResp",
                "body": {"title": "Invalid token", "details": "It is invalid", "errorCode": error_code}}),
        )
        .unwrap_err()
    };

    assert!(matches!(refused(json!(40102)), Error::AppTokenRefused));
    assert!(matches!(refused(json!("40102")), Error::AppTokenRefused));
    assert!(matches!(refused(json!(40103)), Error::ConsumerTokenRefused));
    assert!(matches!(
        refused(json!("40103")),
        Error::ConsumerTokenRefused
    ));
}

#[test]
fn codes_40104_and_40105_are_treated_alike() {
    for error_code in [40104, 40105] {
        let error = of(
            401,
            &json!({"code": 401, "body": {"title": "missing", "errorCode": error_code}}),
        );
        let error = error.unwrap_err();
        assert!(!error.is_transient() && error.may_be_consumer_token());
        let error = error.after_token_renewal();
        assert!(
            is_refused(&error, 401, Some(&error_code.to_string())),
            "{error:?}"
        );
    }
}

#[test]
fn a_401_naming_no_token_is_a_refusal_only_under_new_tokens() {
    let body = json!({"code": "UNAUTHORIZED", "body": {"msg": "no"}, "reqId": ID});
    let error = of(401, &body).unwrap_err();
    assert!(error.may_be_consumer_token() && !error.is_transient());
    assert!(is_refused(
        &error.after_token_renewal(),
        401,
        Some("UNAUTHORIZED")
    ));

    for bare in ["", "<html>", r#"{"error":"Unauthorized"}"#] {
        let error = of_text(401, bare);
        assert!(error.may_be_consumer_token(), "{bare}");
        let error = error.after_token_renewal();
        assert!(
            matches!(
                error,
                Error::Unauthorized {
                    is_from_gateway: true,
                    ..
                }
            ),
            "{bare}: {error:?}"
        );
    }
}

#[test]
fn a_response_of_a_gateway_is_classified_by_its_status() {
    for body in [
        "<html><body>Oops</body></html>",
        "upstream error",
        "",
        "[]",
        "null",
        "7",
    ] {
        assert!(
            matches!(of_text(200, body), Error::Undecodable { status: 200 }),
            "{body}"
        );
        assert!(
            matches!(of_text(429, body), Error::Throttled { .. }),
            "{body}"
        );
        assert!(
            matches!(of_text(408, body), Error::Unavailable { status: 408, .. }),
            "{body}"
        );
        assert!(
            matches!(of_text(503, body), Error::Unavailable { status: 503, .. }),
            "{body}"
        );
        for status in [301, 302, 307, 403, 404, 405, 407, 451] {
            let error = of_text(status, body);
            assert!(
                matches!(error, Error::Blocked { status: of } if of == status),
                "{status} {body}: {error:?}"
            );
            assert!(error.is_transient() && !error.outcome_unknown());
        }
        for status in [413, 414, 431] {
            assert!(is_refused(&of_text(status, body), status, None), "{body}");
        }
    }
    for status in [400, 422] {
        assert!(is_refused(&of_text(status, ""), status, None));
        let page = of_text(status, "\u{feff} <!DOCTYPE html>");
        assert!(matches!(page, Error::Blocked { .. }), "{page:?}");
    }
    let refused = of(403, &json!({"code": "FORBIDDEN", "reqId": ID}));
    assert!(is_refused(&refused.unwrap_err(), 403, Some("FORBIDDEN")));
}

#[test]
fn an_answer_may_begin_with_a_byte_order_mark() {
    let body = format!("\u{feff}{}", json!({"code": "OK", "body": 7, "reqId": ID}));

    let read = outcome(&answer(200, body), ID, None, now());

    assert_eq!(read.unwrap(), json!(7));
}

#[test]
fn a_part_can_be_throttled_or_unavailable_under_status_200() {
    let error = |code: Value| of(200, &json!({"code": code, "reqId": ID})).unwrap_err();

    assert!(matches!(
        error(json!("TOO_MANY_REQUESTS")),
        Error::Throttled { .. }
    ));
    assert!(matches!(error(json!(429)), Error::Throttled { .. }));
    assert!(matches!(
        error(json!("INTERNAL_SERVER_ERROR")),
        Error::Unavailable { status: 500, .. }
    ));
    assert!(is_refused(&error(json!("FAILED")), 200, Some("FAILED")));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let wait = |value: &'static str| {
        let mut answer = answer(503, "");
        answer
            .headers
            .insert(RETRY_AFTER, HeaderValue::from_static(value));
        outcome(&answer, ID, None, now()).unwrap_err().retry_after()
    };

    assert_eq!(wait("7"), Some(Duration::from_secs(7)));
    assert_eq!(
        wait("Sun, 22 Nov 2026 08:00:30 GMT"),
        Some(Duration::from_secs(30))
    );
    assert_eq!(wait("Sun, 22 Nov 2026 07:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(wait("soon"), None);
    assert_eq!(wait("-1"), None);
}

#[test]
fn an_error_text_of_the_cloud_becomes_one_bounded_line() {
    let long = format!("first\r\nsecond \u{202e}{}", "é".repeat(500));
    let error = of(
        400,
        &json!({"code": "BAD_REQUEST", "body": long, "reqId": ID}),
    )
    .unwrap_err();

    let Error::Refused { title, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(title.chars().count(), MAX_TITLE_CHARS);
    // Characters that change the direction of text are escaped.
    assert!(title.starts_with("first  second \\u{202e}é"), "{title}");
}

#[test]
fn only_an_answer_that_may_hide_a_success_leaves_the_outcome_unknown() {
    assert!(of_text(200, "<html>").outcome_unknown());
    assert!(of_text(502, "").outcome_unknown());
    assert!(of_text(504, "").outcome_unknown());
    for status in [302, 400, 401, 404, 429, 500, 503] {
        assert!(!of_text(status, "").outcome_unknown(), "{status}");
    }
}

/// Generates any JSON, in which the members that matter are frequent.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!(ID)),
        Just(json!("OK")),
        Just(json!(40102)),
    ];
    let name = prop_oneof![
        Just("code".to_owned()),
        Just("body".to_owned()),
        Just("reqId".to_owned()),
        Just("errorCode".to_owned()),
        Just("msg".to_owned()),
        ".{0,4}",
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_the_classifier_panic(body in any_json(), status in 200_u16..600) {
        let answer = answer(status, body.to_string());
        let outcome = outcome(&answer, ID, Some(PROFILE_ID), now());
        let _refusal = refusal_of(&answer, ID, now());
        let _decoded = decode::<Value>(&answer, now());
        if let Err(Error::Refused { title, .. }) = outcome {
            prop_assert!(!title.chars().any(crate::telemetry::log::is_escaped));
        }
    }

    #[test]
    fn no_bytes_make_the_classifier_panic(
        body in prop::collection::vec(any::<u8>(), 0..256),
        retry_after in "[ -~]{0,32}",
        status in 200_u16..600,
    ) {
        let mut answer = answer(status, body);
        answer.headers.insert(RETRY_AFTER, HeaderValue::from_str(&retry_after).unwrap());
        let outcome = outcome(&answer, ID, None, now());
        prop_assert!(status < 300 || outcome.is_err());
    }
}

#[test]
fn the_fast_path_reads_a_response_like_the_general_rules() {
    for part in [
        json!({"reqId": ID, "code": "OK", "body": {"sequence": 3}}),
        json!({"reqId": ID, "code": "ok", "body": {"sequence": 3, "errorCode": 40102}}),
        json!({"reqId": ID, "code": "200", "body": null}),
        json!({"reqId": ID, "code": 200, "body": {"sequence": 3}}),
        json!({"reqId": ID, "code": "OK"}),
        json!({"reqId": ID, "code": "BAD_REQUEST", "body": {"sequence": 3}}),
        json!({"reqId": ID, "body": {"sequence": 3}}),
        json!({"reqId": 7, "code": "OK", "body": {"sequence": 3}}),
        json!({"reqId": "7", "code": "OK", "body": {"sequence": 3}}),
        json!({"reqId": "7", "code": "BAD_REQUEST", "body": {"sequence": 3}}),
    ] {
        for (status, before) in [(200, None), (500, None), (200, Some(PROFILE_ID))] {
            let read = |body: String| {
                let outcome = outcome(&answer(status, body), ID, before, now());
                outcome.map_err(|error| error.to_string())
            };

            let alone = read(part.to_string());
            let in_a_list = read(json!([part]).to_string());

            assert_eq!(alone, in_a_list, "{status} {before:?} {part}");
        }
    }
}
