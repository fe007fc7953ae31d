//! Pages of lists: how many at a time, and where the next one goes on. A cursor is opaque to callers, and read with suspicion.

use super::problem::Problem;
use crate::decision::value;
use crate::flow::read::PAGE_ENTRIES_MAX;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

pub const LIMIT_DEFAULT: usize = 100;

/// Reads `limit` of a query, and names it where it is no number: an error of a query string does not say where it is.
pub fn read_limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    let is_whole = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(limit) if is_whole(&text) => Ok(Some(limit)),
        // -1 and what no integer of ours can be are whole numbers all the same.
        _ if is_whole(text.strip_prefix('-').unwrap_or(&text)) => {
            Err(value::unacceptable(format_args!("limit must be from 1 to {PAGE_ENTRIES_MAX}")))
        }
        _ => Err(D::Error::custom("limit must be an integer")),
    }
}

/// How many a page has, 1 to 500.
pub fn limit(given: Option<usize>) -> Result<usize, Problem> {
    let limit = given.unwrap_or(LIMIT_DEFAULT);
    if (1..=PAGE_ENTRIES_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::unacceptable("/limit", format!("must be from 1 to {PAGE_ENTRIES_MAX}")))
}

/// A cursor for the place that `place` describes.
pub fn cursor(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The place that a cursor means, if `read` understands it.
pub fn place<T>(cursor: Option<&str>, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let place = text.as_deref().and_then(read);
    place
        .map(Some)
        .ok_or_else(|| Problem::unacceptable("/cursor", "is not a next_cursor of this list; start again without it"))
}

/// Cuts what was read to the page, and tells where the next one goes on; one more was read than the page has.
pub fn cut<T>(items: &mut Vec<T>, limit: usize, place: impl FnOnce(&T) -> String) -> Option<String> {
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more).map(|last| cursor(&place(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_and_its_cursor_leads_on() {
        let mut items = vec!["a", "b", "c"];
        let next = cut(&mut items, 2, |last| last.to_string());
        assert_eq!(items, ["a", "b"]);
        let place = place(next.as_deref(), |text| Some(text.to_owned())).expect("a cursor");
        assert_eq!(place.as_deref(), Some("b"));
        assert_eq!(cut(&mut items, 2, |last| last.to_string()), None);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for bad in ["!", "YQ==", "_w", ""] {
            assert!(place(Some(bad), |text| (text == "a").then_some(())).is_err(), "{bad:?}");
        }
    }
}
