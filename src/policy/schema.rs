//! The JSON Schemas of the policy files, for editors and for people who write policies by program. They are committed beside the files.

use super::cases::CasesFile;
use super::document::{BillingDocument, ModelsFile, PlansFile, RoutingDocument};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// The name of each schema and its content.
pub fn schemas() -> [(&'static str, Value); 4] {
    [
        ("models.schema.json", schema::<ModelsFile>("Weir: models.yaml")),
        ("plans.schema.json", schema::<PlansFile>("Weir: plans.yaml")),
        ("routing.schema.json", schema::<RoutingDocument>("Weir: routing.yaml")),
        ("billing.schema.json", schema::<BillingDocument>("Weir: billing.yaml")),
    ]
}

/// The name of the schema of golden cases, below the policies, and its content.
pub fn cases_schema() -> (&'static str, Value) {
    ("tests/cases.schema.json", schema::<CasesFile>("Weir: golden cases of a policy"))
}

fn schema<T: JsonSchema>(title: &str) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

#[cfg(test)]
mod tests;
