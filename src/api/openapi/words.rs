//! One word for one thing: what each field is, its type, bounds, meaning and an example, wherever a field of that name stands. A field
//! that says more about itself keeps what it says.

use serde_json::{Map, Value};
use std::sync::LazyLock;

type Object = Map<String, Value>;

struct Words {
    kinds: Object,
    words: Object,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let mut file: Object = serde_json::from_str(include_str!("words.json")).unwrap_or_default();
    let mut part = |name: &str| match file.remove(name) {
        Some(Value::Object(part)) => part,
        _ => Object::new(),
    };
    Words {
        kinds: part("kinds"),
        words: part("words"),
    }
});

/// The schema of a kind of value.
pub fn kind(name: &str) -> Value {
    WORDS.kinds.get(name).cloned().unwrap_or_default()
}

/// Says of the field or parameter `name` what its schema leaves open.
pub fn describe(name: &str, schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    // What one of its alternatives says of it is said of the member, not only of that one.
    let alternatives = ["oneOf", "anyOf"].iter().filter_map(|key| schema.get(*key)?.as_array());
    let said = alternatives.flatten().find_map(|one| one.get("description")).cloned();
    if let Some(said) = said.filter(|_| !schema.contains_key("description")) {
        schema.insert("description".to_owned(), said);
    }
    let Some(Value::Object(word)) = WORDS.words.get(name) else { return };
    let kind = word
        .get("kind")
        .and_then(Value::as_str)
        .and_then(|kind| WORDS.kinds.get(kind)?.as_object());
    let own = word.iter().filter(|(key, _)| *key != "kind");
    for (key, value) in own.chain(kind.into_iter().flatten()) {
        if key != "type" && !schema.contains_key(key) && belongs(key, schema) {
            schema.insert(key.clone(), value.clone());
        }
    }
}

/// Whether a keyword says anything about values of this schema: one word may stand for an amount here and for a price there.
fn belongs(key: &str, schema: &Object) -> bool {
    let is = |kind: &str| match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    };
    let is_open = !schema.contains_key("enum") && !schema.contains_key("const");
    match key {
        "description" => true,
        "pattern" | "format" => is("string") && is_open && !schema.contains_key("format") && !schema.contains_key("pattern"),
        "minLength" | "maxLength" => is("string") && is_open && !schema.contains_key("format"),
        "minimum" | "maximum" => is("integer") || is("number"),
        "maxItems" => is("array"),
        "example" => fits_example(schema, &is),
        _ => false,
    }
}

fn fits_example(schema: &Object, is: &dyn Fn(&str) -> bool) -> bool {
    let is_plain = is("string") || is("integer") || is("number");
    (is_plain && !schema.contains_key("enum")) || (is("object") && !schema.contains_key("properties"))
}
