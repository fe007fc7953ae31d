//! Requests whose outcome is known, one JSON object a line. Other members than those that are used are passed over: such files come from
//! elsewhere.

use super::super::Failure;
use crate::decision::classifier::features::Features;
use crate::decision::classifier::train::{ROWS_MAX, Row};
use crate::flow::route::attribute;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// One request as it is learned from.
pub(super) struct Labelled {
    pub(super) row: Row,
    pub(super) prompt_bytes: usize,
    pub(super) strong_correct: bool,
}

#[derive(Deserialize)]
struct Line {
    prompt: Option<String>,
    /// Whether the weak model sufficed.
    weak_correct: bool,
    /// Absent: the strong one always does.
    strong_correct: Option<bool>,
    #[serde(default)]
    attributes: Map<String, Value>,
}

pub(super) fn read(path: &Path) -> Result<Vec<Labelled>, Failure> {
    let cannot = |cause: std::io::Error| format!("{} cannot be read: {cause}", path.display());
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(cannot)?);
    let mut rows = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let mut text = String::new();
        let length = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut text).map_err(cannot)?;
        if length == 0 {
            return Ok(rows);
        }
        if text.trim().is_empty() {
            continue;
        }
        if rows.len() >= ROWS_MAX {
            return Err(format!("{} has more than {ROWS_MAX} requests", path.display()).into());
        }
        // The error names a place of the line and never shows what stands there: prompts stay out of terminals and logs.
        let line: Line = serde_json::from_str(&text).map_err(|error| {
            let wanted = "an object with weak_correct, true or false, and prompt or attributes";
            format!("{}:{number}:{}: this is not {wanted}", path.display(), error.column())
        })?;
        if line.prompt.is_none() && line.attributes.is_empty() {
            return Err(format!("{}:{number}: there is neither prompt nor attributes", path.display()).into());
        }
        let attributes = line
            .attributes
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), attribute(value)?)));
        let features = Features::new(line.prompt.as_deref(), attributes);
        rows.push(Labelled {
            row: Row::new(&features, line.weak_correct),
            prompt_bytes: line.prompt.map_or(0, |prompt| prompt.len()),
            strong_correct: line.strong_correct.unwrap_or(true),
        });
    }
}
