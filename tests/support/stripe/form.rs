//! Fields of a form body or a query, flat, with Stripe's brackets in their names: `payload[value]=25`.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let fields = actix_web::web::Query::<Vec<(String, String)>>::from_query(text).ok()?;
        Some(Self(fields.into_inner()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, prefix: &str) -> bool {
        self.0.iter().any(|(field, _)| field.starts_with(prefix))
    }

    /// `metadata[a]=b` as `a: b`.
    pub fn below(&self, name: &str) -> BTreeMap<String, String> {
        let key = |field: &str| field.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']').map(str::to_owned);
        self.0
            .iter()
            .filter_map(|(field, value)| Some((key(field)?, value.clone())))
            .collect()
    }

    /// The same fields in one order, to tell one request from another.
    pub fn sorted(&self) -> Vec<(String, String)> {
        let mut fields = self.0.clone();
        fields.sort();
        fields
    }
}
