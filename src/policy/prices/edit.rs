//! Writes imported prices into the text of `models.yaml` and leaves everything else in it as it was: comments, order, ways of writing.
//!
//! Each price and each model is one insertion at a place that the YAML reader told. Invariant: the new text is read back, and is only given
//! out if it says exactly what was meant; an edit that went wrong is an error and no file.

use super::merge::Merge;
use crate::policy::document::{ModelDocument, ModelsFile, PriceDocument};
use crate::policy::read;
use crate::policy::yaml::{self, Node, Place};
use serde_json::Value;
use std::fmt::Write;

/// The text of a file with the changes of `merge`, whose places are those of `models`, the file's list.
pub fn edited(text: &str, models: &[ModelDocument], merge: &Merge) -> Result<String, String> {
    let node = yaml::parse(text).map_err(|unreadable| unreadable.detail)?;
    let lines = Lines::of(text);
    let mut insertions: Vec<(usize, String)> = Vec::new();
    for (place, model) in models.iter().enumerate() {
        let new: Vec<&PriceDocument> = merge
            .changed
            .iter()
            .filter(|change| change.place == place)
            .map(|change| &change.new)
            .collect();
        if !new.is_empty() {
            insertions.push(prices(&node, &lines, place, model, &new)?);
        }
    }
    if !merge.added.is_empty() {
        insertions.push(added(text, &node, &lines, models, &merge.added)?);
    }
    insertions.sort();
    let mut edited = text.to_owned();
    for (at, inserted) in insertions.into_iter().rev() {
        edited.insert_str(at, &inserted);
    }
    check(&edited, &merge.applied(models))?;
    Ok(edited)
}

fn check(text: &str, expected: &[ModelDocument]) -> Result<(), String> {
    const WRONG: &str = "models.yaml is written in a way that cannot be edited without changing more than the prices; \
         `weir policy export` writes one that can";
    let value = yaml::parse(text).map_err(|_| WRONG.to_owned())?.to_value();
    let file: ModelsFile = read::read(&value).map_err(|_| WRONG.to_owned())?;
    let sorted = |models: &[ModelDocument]| -> Vec<Value> {
        let mut models = models.to_vec();
        models
            .iter_mut()
            .for_each(|model| model.prices.sort_by(|a, b| a.effective_from.cmp(&b.effective_from)));
        models.sort_by(|a, b| a.id.cmp(&b.id));
        models.iter().map(|model| serde_json::to_value(model).unwrap_or_default()).collect()
    };
    if sorted(&file.models) == sorted(expected) {
        Ok(())
    } else {
        Err(WRONG.to_owned())
    }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let begins = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self {
            text,
            begins: begins.collect(),
        }
    }

    /// Where in the text a place is, and where its line begins.
    fn at(&self, place: Place) -> (usize, usize) {
        let line = usize::try_from(place.line - 1).unwrap_or(usize::MAX);
        let begin = self.begins.get(line).copied().unwrap_or(self.text.len());
        let column = usize::try_from(place.column - 1).unwrap_or(usize::MAX);
        let rest = &self.text[begin..];
        let offset = rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset);
        (begin + offset, begin)
    }

    /// The indentation of an item of a block list, if what stands before the place on its line is only its dash.
    fn dash(&self, place: Place) -> Option<(usize, &'a str)> {
        let (at, begin) = self.at(place);
        let before = &self.text[begin..at];
        let indentation = before.trim_end_matches(' ').strip_suffix('-')?;
        indentation.bytes().all(|byte| byte == b' ').then_some((begin, indentation))
    }
}

/// New prices stand before those that are there: at the head of the list is where they are looked for.
fn prices(node: &Node, lines: &Lines<'_>, place: usize, model: &ModelDocument, new: &[&PriceDocument]) -> Result<(usize, String), String> {
    let flow: Vec<String> = new.iter().map(|price| flow(price)).collect();
    if model.prices.is_empty() {
        return Err(format!(
            "model {} has no `prices` to add to; write `prices:` with one price first",
            model.id
        ));
    }
    let (first, _) = node.find(&format!("/models/{place}/prices/0"));
    if let Some((begin, indentation)) = lines.dash(first) {
        let items = flow.iter().map(|price| format!("{indentation}- {price}\n"));
        return Ok((begin, items.collect()));
    }
    let (at, _) = lines.at(first);
    Ok((at, format!("{}, ", flow.join(", "))))
}

fn added(text: &str, node: &Node, lines: &Lines<'_>, models: &[ModelDocument], new: &[ModelDocument]) -> Result<(usize, String), String> {
    const NO_LIST: &str = "models.yaml has no list of models that can be added to; write one model by hand first";
    if models.is_empty() {
        return Err(NO_LIST.to_owned());
    }
    let (first, _) = node.find("/models/0");
    let (begin, indentation) = lines.dash(first).ok_or(NO_LIST)?;
    let blocks: String = new.iter().map(|model| block(model, indentation)).collect();
    // At the end, where that is the end of the list; else at its head.
    let is_last = node.last_key() == Some("models") && !text.trim_end().ends_with("...");
    if is_last {
        let gap = if text.ends_with('\n') { "" } else { "\n" };
        return Ok((text.len(), format!("{gap}{blocks}")));
    }
    Ok((begin, blocks))
}

/// A model as an item of the list, its defaults left out.
fn block(model: &ModelDocument, indentation: &str) -> String {
    let mut text = format!("{indentation}- id: {}\n", quoted(model.id.as_str()));
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{indentation}  provider: {}", quoted(model.provider.as_str()));
    let _ = writeln!(text, "{indentation}  tier: {}", quoted(model.tier.as_str()));
    for (name, tokens) in [
        ("max_input_tokens", model.max_input_tokens),
        ("max_output_tokens", model.max_output_tokens),
    ] {
        if tokens.get() < crate::decision::amount::COUNT_MAX {
            let _ = writeln!(text, "{indentation}  {name}: {}", tokens.get());
        }
    }
    let _ = writeln!(text, "{indentation}  prices:");
    for price in &model.prices {
        let _ = writeln!(text, "{indentation}    - {}", flow(price));
    }
    text
}

/// A price on one line, its defaults left out.
fn flow(price: &PriceDocument) -> String {
    value(&serde_json::to_value(price).unwrap_or_default())
}

fn value(json: &Value) -> String {
    let is_said = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    };
    match json {
        Value::Object(members) => {
            // A request costs nothing by itself, unless it is said to.
            let is_default = |name: &str, member: &Value| name == "request" && member.as_str().is_some_and(|fee| usd(fee) == "0");
            let members = members.iter().filter(|(name, member)| is_said(member) && !is_default(name, member));
            let members: Vec<String> = members.map(|(name, member)| format!("{name}: {}", value(member))).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(", ")),
        Value::String(text) => quoted(&usd(text)),
        other => other.to_string(),
    }
}

/// `0.300000000` is `0.3`.
fn usd(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, decimals)) if decimals.len() == 9 && (whole.to_owned() + decimals).bytes().all(|byte| byte.is_ascii_digit()) => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text.to_owned(),
    }
}

/// As JSON writes it, which YAML reads.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
