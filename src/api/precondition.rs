//! `If-Match` and `If-None-Match` (RFC 9110, 13.1): which version a caller has seen. Our tags are strong, and each is a version.

use super::call::Call;
use super::problem::Problem;
use crate::flow::expected::{Expected, Versions};
use utoipa::Modify;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, RefOr, Required, ResponseBuilder};

impl Call {
    /// What the headers say of the version that may be replaced.
    pub fn expected(&self) -> Result<Expected, Problem> {
        Ok(Expected {
            one_of: self.versions("If-Match", false)?,
            none_of: self.versions("If-None-Match", true)?,
        })
    }

    /// Whether the caller has this version already.
    pub fn has(&self, version: u32) -> Result<bool, Problem> {
        let known = self.versions("If-None-Match", true)?;
        Ok(known.is_some_and(|known| known.has(version)))
    }

    fn versions(&self, header: &str, is_weak: bool) -> Result<Option<Versions>, Problem> {
        let mut texts = Vec::new();
        for value in self.request.headers().get_all(header) {
            texts.push(value.to_str().unwrap_or("\u{fffd}"));
        }
        if texts.is_empty() {
            return Ok(None);
        }
        let text = texts.join(",");
        read(&text, is_weak)
            .map(Some)
            .ok_or_else(|| Problem::unacceptable_header(header, "must be * or the ETag of an earlier answer, such as \"3\""))
    }
}

/// For the API's document: what has an `ETag` takes the conditions.
pub struct Preconditions;

impl Modify for Preconditions {
    fn modify(&self, document: &mut OpenApi) {
        for path in TAGGED {
            let Some(item) = document.paths.paths.get_mut(*path) else {
                continue;
            };
            for operation in [&mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten() {
                let parameters = operation.parameters.get_or_insert_default();
                parameters.push(header(
                    "If-Match",
                    "Changes only this version (`ETag`), or with `*` only what is there; otherwise 412.",
                ));
                parameters.push(header("If-None-Match", "With `*`: creates, and replaces nothing; otherwise 412."));
            }
            if let Some(operation) = &mut item.get {
                let parameters = operation.parameters.get_or_insert_default();
                parameters.push(header(
                    "If-None-Match",
                    "The version that the caller has: 304 without a body if it still is the one.",
                ));
                let unchanged = ResponseBuilder::new().description("It is the version that the caller has.").build();
                operation.responses.responses.insert("304".to_owned(), unchanged.into());
            }
        }
    }
}

/// Paths of what has an `ETag`.
const TAGGED: &[&str] = &[
    "/v1/admin/plans/{id}",
    "/v1/admin/models/{id}",
    "/v1/admin/routing",
    "/v1/admin/billing",
    "/v1/admin/workspaces/{id}",
];

fn header(name: &str, description: &str) -> RefOr<Parameter> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(text))
        .build()
        .into()
}

/// `*`, or tags with commas between. A tag that none of ours can equal is left out; in a strong comparison that is a weak one too.
fn read(text: &str, is_weak: bool) -> Option<Versions> {
    if text.trim() == "*" {
        return Some(Versions::Any);
    }
    let mut versions = Vec::new();
    // Our own tags have no comma; one of somebody else's that has falls into parts, and is refused as misshapen.
    for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
        let (tag, counts) = match tag.strip_prefix("W/") {
            Some(tag) => (tag, is_weak),
            None => (tag, true),
        };
        let opaque = tag.strip_prefix('"')?.strip_suffix('"')?;
        if !opaque.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b)) {
            return None;
        }
        let version = opaque.parse::<u32>().ok().filter(|version| version.to_string() == opaque);
        versions.extend(version.filter(|_| counts));
    }
    Some(Versions::These(versions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_http_has_them() {
        let these = |versions: &[u32]| Some(Versions::These(versions.to_vec()));
        for (text, strong, weak) in [
            ("*", Some(Versions::Any), Some(Versions::Any)),
            (" * ", Some(Versions::Any), Some(Versions::Any)),
            ("\"3\"", these(&[3]), these(&[3])),
            ("\"3\", \"4\"", these(&[3, 4]), these(&[3, 4])),
            ("W/\"3\"", these(&[]), these(&[3])),
            ("W/\"3\",\"4\"", these(&[4]), these(&[3, 4])),
            ("\"abc\"", these(&[]), these(&[])),
            ("\"03\"", these(&[]), these(&[])),
            ("\"+3\"", these(&[]), these(&[])),
            ("\"-1\"", these(&[]), these(&[])),
            ("\"\"", these(&[]), these(&[])),
            ("\"99999999999\"", these(&[]), these(&[])),
            ("3", None, None),
            ("\"3", None, None),
            ("\"", None, None),
            ("*, \"3\"", None, None),
            ("\"a b\"", None, None),
        ] {
            assert_eq!(read(text, false), strong, "{text}, strongly");
            assert_eq!(read(text, true), weak, "{text}, weakly");
        }
    }
}
