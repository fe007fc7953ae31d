//! Which bodies are read at all: JSON in UTF-8, neither compressed nor of another type.

use crate::api::problem::Problem;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Refuses a body that does not say it is JSON.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let accepted: &[&str] = if method == Method::PATCH { &[MERGE_PATCH, JSON] } else { &[JSON] };
    match only(headers, CONTENT_TYPE) {
        Some(given) if accepted.iter().any(|media| is_media(given, media)) => Ok(()),
        _ => Err(Problem::unsupported_media(accepted)),
    }
}

pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(CONTENT_ENCODING)
        || only(headers, CONTENT_ENCODING).is_some_and(|given| given.eq_ignore_ascii_case("identity"))
    {
        return Ok(());
    }
    Err(Problem::unsupported_encoding())
}

/// The header, if it is there once and is text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name);
    let (value, None) = (all.next()?, all.next()) else { return None };
    value.to_str().ok()
}

/// Whether `given` is `media`, in UTF-8 if it names a charset. Other parameters say nothing about how to read it.
fn is_media(given: &str, media: &str) -> bool {
    let mut parts = given.split(';').map(str::trim);
    if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(media)) {
        return false;
    }
    parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_says_so_in_utf_8() {
        for (given, is_json) in [
            ("application/json", true),
            ("Application/JSON", true),
            ("application/json; charset=utf-8", true),
            ("application/json;charset=\"UTF-8\"", true),
            ("application/json; profile=\"https://x/y\"", true),
            ("application/json; charset=latin1", false),
            ("application/json; charset=utf-16", false),
            ("application/jsonx", false),
            ("application/ld+json", false),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            assert_eq!(is_media(given, JSON), is_json, "{given}");
        }
    }
}
