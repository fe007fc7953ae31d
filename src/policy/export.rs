//! Writes a policy as the files that an operator would have written: what `weir policy export` gives.
//!
//! Invariant: reading the files again makes the same objects, versions and comments apart.

use super::Policy;
use super::files::Sources;
use super::object::{Kind, ObjectId};
use serde_json::{Map, Value, json};

/// The policy as files.
pub fn export(policy: &Policy) -> Result<Sources, serde_saphyr::SerializeError> {
    let list = |kind: Kind| -> Vec<Value> {
        let objects = policy.objects().filter(|object| object.id.kind == kind);
        objects.map(|object| without_nulls(&object.body)).collect()
    };
    let one = |id: ObjectId| policy.object(&id).map_or(Value::Null, |object| without_nulls(&object.body));
    let routing = match one(ObjectId::routing()) {
        Value::Null => json!({"rules": []}),
        routing => routing,
    };
    let classifier = policy.object(&ObjectId::classifier());
    let classifier = classifier.map(|object| format!("{:#}\n", object.body));
    Ok(Sources {
        models: text(&json!({"default_price": one(ObjectId::default_price()), "models": list(Kind::Model)}))?,
        plans: text(&json!({"default_plan": one(ObjectId::default_plan()), "plans": list(Kind::Plan)}))?,
        routing: text(&routing)?,
        classifier,
        messages: match one(ObjectId::messages()) {
            Value::Null => None,
            messages => Some(text(&messages)?),
        },
        billing: policy
            .object(&ObjectId::billing())
            .map(|object| text(&without_nulls(&object.body)))
            .transpose()?,
    })
}

/// Null says no more than leaving a field out; only the two settings of the files are clearer when they are there.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let said = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                said.map(|(name, value)| (name.clone(), without_nulls(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

fn text(value: &Value) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::files::Files;
    use crate::policy::object::diff;

    #[test]
    fn what_is_exported_is_read_as_the_same_policy() {
        for policy in [Policy::samples(), Policy::default().with(&[]).expect("an empty policy")] {
            let sources = export(&policy).expect("files");
            let files = Files::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
            let known: Vec<_> = policy.objects().cloned().collect();
            let mut changes = diff(&known, &files.objects());
            // An empty policy has neither routing nor a list of what files brought, and files always make both.
            changes.retain(|(id, _)| known.iter().any(|object| object.id == *id));
            assert_eq!(changes, []);
        }
    }
}
