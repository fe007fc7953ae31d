//! Bodies that must be read, and bodies that must be refused, with the place that is named.

use super::*;
use crate::decision::amount::{Count, Ratio};
use crate::decision::id::{Feature, WorkspaceId};
use crate::decision::money::Usd;
use actix_web::test::TestRequest;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Order {
    workspace_id: Option<WorkspaceId>,
    feature: Feature,
    input_tokens: Option<Count>,
    cost: Option<Usd>,
    share: Option<Ratio>,
    mode: Option<Mode>,
    seats: Option<u32>,
    weight: Option<f64>,
    wait: Option<bool>,
    usage: Option<OpenObject>,
    cache: Option<Cache>,
    providers: Option<Vec<Feature>>,
    overrides: Option<BTreeMap<String, Count>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Interactive,
    Batch,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Cache {
    prompt: String,
    params: Option<OpenObject>,
}

/// What a refused body is answered: status, pointer, and a part of the detail.
fn refused(body: &[u8]) -> (u16, String, String) {
    let problem = read_body::<Order>(body).expect_err(&format!("{:?} was read", String::from_utf8_lossy(body)));
    let first = problem.errors().first().expect("each problem of a body names a place").clone();
    (problem.status().as_u16(), first.pointer, first.detail)
}

fn check_refused(body: &[u8], status: u16, pointer: &str, detail: &str) {
    let (found, at, says) = refused(body);
    let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    assert_eq!((found, at.as_str()), (status, pointer), "{shown}: {says}");
    assert!(says.contains(detail), "{shown}: {says:?} does not say {detail:?}");
}

#[test]
fn a_plain_body_is_read() {
    let order: Order =
        read_body(br#" {"feature":"chat","input_tokens":4521,"cost":"0.01","share":0.3,"usage":{"a":[1,{"b":null}]}} "#).expect("valid");
    assert_eq!(order.feature.as_str(), "chat");
    assert_eq!(order.input_tokens.map(Count::get), Some(4521));
    assert_eq!(order.usage.expect("given")["a"][1]["b"], Value::Null);
}

#[test]
fn what_is_not_json_is_told_so() {
    let deep = format!(r#"{{"feature":"a","usage":{{"a":{}{}}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let huge_name = format!(r#"{{"{}":1}}"#, "x".repeat(1 << 20));
    for (body, pointer, detail) in [
        (&b""[..], "", "a JSON body is required"),
        (b"  \n", "", "a JSON body is required"),
        (b"{", "", "not JSON"),
        (b"null", "", "must be an object, not null"),
        (b"[]", "", "must be an object, not an array"),
        (b"\"x\"", "", "must be an object, not a string"),
        (b"{\"feature\":\"a\"} x", "", "not JSON: trailing characters"),
        (b"{\"feature\":\"a\"}{}", "", "not JSON: trailing characters"),
        (b"{\"feature\":\"a\",}", "", "not JSON"),
        (b"{'feature':'a'}", "", "not JSON"),
        (b"{feature:1}", "", "not JSON"),
        (b"\xef\xbb\xbf{\"feature\":\"a\"}", "", "not JSON"),
        (b"{\"feature\":\"\xff\"}", "", "not UTF-8: byte 12"),
        (b"{\"feature\":\"\xc0\x80\"}", "", "not UTF-8"),
        (b"{\"feature\":\"\xed\xa0\x80\"}", "", "not UTF-8"),
        (b"{\"feature\":\"a\0\"}", "", "not JSON: control character"),
        (b"{\"feature\":\"a\"}\0", "", "not JSON: trailing characters"),
        (b"{\"feature\":\"a\nb\"}", "", "not JSON: control character"),
        (br#"{"feature":"\ud800"}"#, "", "not JSON"),
        (br#"{"usage":{"a":"\udc00"},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"\ud800":1},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":1e400},"feature":"a"}"#, "", "not JSON: number out of range"),
        (br#"{"usage":{"a":NaN},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":01},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":+1},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":.5},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":0x1},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":tru},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":1/*c*/},"feature":"a"}"#, "", "not JSON"),
        (br#"{"usage":{"a":"\x41"},"feature":"a"}"#, "", "not JSON"),
        (deep.as_bytes(), "", "64 deep"),
        ("[".repeat(10_000_000).as_bytes(), "", "64 deep"),
        (huge_name.as_bytes(), &format!("/{}…", "x".repeat(299)), "is not a member"),
    ] {
        check_refused(body, 400, pointer, detail);
    }
}

#[test]
fn the_wrong_shape_is_400_and_names_the_place() {
    for (body, pointer, detail) in [
        (r#"{"feature":"a","feature":"b"}"#, "/feature", "twice"),
        (r#"{"feature":"a","usage":{"x":1,"y":{"z":1,"z":2}}}"#, "/usage/y/z", "twice"),
        (
            r#"{"feature":"a","cache":{"prompt":"p","params":{"t":1,"\u0074":2}}}"#,
            "/cache/params/t",
            "twice",
        ),
        (r#"{"feature":"a","overrides":{"b":1,"b":2}}"#, "/overrides/b", "twice"),
        (r#"{}"#, "/feature", "is required"),
        (r#"{"feature":"a","cache":{}}"#, "/cache/prompt", "is required"),
        (r#"{"featur":"a"}"#, "/featur", "did you mean feature?"),
        (
            r#"{"feature":"a","workspaceId":"ws"}"#,
            "/workspaceId",
            "did you mean workspace_id?",
        ),
        (r#"{"feature":"a","role":"admin"}"#, "/role", "it may be workspace_id, feature, "),
        (
            r#"{"feature":"a","cache":{"prompt":"p","parms":{}}}"#,
            "/cache/parms",
            "did you mean params?",
        ),
        (
            r#"{"feature":"a","cache":{"prompt":"p","a/b~c`d":1}}"#,
            "/cache/a~1b~0c`d",
            "it may be prompt, params",
        ),
        (r#"{"feature":null}"#, "/feature", "must be a feature as a string, not null"),
        (r#"{"feature":5}"#, "/feature", "must be a feature as a string, not an integer"),
        (
            r#"{"feature":"a","input_tokens":"5"}"#,
            "/input_tokens",
            "as an integer, not a string",
        ),
        (
            r#"{"feature":"a","input_tokens":5.5}"#,
            "/input_tokens",
            "not a number with a fraction or exponent",
        ),
        (
            r#"{"feature":"a","input_tokens":-0}"#,
            "/input_tokens",
            "not a number with a fraction or exponent",
        ),
        (r#"{"feature":"a","input_tokens":true}"#, "/input_tokens", "not a boolean"),
        (r#"{"feature":"a","input_tokens":[1]}"#, "/input_tokens", "not an array"),
        (r#"{"feature":"a","cost":0.01}"#, "/cost", "as a string, not a number"),
        (r#"{"feature":"a","wait":"true"}"#, "/wait", "must be a boolean, not a string"),
        (
            r#"{"feature":"a","seats":1.5}"#,
            "/seats",
            "must be an integer from 0 on that is not too large, not a number",
        ),
        (r#"{"feature":"a","weight":"1"}"#, "/weight", "must be a number, not a string"),
        (r#"{"feature":"a","usage":[]}"#, "/usage", "must be an object, not an array"),
        (r#"{"feature":"a","usage":"{}"}"#, "/usage", "must be an object, not a string"),
        (r#"{"feature":"a","cache":["p"]}"#, "/cache", "must be an object, not an array"),
        (r#"[null,"a"]"#, "", "must be an object, not an array"),
        (r#"{"feature":"a","cache":7}"#, "/cache", "must be an object, not an integer"),
        (
            r#"{"feature":"a","providers":{"0":"x"}}"#,
            "/providers",
            "must be an array, not an object",
        ),
        (r#"{"feature":"a","providers":["x",5]}"#, "/providers/1", "not an integer"),
    ] {
        check_refused(body.as_bytes(), 400, pointer, detail);
    }
}

#[test]
fn the_right_shape_with_an_unacceptable_value_is_422_and_names_the_place() {
    for (body, pointer, detail) in [
        (r#"{"feature":""}"#, "/feature", "must have 1 to 128 characters"),
        (r#"{"feature":"a b"}"#, "/feature", "may only have"),
        (r#"{"feature":"a\u0000b"}"#, "/feature", "may only have"),
        (r#"{"feature":"..","workspace_id":"x"}"#, "/feature", "must not be"),
        (r#"{"feature":"a","input_tokens":-1}"#, "/input_tokens", "from 0 to"),
        (r#"{"feature":"a","input_tokens":68719476737}"#, "/input_tokens", "from 0 to"),
        (
            r#"{"feature":"a","input_tokens":99999999999999999999}"#,
            "/input_tokens",
            "from 0 to",
        ),
        (r#"{"feature":"a","cost":"1.0000000001"}"#, "/cost", ""),
        (r#"{"feature":"a","seats":-1}"#, "/seats", "must be an integer from 0 on"),
        (r#"{"feature":"a","seats":4294967296}"#, "/seats", "must be an integer"),
        (r#"{"feature":"a","mode":"batsh"}"#, "/mode", "did you mean batch?"),
        (
            r#"{"feature":"a","mode":"turbo"}"#,
            "/mode",
            "\"turbo\" is none of the choices; it may be interactive, batch",
        ),
        (r#"{"feature":"a","providers":["x","y","z z"]}"#, "/providers/2", "may only have"),
        (r#"{"feature":"a","overrides":{"q":-1}}"#, "/overrides/q", "from 0 to"),
    ] {
        check_refused(body.as_bytes(), 422, pointer, detail);
    }
}

#[test]
fn a_long_value_is_not_sent_back_in_full() {
    let (_, _, detail) = refused(format!(r#"{{"feature":"a","mode":"{}"}}"#, "m".repeat(100_000)).as_bytes());
    assert!(detail.chars().count() < 700, "{} characters", detail.chars().count());
    let (_, _, detail) = refused(format!(r#"{{"feature":"a","cost":"{}"}}"#, "9".repeat(100_000)).as_bytes());
    assert!(detail.chars().count() < 700, "{} characters", detail.chars().count());
}

#[test]
fn a_part_that_was_read_as_a_value_is_held_to_the_same_rules() {
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert!(from_value::<Order>(value(r#"{"feature":"a","usage":{"x":1}}"#)).is_ok());
    for (text, status, pointer) in [
        (r#"{"feature":"a","rol":1}"#, 400, "/data/rol"),
        (r#"{"feature":"a","input_tokens":-0}"#, 400, "/data/input_tokens"),
        (r#"{"feature":"a","input_tokens":-1}"#, 422, "/data/input_tokens"),
        (r#"{"feature":"a","cache":{"prompt":1}}"#, 400, "/data/cache/prompt"),
        (r#"{}"#, 400, "/data/feature"),
    ] {
        let problem = from_value::<Order>(value(text)).expect_err(text).under("/data");
        assert_eq!(
            (problem.status().as_u16(), problem.errors()[0].pointer.as_str()),
            (status, pointer),
            "{text}"
        );
    }
}

/// Texts of the kinds that RFC 8259 allows, each of which an open object must take as a member.
const VALID: &[&str] = &[
    "[[] ]",
    r#"[""]"#,
    "[]",
    "[null, 1, \"1\", {}]",
    "[false]\n",
    "\t[1]\r\n",
    "[1,null,null,2]",
    "123.456e78",
    "0e+1",
    "0e1",
    " 4",
    "-0.0",
    "-0.000000000000000000000000000000000000000000000000000000000000000000000000000001",
    "20e1",
    "-0",
    "-123",
    "-1",
    "1E22",
    "1E-2",
    "1E+2",
    "123e45",
    "123.456e-7",
    "-1.0e+28",
    "9007199254740993",
    "18446744073709551616",
    r#"{"a":"b","c":"d"}"#,
    "{}",
    r#"{"":0}"#,
    r#"{"a\u0000b": 1}"#,
    "{\n\"a\": \"b\"\n}",
    r#"{"x":[{"id":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}]}"#,
    r#""\u0060\u012a\u12AB""#,
    r#""\ud801\udc37""#,
    r#""\ud83d\ude39\ud83d\udc8d""#,
    r#""\"\\\/\b\f\n\r\t""#,
    r#""\\u0000""#,
    r#""\"""#,
    r#""a/*b*/c/*d//e""#,
    r#""\\a""#,
    r#""\\n""#,
    r#""\u0012""#,
    r#""\uFFFF""#,
    r#""\uDBFF\uDFFF""#,
    r#""new\u00A0line""#,
    "\"\u{10FFFF}\"",
    "\"\u{FFFF}\"",
    r#""\u0000""#,
    "\",\"",
    "\"π\"",
    "\"\u{1BFFF}\"",
    "\" \"",
    "\"\\uD834\\uDd1e\"",
    "\"\\u0821\"",
    "\"\u{2028}\u{2029}\"",
    "\"\u{7f}\"",
    "\"a\u{7f}a\"",
    r#""\u005C""#,
    r#""\u0022""#,
    "\"⍂㈴⍂\"",
    "\"€𝄞\"",
    "false",
    "true",
    "null",
    "42",
    "\"asd\"",
    "\"\"",
    "[true]",
    " [] ",
];

#[test]
fn whatever_is_json_may_stand_in_an_open_object() {
    for text in VALID {
        let read = read_body::<OpenObject>(format!("{{\"member\":{text}}}").as_bytes());
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(
            read.map(|object| object["member"].clone()).map_err(|problem| problem.to_string()),
            Ok(value),
            "{text}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn bytes_of_any_kind_are_refused_or_read_but_never_a_fault(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
        if let Err(problem) = read_body::<Order>(&bytes) {
            proptest::prop_assert!(matches!(problem.status().as_u16(), 400 | 422));
        }
    }

    #[test]
    fn a_broken_valid_body_is_refused_or_read_but_never_a_fault(at in 0usize..200, byte in proptest::num::u8::ANY) {
        let mut body = br#"{"workspace_id":"ws_1","feature":"chat","input_tokens":45,"cost":"0.5","usage":{"a":{"b":[1,2,"\u00e4\n"]}},"cache":{"prompt":"p"}}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        if let Err(problem) = read_body::<Order>(&body) {
            proptest::prop_assert!(matches!(problem.status().as_u16(), 400 | 422));
        }
    }
}

#[test]
fn the_type_of_a_body_must_be_json() {
    let body = br#"{"feature":"a"}"#;
    let status =
        |request: TestRequest| read::<Order>(&request.to_http_request(), body).map_or_else(|problem| problem.status().as_u16(), |_| 200);
    let typed = |kind: &'static str| TestRequest::post().insert_header(("content-type", kind));
    assert_eq!(status(typed("application/json")), 200);
    assert_eq!(status(typed("application/json; charset=utf-8")), 200);
    assert_eq!(status(typed("text/plain")), 415);
    assert_eq!(status(typed("application/merge-patch+json")), 415);
    assert_eq!(
        status(typed("application/merge-patch+json").method(actix_web::http::Method::PATCH)),
        200
    );
    assert_eq!(status(typed("application/json").append_header(("content-type", "text/plain"))), 415);
    assert_eq!(status(TestRequest::post()), 415);
    // Without a body there is nothing whose type could be wrong.
    let empty = read::<Order>(&TestRequest::post().to_http_request(), b"").expect_err("nothing to read");
    assert_eq!(empty.status().as_u16(), 400);
}

#[actix_web::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let request = TestRequest::post().to_http_request();
    let mut nothing: actix_web::dev::Payload = actix_web::dev::Payload::Stream {
        payload: Box::pin(futures_util::stream::pending()),
    };
    let payload = <Payload as actix_web::FromRequest>::from_request(&request, &mut nothing)
        .await
        .expect("a payload");
    let refused = take_in(&request, payload, 10, Duration::from_millis(10))
        .await
        .expect_err("nothing arrives");
    assert_eq!((refused.status().as_u16(), refused.code()), (408, "request_timeout"));
}
