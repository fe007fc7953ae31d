//! Reading traces: CSV with TIMESTAMP, ContextTokens, GeneratedTokens, and JSONL with timestamp (milliseconds), input_length,
//! output_length. A line that is neither is refused with its number.

use serde::Deserialize;
use std::path::Path;

/// The largest trace that is taken into memory: some ten million requests.
const TRACE_BYTES_MAX: u64 = 512 << 20;

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/// One request of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// Since the first request.
    pub at_micros: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
}

#[derive(Deserialize)]
struct CsvLine {
    #[serde(rename = "TIMESTAMP")]
    timestamp: String,
    #[serde(rename = "ContextTokens")]
    context: i64,
    #[serde(rename = "GeneratedTokens")]
    generated: i64,
}

#[derive(Deserialize)]
struct JsonLine {
    timestamp: f64,
    input_length: i64,
    output_length: i64,
}

/// Reads a trace, its format told by its first byte.
pub fn read(path: &Path) -> Result<Vec<Traced>, String> {
    let name = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| format!("{name} cannot be read: {error}"))?
        .len();
    if size > TRACE_BYTES_MAX {
        return Err(format!(
            "{name} has {size} bytes; a trace may have {TRACE_BYTES_MAX}. Cut it into parts."
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let traced = if text.trim_start().starts_with('{') {
        read_jsonl(&text)
    } else {
        read_csv(&text)
    };
    let mut traced = traced.map_err(|(line, why)| format!("{name}:{line}: {why}"))?;
    if traced.is_empty() {
        return Err(format!("{name} has no requests"));
    }
    traced.sort_by_key(|request| request.at_micros);
    let first = traced[0].at_micros;
    traced.iter_mut().for_each(|request| request.at_micros -= first);
    Ok(traced)
}

type Refused = (u64, String);

fn read_csv(text: &str) -> Result<Vec<Traced>, Refused> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let mut traced = Vec::new();
    let names = reader.headers().map_err(|error| (1, error.to_string()))?;
    let missing = COLUMNS.into_iter().find(|column| !names.iter().any(|name| name == *column));
    if let Some(missing) = missing.filter(|_| !text.trim().is_empty()) {
        return Err((1, format!("no column {missing}: the first line names {}", COLUMNS.join(", "))));
    }
    for (index, line) in reader.deserialize::<CsvLine>().enumerate() {
        let number = index as u64 + 2;
        let line = line.map_err(|error| (error.position().map_or(number, csv::Position::line), error.to_string()))?;
        let at = line
            .timestamp
            .parse::<jiff::civil::DateTime>()
            .map_err(|_| (number, format!("{:?} is no date and time", line.timestamp)))?;
        let at = jiff::tz::Offset::UTC
            .to_timestamp(at)
            .map_err(|error| (number, error.to_string()))?;
        traced.push(checked(at.as_microsecond(), line.context, line.generated).map_err(|why| (number, why))?);
    }
    Ok(traced)
}

fn read_jsonl(text: &str) -> Result<Vec<Traced>, Refused> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let one = |(index, line): (usize, &str)| {
        let number = index as u64 + 1;
        let line: JsonLine = serde_json::from_str(line).map_err(|error| (number, error.to_string()))?;
        checked((line.timestamp * 1_000.0) as i64, line.input_length, line.output_length).map_err(|why| (number, why))
    };
    lines.map(one).collect()
}

fn checked(at_micros: i64, input_tokens: i64, output_tokens: i64) -> Result<Traced, String> {
    let fits = |n: i64| (0..=crate::decision::amount::COUNT_MAX).contains(&n);
    if fits(input_tokens) && fits(output_tokens) {
        Ok(Traced {
            at_micros,
            input_tokens,
            output_tokens,
        })
    } else {
        Err(format!(
            "{input_tokens} and {output_tokens} tokens: both must be from 0 to {}",
            crate::decision::amount::COUNT_MAX
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_say_the_same() {
        let expected = vec![
            Traced {
                at_micros: 0,
                input_tokens: 374,
                output_tokens: 44,
            },
            Traced {
                at_micros: 1_500_000,
                input_tokens: 396,
                output_tokens: 109,
            },
        ];
        let relative = |mut traced: Vec<Traced>| {
            let first = traced[0].at_micros;
            traced.iter_mut().for_each(|request| request.at_micros -= first);
            traced
        };
        let csv = "TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-16 18:15:46.5000000,374,44\n2025-11-16 18:15:48.0,396,109\n";
        assert_eq!(read_csv(csv).map(relative), Ok(expected.clone()));
        let jsonl = "{\"timestamp\": 0, \"input_length\": 374, \"output_length\": 44, \"hash_ids\": [1]}\n\n{\"timestamp\": 1500, \"input_length\": 396, \"output_length\": 109}\n";
        assert_eq!(read_jsonl(jsonl), Ok(expected));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [
            (
                "TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-16 18:15:46,374,44\nyesterday,1,2\n",
                3,
            ),
            ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-16 18:15:46,many,44\n", 2),
            ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-16 18:15:46,-1,44\n", 2),
        ] {
            assert_eq!(read_csv(text).expect_err(text).0, line, "{text}");
        }
        assert_eq!(read_jsonl("{\"timestamp\": 0}\n").expect_err("no lengths").0, 1);
    }
}
