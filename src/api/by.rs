//! In whose name a call changes something: the credential's `sub`, the reason that the caller gives, and the request id. It goes into the
//! audit log, so nothing gets in that could pass for another line of it, or cannot be seen.

use super::call::Call;
use super::problem::Problem;
use super::request_id;
use crate::flow::audit::By;
use utoipa::Modify;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Required};

/// Why a change is made, for the audit log. Any request that changes something may have it.
pub const REASON_HEADER: &str = "x-weir-reason";
pub const REASON_CHARS_MAX: usize = 500;
/// The most characters of an actor that are kept.
const ACTOR_CHARS_MAX: usize = 255;

impl Call {
    /// Who calls, with the reason of `X-Weir-Reason`.
    pub fn by(&self) -> Result<By, Problem> {
        let mut given = self.request.headers().get_all(REASON_HEADER);
        let reason = given.next().map(|value| value.as_bytes()).unwrap_or_default();
        if given.next().is_some() {
            return Err(Problem::unacceptable_header("X-Weir-Reason", "may be sent once"));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Problem::unacceptable_header("X-Weir-Reason", "must be UTF-8"))?;
        let reason = reason.trim();
        check_reason(reason).map_err(|why| Problem::unacceptable_header("X-Weir-Reason", why))?;
        Ok(self.by_reason(reason))
    }

    /// Who calls, with a reason that the body gives and that was checked.
    pub fn by_reason(&self, reason: &str) -> By {
        By {
            actor: printable(&self.identity.subject),
            reason: reason.to_owned(),
            request_id: request_id::of(&self.request),
        }
    }
}

/// For the API's document: whatever changes something below `/v1/admin/` takes a reason, and so does a purge of the cache.
pub struct Reasons;

impl Modify for Reasons {
    fn modify(&self, document: &mut OpenApi) {
        let is_audited = |path: &str| path.starts_with("/v1/admin/") || path == "/v1/cache";
        let below = document.paths.paths.iter_mut().filter(|(path, _)| is_audited(path));
        for (_, item) in below {
            let changes = [&mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for operation in changes.into_iter().flatten() {
                let text = ObjectBuilder::new().schema_type(Type::String);
                let reason = ParameterBuilder::new()
                    .name("X-Weir-Reason")
                    .parameter_in(ParameterIn::Header)
                    .required(Required::False)
                    .description(Some("Why, for the audit log: one line of visible text, at most 500 characters."))
                    .schema(Some(text))
                    .build();
                operation.parameters.get_or_insert_default().push(reason.into());
            }
        }
    }
}

/// What keeps a text from being a reason.
pub fn check_reason(text: &str) -> Result<(), String> {
    if text.chars().count() > REASON_CHARS_MAX {
        return Err(format!("may have at most {REASON_CHARS_MAX} characters"));
    }
    if text.chars().any(is_invisible) {
        return Err("must be one line of visible text".to_owned());
    }
    Ok(())
}

/// A subject is whatever its issuer says: what cannot be seen is replaced, what is very long is cut.
fn printable(subject: &str) -> String {
    let seen = subject
        .chars()
        .map(|c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c });
    seen.take(ACTOR_CHARS_MAX).collect()
}

/// Control characters, other line ends, and what Unicode has to change the direction or hide among other text.
pub(super) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_can_be_seen() {
        for good in [
            "",
            "ticket 4711: raise until Friday",
            "Größe geändert – auf Wunsch",
            "値上げ",
            &"x".repeat(500),
        ] {
            assert_eq!(check_reason(good), Ok(()), "{good:?}");
        }
        for bad in [
            "a\nb",
            "a\rb",
            "a\tb",
            "a\0b",
            "a\u{1b}[2Jb",
            "a\u{202e}b",
            "a\u{2028}b",
            "a\u{200b}b",
            &"ä".repeat(501),
        ] {
            assert!(check_reason(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_actor_is_shown_on_one_line() {
        for (subject, shown) in [
            ("usr_1", "usr_1"),
            ("a\nadmin did it", "a\u{fffd}admin did it"),
            ("a\0", "a\u{fffd}"),
        ] {
            assert_eq!(printable(subject), shown);
        }
        assert_eq!(printable(&"x".repeat(9_000)).len(), 255);
    }
}
