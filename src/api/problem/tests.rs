//! What is sent, what is not, and that codes stay what programs rely on.

use super::*;
use actix_web::body::MessageBody;
use actix_web::test::TestRequest;
use serde_json::Value;
use std::collections::HashSet;

fn sent(problem: &Problem) -> (HttpResponse, Value) {
    let response = problem.response(&TestRequest::get().to_http_request());
    let (response, body) = response.into_parts();
    let bytes = body.try_into_bytes().unwrap_or_else(|_| panic!("the body is there at once"));
    (response.set_body(BoxBody::new(())), serde_json::from_slice(&bytes).expect("JSON"))
}

fn header<'a>(response: &'a HttpResponse, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[test]
fn codes_are_distinct_words_of_errors_and_each_is_explained() {
    let distinct: HashSet<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(distinct.len(), ProblemCode::ALL.len());
    let table = codes_as_markdown();
    for code in ProblemCode::ALL {
        assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code:?}");
        assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        assert!(code.meaning().ends_with('.'), "{code:?}");
        assert!(
            table.contains(&format!("| {} | `{}` |", code.status().as_u16(), code.as_str())),
            "{code:?}"
        );
    }
}

#[test]
fn each_refusal_has_its_status_and_headers() {
    for (problem, status, code, name, value) in [
        (
            Problem::malformed("/a", "is required"),
            400,
            "malformed",
            "content-type",
            "application/problem+json",
        ),
        (Problem::unauthorized(None), 401, "unauthorized", "www-authenticate", "Bearer"),
        (
            Problem::insufficient_scope("read or portal"),
            403,
            "insufficient_scope",
            "www-authenticate",
            "Bearer error=\"insufficient_scope\", scope=\"read portal\"",
        ),
        (Problem::not_found(), 404, "not_found", "content-type", "application/problem+json"),
        (
            Problem::method_not_allowed("GET, PUT"),
            405,
            "method_not_allowed",
            "allow",
            "GET, PUT",
        ),
        (
            Problem::too_large(10),
            413,
            "body_too_large",
            "content-type",
            "application/problem+json",
        ),
        (
            Problem::unsupported_media(&["application/json"]),
            415,
            "unsupported_media_type",
            "accept",
            "application/json",
        ),
        (
            Problem::unsupported_encoding(),
            415,
            "unsupported_media_type",
            "accept-encoding",
            "identity",
        ),
        (Problem::too_many_requests(7), 429, "too_many_requests", "retry-after", "7"),
        (Problem::store_unavailable(1), 503, "store_unavailable", "retry-after", "1"),
        (Problem::overloaded(), 503, "overloaded", "retry-after", "1"),
    ] {
        let (response, body) = sent(&problem);
        assert_eq!(
            (response.status().as_u16(), &body["status"], &body["code"]),
            (status, &status.into(), &code.into())
        );
        assert_eq!(header(&response, name), Some(value), "{code}");
        assert_eq!(
            (&body["type"], body["title"].as_str()),
            (&"about:blank".into(), response.status().canonical_reason())
        );
        assert!(
            body["detail"].as_str().is_some_and(|detail| detail.len() > 10) && body["errors"].is_array(),
            "{body}"
        );
    }
}

#[test]
fn places_are_told_in_errors_and_in_the_sentence() {
    let (_, body) = sent(&Problem::unacceptable("/hold_seconds", "must be from 1 to 604800").under("/requests/3"));
    assert_eq!(
        body["errors"],
        serde_json::json!([{"pointer": "/requests/3/hold_seconds", "detail": "must be from 1 to 604800"}])
    );
    assert_eq!(
        body["detail"],
        "The value at /requests/3/hold_seconds cannot be accepted: must be from 1 to 604800."
    );
    let (_, body) = sent(&Problem::malformed("/modle", "is not a member here; did you mean model?"));
    assert_eq!(
        body["detail"],
        "The request has the wrong shape at /modle: is not a member here; did you mean model?"
    );
}

#[test]
fn a_cause_is_never_sent_however_the_problem_is_answered() {
    let problem = Problem::internal().because("password=planted");
    let (_, body) = sent(&problem);
    let response = problem.error_response();
    assert_eq!(response.status().as_u16(), 500);
    let plain = response
        .into_body()
        .try_into_bytes()
        .unwrap_or_else(|_| panic!("the body is there at once"));
    for text in [body.to_string(), String::from_utf8_lossy(&plain).into_owned(), problem.to_string()] {
        assert!(!text.contains("planted") && text.contains("internal"), "{text}");
    }
}

#[test]
fn text_that_no_header_can_carry_is_left_out_of_headers() {
    let (response, _) = sent(&Problem::method_not_allowed("GET\r\nSet-Cookie: a=b"));
    assert_eq!(header(&response, "allow"), None);
    assert_eq!(header(&response, "set-cookie"), None);
}
