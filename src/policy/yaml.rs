//! YAML with the place of everything in it: a file becomes JSON, and each JSON pointer can be traced back to its line and column.
//!
//! Bounded in size, depth, nodes and aliases before anything is built, so that no file can ask for more memory than it is long.
//! Invariant: what is found in an anchor is reported where the anchor stands, not where it is used.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Location, Options, Spanned};
use std::fmt;

/// The longest file.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// How deep a file may nest; policies need nine.
pub const FILE_DEPTH_MAX: usize = 24;
/// The most values in a file, aliases expanded.
pub const FILE_NODES_MAX: usize = 500_000;
/// The most aliases in a file.
pub const FILE_ALIASES_MAX: usize = 1_000;
/// How many values aliases may repeat.
pub const FILE_ALIASED_NODES_MAX: usize = 100_000;

const ONE_DOCUMENT: &str = "a policy file is one document; take the `---` away";

/// A line and a column, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl Place {
    pub const START: Place = Place { line: 1, column: 1 };

    fn of(location: Location) -> Self {
        Self {
            line: location.line().max(1),
            column: location.column().max(1),
        }
    }
}

/// Why a file is no YAML that we read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub place: Place,
    pub detail: String,
}

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    pub place: Place,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    /// With the place of each key.
    Mapping(Vec<(String, Place, Node)>),
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Node, Unreadable> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Unreadable {
            place: Place::START,
            detail: format!("a policy file has at most {FILE_BYTES_MAX} bytes"),
        });
    }
    parse_values(text, FILE_NODES_MAX)
}

fn parse_values(text: &str, nodes_max: usize) -> Result<Node, Unreadable> {
    let root = serde_saphyr::from_str_with_options::<Spanned<Kind>>(text, options(nodes_max));
    root.map(Node::from).map_err(|error| unreadable(&error))
}

fn options(nodes_max: usize) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: FILE_DEPTH_MAX,
            flow_nesting_limit: FILE_DEPTH_MAX,
            max_nodes: nodes_max,
            max_events: 2 * nodes_max,
            max_aliases: FILE_ALIASES_MAX,
            max_anchors: FILE_ALIASES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: FILE_ALIASED_NODES_MAX,
            max_replay_stack_depth: FILE_DEPTH_MAX,
        },
        // Comments are read over: their number is no bound.
        emit_comments: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
    }
}

fn unreadable(error: &Error) -> Unreadable {
    let error = error.without_snippet();
    let detail = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` is here twice"),
        Error::MultipleDocuments { .. } => ONE_DOCUMENT.to_owned(),
        Error::Budget { breach, .. } => too_much(breach),
        error => {
            let text = error.to_string();
            text.split_once(" at line ").map_or(text.clone(), |(detail, _)| detail.to_owned())
        }
    };
    Unreadable {
        place: error.location().map_or(Place::START, Place::of),
        detail,
    }
}

fn too_much(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => format!("a policy file nests at most {FILE_DEPTH_MAX} deep"),
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => format!("a policy file has at most {FILE_ALIASES_MAX} aliases"),
        BudgetBreach::Documents { .. } => ONE_DOCUMENT.to_owned(),
        _ => format!("a policy file has at most {FILE_NODES_MAX} values"),
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            place: Place::of(spanned.defined),
            kind: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Kind, D::Error> {
        Kind::deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element::<Spanned<Kind>>()? {
            items.push(Node::from(item));
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Kind, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = from.next_entry::<Spanned<String>, Spanned<Kind>>()? {
            members.push((key.value, Place::of(key.defined), Node::from(value)));
        }
        Ok(Kind::Mapping(members))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Kind, E> {
        Err(E::custom("policies hold no binary values"))
    }
}

impl Node {
    /// The same as JSON.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Kind::Mapping(members) => {
                let members = members.iter().map(|(key, _, value)| (key.clone(), value.to_value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    /// Where the value stands that `pointer` names, and its key if it has one. A pointer that goes further than the file does names
    /// the last thing on its way, as for a default that nobody wrote.
    pub fn find(&self, pointer: &str) -> (Place, Option<Place>) {
        match self.walk(pointer) {
            Ok((key, node)) => (node.place, key),
            Err(last) => (last.place, None),
        }
    }

    /// The name of the last member of a mapping.
    pub fn last_key(&self) -> Option<&str> {
        match &self.kind {
            Kind::Mapping(members) => members.last().map(|(key, _, _)| key.as_str()),
            _ => None,
        }
    }

    /// The text at `pointer`, if there is one.
    pub fn text_at(&self, pointer: &str) -> Option<&str> {
        match self.walk(pointer) {
            Ok((
                _,
                Node {
                    kind: Kind::Scalar(Value::String(text)),
                    ..
                },
            )) => Some(text),
            _ => None,
        }
    }

    /// The node at `pointer` and the place of its key, or the last node on the way there.
    fn walk(&self, pointer: &str) -> Result<(Option<Place>, &Node), &Node> {
        pointer.split('/').skip(1).try_fold((None, self), |(_, node), segment| {
            let name = segment.replace("~1", "/").replace("~0", "~");
            node.child(&name).ok_or(node)
        })
    }

    /// The first item of a list may have been written without the list around it.
    fn child(&self, name: &str) -> Option<(Option<Place>, &Node)> {
        match &self.kind {
            Kind::Mapping(members) => match members.iter().find(|(key, _, _)| key == name) {
                Some((_, place, value)) => Some((Some(*place), value)),
                None => (name == "0").then_some((None, self)),
            },
            Kind::List(items) => name.parse().ok().and_then(|n: usize| items.get(n)).map(|item| (None, item)),
            Kind::Scalar(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    #[test]
    fn scalars_are_what_json_calls_them() {
        let text = "a: 1\nb: 1.5\nc: true\nd: yes\ne: \"1\"\nf: ~\ng: 2025-09-29\nh: 0x10\ni: [x, {j: k}]\n";
        let value = parse(text).expect("good").to_value();
        let expected =
            json!({"a": 1, "b": 1.5, "c": true, "d": "yes", "e": "1", "f": null, "g": "2025-09-29", "h": 16, "i": ["x", {"j": "k"}]});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_pointer_is_traced_to_its_place() {
        let node = parse("a:\n  - b: 1\n    c/d: 2\n  - e: [x, y]\nf: {tokens: 5}\n").expect("good");
        let at = |line, column| Place { line, column };
        for (pointer, value, key) in [
            ("", at(1, 1), None),
            ("/a", at(2, 3), Some(at(1, 1))),
            ("/a/0", at(2, 5), None),
            ("/a/0/c~1d", at(3, 10), Some(at(3, 5))),
            ("/a/1/e/1", at(4, 12), None),
            ("/a/0/none/deeper", at(2, 5), None),
            ("/a/7", at(2, 3), None),
            ("/f/0/tokens", at(5, 13), Some(at(5, 5))),
        ] {
            assert_eq!(node.find(pointer), (value, key), "{pointer}");
        }
    }

    fn refused(text: &str) -> String {
        let begun = Instant::now();
        let unreadable = parse(text).expect_err("a bomb");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        unreadable.detail
    }

    #[test]
    fn files_made_to_explode_are_refused() {
        let laughs: String = (1..12)
            .map(|n| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 9].join(",")))
            .collect();
        let bombs = [
            format!("l0: &l0 lol\n{laughs}"),
            format!("a: &a [{}]\nb: [{}]\n", "1,".repeat(500), "*a,".repeat(900)),
            format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000)),
            format!("a: {}1{}", "{b: ".repeat(100), "}".repeat(100)),
            (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
            format!("a: [{}]\n", "*b,".repeat(2_000)),
            "&a [*a]".to_owned(),
            format!("a: &x 1\nb: [{}]\n", "*x,".repeat(FILE_ALIASES_MAX + 1)),
            "[".repeat(1_000_000),
            "- ".repeat(1_000_000),
            "? ".repeat(100_000),
        ];
        for bomb in &bombs {
            refused(bomb);
        }
        assert_eq!(refused(&bombs[4]), format!("a policy file nests at most {FILE_DEPTH_MAX} deep"));
        assert_eq!(refused(&bombs[7]), format!("a policy file has at most {FILE_ALIASES_MAX} aliases"));
        let wide = parse_values(&format!("[{}]", "1,".repeat(1_000)), 1_000).expect_err("too many values");
        assert_eq!(wide.detail, format!("a policy file has at most {FILE_NODES_MAX} values"));
        assert!(parse_values(&format!("[{}]", "1,".repeat(999)), 1_000).is_ok());
    }
}
